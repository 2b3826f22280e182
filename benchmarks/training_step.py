"""The step's part of training.py: time and peak memory of a training step, CCNet with ResNet-101.

A step is what `ccnet train` does with a batch: normalise, forward with the auxiliary head, loss,
backward, the gradient's norm, SGD. *plain* is the same network as it is usually written: contiguous
layout, attention by permuted copies and batched products, torch's cross-entropy, no norm. Forms run
in turns; a form whose loss or gradients are further from the truth than the plain one's isn't
timed.

python benchmarks/training_step.py FORM CROP DEVICE    # peaks of this process, in bytes
"""

import argparse
import ctypes
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import cast

import torch
import torch.nn.functional as F
from attention import KEEP_MEMORY, mib, timed
from attention_forms import plain_recurrence
from attention_memory import resident
from torch import Tensor
from torch.optim import Optimizer
from training_loader import summary

from ccnet import CCNet
from ccnet.classes import IGNORE_INDEX
from ccnet.config import OptimizerConfig
from ccnet.losses import SegmentationLoss
from ccnet.runtime import engine
from ccnet.training.assembly import build_optimizer, recompute_parts

NUM_CLASSES = 19
AUXILIARY_WEIGHT = 0.4
PARTS = tuple(f"backbone.layer{i}" for i in range(1, 5))
PARTS += ("head.reduction", "head.attention", "head.smoothing", "head.fusion", "auxiliary_head")
SMALL = 97
"""Crop of the check against float64."""
ROUNDINGS = 4
"""That loss and gradient may be off, beside twice the plain form's error."""


@dataclass(frozen=True)
class Form:
    """How a step is run."""

    plain: bool = False
    precision: str = "float32"
    recomputed: bool = False
    channels_last: bool = True

    @property
    def yardsticks(self) -> "list[Form]":
        """The plain form in the same precision, in both layouts.

        torch's own float32 normalisation rounds ten times worse in channels-last, its convolutions
        four times; and which activations near 0 a rounding moves over it is luck.
        """
        return [Form(True, self.precision, channels_last=layout) for layout in (False, True)]


