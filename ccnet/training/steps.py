"""The pieces of a training step: reading, a forward pass, the gradient, and the verdict on it."""

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from enum import Enum, auto
from traceback import clear_frames

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import LRScheduler

from ccnet.losses import Divisors
from ccnet.models.ccnet import CCNet
from ccnet.runtime.processes import num_processes, rank, sum_over_processes
from ccnet.training.failures import describe_failure
from ccnet.training.run import Run
from ccnet.training.state import gather_full_state

Part = tuple[Tensor, Tensor]
"""uint8 images (b, 3, h, w) and their labels (b, h, w): what a process learns from at once."""

MOST_SKIPPED_IN_A_ROW = 20  # float16's first loss scale, 2¹⁶, is then 2⁻⁴


def read_step(
    batches: Iterator[Part], num_parts: int
) -> tuple[list[Part], float, Exception | None]:
    """This process's parts of a step, the seconds spent waiting for them, and an error if any."""
    start = time.monotonic()
    try:
        return [next(batches) for _ in range(num_parts)], time.monotonic() - start, None
    except Exception as error:  # whatever a data set or a user's transform may raise
        # its frames refer to the loader, whose workers would keep this process from ending
        clear_frames(error.__traceback__)
        return [], time.monotonic() - start, error


def save_or_stop(run: Run, *, stop_requested: bool, error: Exception | None) -> None:
    """Save if any process has a reason to, and stop in all processes if one has to.

    Raises:
        KeyboardInterrupt: a process was asked to stop.
        Exception: `error`; in the other processes ConnectionError.
    """
    reasons = (stop_requested, run.save_is_due(), error is not None)
    stops, saves, fails = in_any_process(reasons, run.fabric.device)
    if (stops or saves or fails) and run.state.step > run.saved_step:
        run.save()
    if (stops or fails) and num_processes() > 1:
        run.fabric.barrier()  # no process leaves while the first one still writes
    if fails:
        raise error or ConnectionError("another process failed; its error is above")
    if stops:
        raise KeyboardInterrupt


def in_any_process(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """For each flag, whether it is set in any process."""
    if num_processes() == 1:
        return list(flags)
    counts = sum_over_processes(torch.tensor(flags, dtype=torch.float32, device=device))
    return [count > 0 for count in counts.tolist()]


def forward_part(run: Run, images: Tensor, index: int) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """The logits, main and auxiliary, of the images of the step's part `index`.

    And the embedding of the network, if the loss takes it.

    Dropout's random numbers follow from the seed, the step, the part and the process, so a second
    pass over the same part gives the same logits.
    """
    seed_part(run.config.seed, run.state.step, index)
    images = run.model.normalize(images).contiguous(memory_format=run.layout)
    if not run.criterion.needs_embedding:
        return run.network(images, auxiliary=True), None
    *logits, embedding = run.network(images, auxiliary=True, embedding=True)
    return tuple(logits), embedding


def seed_part(seed: int, step: int, part: int) -> None:
    entropy = np.random.SeedSequence((seed, step, part, rank()))
    torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))


def divisors_of_step(run: Run, parts: Sequence[Part]) -> Divisors | None:
    """What the loss of a step in several parts is divided by; None if there is only one part.

    OHEM ranks the pixels of all parts, and other losses are no sums over pixels. They take a
    forward pass over all parts first, which leaves the statistics of batch normalization as they
    are.
    """
    criterion = run.criterion
    if len(parts) == 1:
        return None
    if not criterion.needs_outputs:
        return criterion.divisors([criterion.survey(labels) for _, labels in parts])
    buffers, surveys = copy_buffers(run.model), []
    with torch.no_grad():
        for index, (images, labels) in enumerate(parts):
            logits, embedding = forward_part(run, images, index)
            surveys.append(criterion.survey(labels, logits[0], embedding))
    restore_buffers(run.model, buffers)
    return criterion.divisors(surveys)


def gradient_exchange(run: Run, *, is_last: bool) -> AbstractContextManager[None]:
    """Around a backward pass: gradients are averaged over the processes with the last part only."""
    if num_processes() == 1:
        return nullcontext()
    return run.fabric.no_backward_sync(run.network, enabled=not is_last)


