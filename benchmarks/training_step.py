"""The part "step" of training.py: time and peak memory of a training step of CCNet, ResNet-101.

A step is what `ccnet train` does with a batch: normalization, forward pass with the auxiliary head,
loss, backward pass, norm of the gradient, SGD. *plain* is the same network as it is usually
written: contiguous memory layout, attention by permuted copies and batched products, PyTorch's
cross-entropy, no norm of the gradient. The forms run alternately. A form is not timed if the error
of its loss or its gradients is more than twice that of the plain form and a few roundings.

    python benchmarks/training_step.py FORM CROP DEVICE

prints two peaks of this process in bytes: the whole peak, and the part that the step adds.
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
"""Side in pixels of the crop on which the forms are compared with float64."""
ALLOWED_ROUNDINGS = 4
"""Roundings of the dtype that the error may have, in addition to twice that of the plain form."""


@dataclass(frozen=True)
class Form:
    """How a step is computed."""

    plain: bool = False
    precision: str = "float32"
    recomputed: bool = False
    channels_last: bool = True

    @property
    def plain_forms(self) -> "list[Form]":
        """The plain form in the same precision, in both memory layouts.

        Both are needed: in channels-last layout, PyTorch's own float32 batch normalization has ten
        times larger rounding errors and its convolutions have four times larger ones. Which
        activations near 0 change their sign by a rounding is a matter of chance.
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
FORM_NAMES = ", ".join(f'"{name}"' for name in FORMS)
BASELINE = "plain float32"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("step")
    group.add_argument(
        "--device", choices=("cpu", "cuda"), default="cpu", help="where the steps run"
    )
    group.add_argument(
        "--crops", type=int, nargs="+", default=[321], help="sides of the crops in pixels"
    )
    group.add_argument(
        "--forms",
        nargs="+",
        choices=FORMS,
        default=list(FORMS),
        metavar="FORM",
        help=f"forms to measure: {FORM_NAMES}",
    )
    group.add_argument(
        "--step-turns", type=int, default=5, help="how many steps of each form are timed"
    )


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Rows of each crop: peaks, each in a process of its own, then times of alternate steps."""
    torch.set_num_threads(os.cpu_count() or 1)
    forms = [BASELINE, *(form for form in arguments.forms if form != BASELINE)]
    common: dict[str, object] = {"threads": torch.get_num_threads()}
    if arguments.device == "cuda":
        common["processor"] = torch.cuda.get_device_name()
    ratios = errors_on_small_crop(forms, arguments.device)
    for crop in arguments.crops:
        common["input"] = f"1x3x{crop}x{crop}"
        for form in forms:
            for quantity, size in peaks(form, crop, arguments.device).items():
                yield {**common, "form": form, "quantity": quantity, "value": mib(size)}
        for form, times in time_alternately(forms, crop, arguments).items():
            done = {**common, "form": form, "turns": len(times)}
            yield {**done, "quantity": "seconds", **summary([ours for _, ours in times])}
            gains = [plain / ours for plain, ours in times]
            yield {**done, "quantity": "times as fast as plain float32", **summary(gains)}
            yield {**done, "quantity": "error over plain's", "value": f"{ratios[form]:.2f}"}


class Step:
    """A network and its optimizer in one form.

    The network is the authors', except for a bias that batch normalization cancels. γ is ½, so that
    all parameters of the attention have gradients. Each residual branch is scaled by 0.2: with the
    usual initialization the 33 blocks amplify rounding errors until no bfloat16 gradient has a
    digit in common with the exact one.
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
        # so small a learning rate that the network stays the same in all turns
        optimizer = build_optimizer(OptimizerConfig(lr=1e-9), self.model)
        self.optimizer = cast(Optimizer, self.fabric.setup_optimizers(optimizer))
        self.criterion = plain_loss if form.plain else SegmentationLoss(AUXILIARY_WEIGHT)

    def backward(self, images: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss and add its gradients to those of the parameters."""
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
        """The loss, and the gradient of each stage as one vector; all in float64."""
        torch.manual_seed(1)  # the same dropout for all forms
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
    """One image of noise, and labels in blocks of 16×16 pixels, some of which are ignored."""
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (1, 3, crop, crop), generator=generator, dtype=torch.uint8)
    cells = math.ceil(crop / 16)
    labels = torch.randint(0, NUM_CLASSES + 1, (1, cells, cells), generator=generator)
    labels[labels == NUM_CLASSES] = IGNORE_INDEX
    labels = labels.repeat_interleave(16, 1).repeat_interleave(16, 2)[:, :crop, :crop].contiguous()
    return images.to(device), labels.to(device)


def errors_on_small_crop(forms: list[str], device: str) -> dict[str, float]:
    """Error of the gradients of each form, divided by that of the plain form in its precision.

    The errors are relative to float64. Raises RuntimeError for a form that `checked_errors`
    refuses.
    """
    samples = batch(SMALL, device)
    exact = Step(FORMS[BASELINE], device, torch.float64).results(*samples)
    errors = checked_errors(forms, {}, samples, device, exact)
    plain = {name: errors[FORMS[name].plain_forms[0]] for name in forms}
    return {name: errors[FORMS[name]]["gradient"] / plain[name]["gradient"] for name in forms}


def checked_errors(
    forms: list[str],
    steps: dict[Form, Step],
    samples: tuple[Tensor, Tensor],
    device: str,
    expected: dict[str, Tensor],
) -> dict[Form, dict[str, float]]:
    """Errors of the forms and of their plain forms.

    Args:
        steps: steps that exist already; for other forms a step is made and freed again.

    Raises:
        RuntimeError: a form has more than twice the error of its plain forms and a few roundings.
    """
    errors: dict[Form, dict[str, float]] = {}
    for name in forms:
        form = FORMS[name]
        for each in (form, *form.plain_forms):
            if each not in errors:
                step = steps.get(each) or Step(each, device)
                errors[each] = relative_errors(step.results(*samples), expected)
        rounding = torch.finfo(getattr(torch, form.precision)).eps
        for quantity, error in errors[form].items():
            plain = max(errors[plain_form][quantity] for plain_form in form.plain_forms)
            allowed = 2 * plain + ALLOWED_ROUNDINGS * rounding
            if not error <= allowed:
                raise RuntimeError(
                    f"not timed: the {quantity} of {name} has a relative error of {error:.2g}; "
                    f"{allowed:.2g} is allowed"
                )
    return errors


def relative_errors(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, float]:
    """‖found − expected‖ / ‖expected‖ of the loss and of the gradient.

    That of the gradient is the root mean square over the stages of the network.
    """
    relative = {
        name: ((found[name] - vector).norm() / vector.norm()).item()
        for name, vector in expected.items()
    }
    loss = relative.pop("loss")
    return {"loss": loss, "gradient": math.hypot(*relative.values()) / len(relative) ** 0.5}


def time_alternately(
    forms: list[str], crop: int, arguments: argparse.Namespace
) -> dict[str, list[tuple[float, float]]]:
    """For each form, pairs of the seconds of the plain float32 form and of this form in each turn.

    Raises RuntimeError if the results of a form differ from those of the plain float32 form.
    """
    device = arguments.device
    samples = batch(crop, device)
    steps = {form: Step(FORMS[form], device) for form in forms}
    expected = steps[BASELINE].results(*samples)
    checked_errors(forms, {step.form: step for step in steps.values()}, samples, device, expected)
    del expected
    for step in steps.values():
        step(*samples)  # allocates the momenta
    times: dict[str, list[tuple[float, float]]] = {form: [] for form in forms}
    for _ in range(arguments.step_turns):
        turn = {form: timed(partial(step, *samples), device) for form, step in steps.items()}
        for form, seconds in turn.items():
            times[form].append((turn[BASELINE], seconds))
    return times


def peaks(form: str, crop: int, device: str) -> dict[str, int]:
    """Peak bytes of a step in a new process: the whole peak, and the part that the step adds.

    The C library has its default settings for returning memory, as it does for users.
    """
    environment = {key: value for key, value in os.environ.items() if key not in KEEP_MEMORY}
    command = [sys.executable, __file__, form, str(crop), device]
    result = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    whole, added = map(int, result.stdout.split()[-2:])
    return {"peak MiB with weights, momenta": whole, "peak MiB that a step adds": added}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("form", choices=FORMS, metavar="form", help=f"one of {FORM_NAMES}")
    parser.add_argument("crop", type=int, help="side of the crop in pixels")
    parser.add_argument("device", choices=("cpu", "cuda"), help="where the step runs")
    arguments = parser.parse_args()
    form, crop, device = FORMS[arguments.form], arguments.crop, arguments.device
    if device == "cuda":
        step = Step(form, device)
        step(*batch(65, device))
        samples = batch(crop, device)
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step(*samples)
        peak = torch.cuda.max_memory_allocated()
        print(peak, peak - before)
        return
    warm_up = torch.nn.Conv2d(3, 3, 3)(torch.zeros(1, 3, 9, 9)).sum()  # loads the libraries
    warm_up.backward()
    start = resident("VmRSS")
    step = Step(form, device)
    step(*batch(65, device))  # allocates the momenta
    samples = batch(crop, device)
    ctypes.CDLL(None).malloc_trim(0)  # so that `before` does not include what the small step freed
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to the present value
    before = resident("VmRSS")
    step(*samples)
    peak = resident("VmHWM")
    print(peak - start, peak - before)


if __name__ == "__main__":
    main()