FORMS = {
    "plain float32": Form(plain=True, channels_last=False),
    "plain float32, channels-last": Form(plain=True),
    "ours float32": Form(),
    "ours float32, recomputed": Form(recomputed=True),
    "plain bfloat16": Form(plain=True, precision="bfloat16", channels_last=False),
    "ours bfloat16": Form(precision="bfloat16"),
    "ours bfloat16, recomputed": Form(precision="bfloat16", recomputed=True),
}
BASELINE = "plain float32"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="of the steps")
    parser.add_argument("--crops", type=int, nargs="+", default=[321], help="sides, of the steps")
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--step-turns", type=int, default=5)


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Rows of each crop: peaks in processes of their own, then times in turns."""
    torch.set_num_threads(os.cpu_count() or 1)
    forms = [BASELINE, *(form for form in arguments.forms if form != BASELINE)]
    common: dict[str, object] = {"threads": torch.get_num_threads()}
    if arguments.device == "cuda":
        common["processor"] = torch.cuda.get_device_name()
    ratios = errors_of_small(forms, arguments.device)
    for crop in arguments.crops:
        common["input"] = f"1x3x{crop}x{crop}"
        for form in forms:
            for quantity, size in peaks(form, crop, arguments.device).items():
                yield {**common, "form": form, "quantity": quantity, "value": mib(size)}
        for form, times in times_in_turns(forms, crop, arguments).items():
            done = {**common, "form": form, "turns": len(times)}
            yield {**done, "quantity": "seconds", **summary([ours for _, ours in times])}
            gains = [plain / ours for plain, ours in times]
            yield {**done, "quantity": "times as fast as plain float32", **summary(gains)}
            yield {**done, "quantity": "error over plain's", "value": f"{ratios[form]:.2f}"}


class Step:
    """A network and its optimizer in one form.

    The network is the authors' but for a bias that batch normalisation takes away again. γ is ½, so
    that all of the attention has gradients, and a residual block adds a fifth: as initialised, 33
    blocks magnify a rounding until no bfloat16 gradient has a digit in common with the exact one.
    """

    def __init__(self, form: Form, device: str, dtype: torch.dtype = torch.float32) -> None:
        torch.manual_seed(0)
        model = CCNet(
            NUM_CLASSES,
            "resnet101",
            stem="deep_64",
            dilation="uniform",
            ceil_mode=True,
            activation="leaky_relu",
            auxiliary_channels=512,
            align_corners=True,
        )
        attention = model.head.attention
        with torch.no_grad():
            attention.attention(0).gamma.fill_(0.5)
            for name, parameter in model.named_parameters():
                if name.endswith("bn3.weight"):
                    parameter.fill_(0.2)
        if form.plain:
            attention.forward = partial(plain_recurrence, attention)
        if form.recomputed:
            recompute_parts(model, PARTS)
        self.form = form
        self.layout = torch.channels_last if form.channels_last else torch.contiguous_format
        self.model = model.to(device, dtype).to(memory_format=self.layout)  # pyright: ignore[reportCallIssue]
        self.fabric = engine.start(device, precision=form.precision).fabric
        self.network = self.fabric.setup_module(self.model.train())
        # a rate so small that every turn has the same network
        optimizer = build_optimizer(OptimizerConfig(lr=1e-9), self.model)
        self.optimizer = cast(Optimizer, self.fabric.setup_optimizers(optimizer))
        self.criterion = plain_loss if form.plain else SegmentationLoss(AUXILIARY_WEIGHT)

    def backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """The loss, whose gradients are then the parameters'."""
        images = self.model.normalize(images).contiguous(memory_format=self.layout)
        loss = self.criterion(self.network(images, auxiliary=True), labels)
        self.fabric.backward(loss)
        return loss.detach()

    def __call__(self, images: Tensor, labels: Tensor) -> float:
        loss = self.backward(images, labels)
        if not self.form.plain:
            self.fabric.clip_gradients(
                self.network, self.optimizer, max_norm=math.inf, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.item()

    def results(self, images: Tensor, labels: Tensor) -> dict[str, Tensor]:
        """The loss, and each stage's gradient as one vector; all in float64."""
        torch.manual_seed(1)  # dropout's
        results = {"loss": self.backward(images, labels).double().reshape(1)}
        stages: dict[str, list[Tensor]] = {}
        for name, parameter in self.model.named_parameters():
            assert parameter.grad is not None
            stage = ".".join(name.split(".")[:2])
            stages.setdefault(stage, []).append(parameter.grad.double().flatten())
        self.optimizer.zero_grad()
        return results | {stage: torch.cat(parts) for stage, parts in stages.items()}


def plain_loss(logits: tuple[Tensor, ...], labels: Tensor) -> Tensor:
    main, other = (F.cross_entropy(x, labels, ignore_index=IGNORE_INDEX) for x in logits)
    return main + AUXILIARY_WEIGHT * other


def batch(crop: int, device: str) -> tuple[Tensor, Tensor]:
    """One image of noise, and labels in blocks, of which some are ignored."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, 3, crop, crop), generator=generator, dtype=torch.uint8)
    cells = math.ceil(crop / 16)
    labels = torch.randint(0, NUM_CLASSES + 1, (1, cells, cells), generator=generator)
    labels[labels == NUM_CLASSES] = IGNORE_INDEX
    labels = labels.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :crop, :crop].contiguous()
    return images.to(device), labels.to(device)


def errors_of_small(forms: list[str], device: str) -> dict[str, float]:
    """Error of each form's gradients over the plain form's in its precision, against float64.

    Raises RuntimeError for a form that `check` refuses.
    """
    given = batch(SMALL, device)
    exact = Step(FORMS[BASELINE], device, torch.float64).results(*given)
    errors = checked(forms, {}, given, device, exact)
    plain = {name: errors[FORMS[name].yardsticks[0]] for name in forms}
    return {name: errors[FORMS[name]]["gradient"] / plain[name]["gradient"] for name in forms}


def checked(
    forms: list[str],
    steps: dict[Form, Step],
    given: tuple[Tensor, Tensor],
    device: str,
    wanted: dict[str, Tensor],
) -> dict[Form, dict[str, float]]:
    """Errors of the forms and of their yardsticks; those not in `steps` are made and left.

    Raises RuntimeError for a form with more than twice its yardsticks' error and a rounding.
    """
    errors: dict[Form, dict[str, float]] = {}
    for name in forms:
        form = FORMS[name]
        for each in (form, *form.yardsticks):
            if each not in errors:
                step = steps.get(each) or Step(each, device)
                errors[each] = differences(step.results(*given), wanted)
        rounding = torch.finfo(getattr(torch, form.precision)).eps
        for what, error in errors[form].items():
            plain = max(errors[yardstick][what] for yardstick in form.yardsticks)
            allowed = 2 * plain + ROUNDINGS * rounding
            if not error <= allowed:
                raise RuntimeError(
                    f"not timed: {name}, {what}: {error:.2g} off, {allowed:.2g} allowed"
                )
    return errors


def differences(got: dict[str, Tensor], wanted: dict[str, Tensor]) -> dict[str, float]:
    """‖got − wanted‖ / ‖wanted‖ of the loss, and of the gradient the root mean square of stages."""
    relative = {
        what: ((got[what] - vector).norm() / vector.norm()).item()
        for what, vector in wanted.items()
    }
    loss = relative.pop("loss")
    return {"loss": loss, "gradient": math.hypot(*relative.values()) / len(relative) ** 0.5}


def times_in_turns(
    forms: list[str], crop: int, arguments: argparse.Namespace
) -> dict[str, list[tuple[float, float]]]:
    """Seconds of the plain float32 form and of each form, turn by turn.

    Raises RuntimeError where a form's results at this crop aren't the plain float32 form's.
    """
    device = arguments.device
    given = batch(crop, device)
    steps = {form: Step(FORMS[form], device) for form in forms}
    wanted = steps[BASELINE].results(*given)
    checked(forms, {step.form: step for step in steps.values()}, given, device, wanted)
    del wanted
    for step in steps.values():
        step(*given)  # makes the momenta
    times: dict[str, list[tuple[float, float]]] = {form: [] for form in forms}
    for _ in range(arguments.step_turns):
        turn = {form: timed(partial(step, *given), device) for form, step in steps.items()}
        for form, seconds in turn.items():
            times[form].append((turn[BASELINE], seconds))
    return times


def peaks(form: str, crop: int, device: str) -> dict[str, int]:
    """Peak bytes of a step in a fresh process: with all that stays, and beside it.

    With the C library's own way of giving memory back, as users have it.
    """
    environment = {key: value for key, value in os.environ.items() if key not in KEEP_MEMORY}
    command = [sys.executable, __file__, form, str(crop), device]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    whole, added = map(int, result.stdout.split()[-2:])
    return {"peak MiB with weights, momenta": whole, "peak MiB that a step adds": added}


def main() -> None:
    form, crop, device = FORMS[sys.argv[1]], int(sys.argv[2]), sys.argv[3]
    if device == "cuda":
        step = Step(form, device)
        step(*batch(65, device))
        given = batch(crop, device)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step(*given)
        peak = torch.cuda.max_memory_allocated()
        print(peak, peak - before)
        return
    warm_up = torch.nn.Conv2d(3, 3, 3)(torch.zeros(1, 3, 9, 9)).sum()  # loads libraries
    warm_up.backward()
    start = resident("VmRSS")
    step = Step(form, device)
    step(*batch(65, device))  # makes the momenta
    given = batch(crop, device)
    ctypes.CDLL(None).malloc_trim(0)  # what the small step has freed is no part of the baseline
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    step(*given)
    peak = resident("VmHWM")
    print(peak - start, peak - before)


if __name__ == "__main__":
    main()