def mean_loss(losses: Sequence[Tensor]) -> Tensor:
    """The loss of the step, the same in all processes, from those of this process's parts."""
    return sum_over_processes(torch.stack(list(losses)).sum()) / num_processes()


def clip_gradient(run: Run) -> Tensor:
    """Limit the gradient's norm to `optimizer.clip_norm`; returns the norm before that."""
    limit = run.config.optimizer.clip_norm
    if limit is None and run.scaler is None:  # with a scaler Fabric has to unscale it first
        gradients = [p.grad for p in run.network.parameters() if p.grad is not None]
        return gather_full_state(nn.utils.get_total_norm(gradients))
    norm = run.fabric.clip_gradients(
        run.network,
        run.optimizer,
        max_norm=math.inf if limit is None else limit,
        error_if_nonfinite=False,
    )
    assert norm is not None
    return gather_full_state(norm)


class Verdict(Enum):
    """What becomes of a step."""

    LEARN = auto()
    HALVE_SCALE = auto()
    """The gradient overflows float16: leave the step out and halve the loss scale."""
    LEAVE_OUT = auto()
    """Loss or gradient is not finite: leave the step out."""
    STOP = auto()
    """Loss or gradient is not finite, and the run ends."""


def judge(
    loss: Tensor, norm: Tensor, *, has_scaler: bool, may_leave_out: bool, num_skipped: int
) -> Verdict:
    """Decide what becomes of a step by its loss and the norm of its gradient.

    Args:
        has_scaler: the loss is scaled (float16). A scale that is too large shows in the norm alone.
        may_leave_out: the configuration allows to leave out steps that are not finite.
        num_skipped: number of steps left out immediately before this one; at most
            `MOST_SKIPPED_IN_A_ROW` - 1 may be.
    """
    if loss.isfinite() and norm.isfinite():
        return Verdict.LEARN
    overflows = has_scaler and bool(loss.isfinite())
    if num_skipped + 1 == MOST_SKIPPED_IN_A_ROW or not (overflows or may_leave_out):
        return Verdict.STOP
    return Verdict.HALVE_SCALE if overflows else Verdict.LEAVE_OUT


def learn(run: Run) -> None:
    """Take the optimizer's step, and let the moving average follow."""
    run.optimizer.step()
    run.state.skipped_in_a_row = 0
    if run.average is not None:
        run.average.update_parameters(run.model)


def leave_out(
    run: Run,
    verdict: Verdict,
    loss: Tensor,
    norm: Tensor,
    losses: Sequence[Tensor],
    buffers: Sequence[Tensor],
) -> None:
    """Take back what a step that is not learned from has changed, and say why.

    Args:
        losses: of this process's parts.
        buffers: the model's, from before the step.

    Raises:
        FloatingPointError: the verdict is to stop.
    """
    step = run.state.step
    run.state.skipped_in_a_row += 1
    restore_buffers(run.model, buffers)
    if verdict is Verdict.HALVE_SCALE:
        run.optimizer.step()  # in which the scaler changes its scale and no weight
        report = f"step {step} overflows float16, whose loss scale is halved"
    else:
        if run.scaler is not None:
            run.scaler.update()  # otherwise it refuses to unscale the next gradient
        report = describe_failure(step, loss, norm, losses, run.batches, run.data.name, run.model)
    if verdict is Verdict.STOP:
        raise FloatingPointError(f"{report}\nthe last save in {run.folder.path} is kept")
    run.progress.print_line(f"left out: {report}")


def copy_buffers(model: CCNet) -> list[Tensor]:
    return [buffer.clone() for buffer in model.buffers()]


@torch.no_grad()
def restore_buffers(model: CCNet, buffers: Sequence[Tensor]) -> None:
    for buffer, value in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(value)


def step_scheduler(scheduler: LRScheduler) -> None:
    with warnings.catch_warnings():  # if the first step was left out, torch sees a wrong order
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        scheduler.step()
