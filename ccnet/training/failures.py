"""Errors of a training step, explained: losses that are not finite, and lack of memory."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from ccnet.config import TrainConfig
from ccnet.runtime.processes import (
    num_processes,
    objects_of_processes,
    rank,
    sum_over_processes,
)
from ccnet.training.samples import TrainingBatches
from ccnet.training.state import gather_full_state


def describe_failure(
    step: int,
    loss: Tensor,
    norm: Tensor,
    losses: Sequence[Tensor],
    batches: TrainingBatches,
    name_of: Callable[[int], str],
    model: nn.Module,
) -> str:
    """Describe a step whose loss or gradient is not finite; all processes have to call it.

    The text names the files of the parts whose loss is not finite; all files of the step if the
    loss of every part is finite.

    Args:
        step: its number, from 0.
        loss: of the step.
        norm: of its gradient.
        losses: of this process's parts.
        batches: tell which samples were in the parts.
        name_of: the file name of a sample, from its index.
        model: whose weights' norm is part of the text.
    """
    parts = batches.parts_of(step)
    bad = [index for index, part in enumerate(losses) if not part.isfinite()]
    here = [name_of(index) for part in bad for _, index in parts[part]]
    files = [name for names in objects_of_processes(here) for name in names]
    if not files:
        everywhere = objects_of_processes([name_of(index) for part in parts for _, index in part])
        files = [name for names in everywhere for name in names]
    weights = gather_full_state(nn.utils.get_total_norm([p.detach() for p in model.parameters()]))
    return (
        f"the loss is {loss.item():.6g} at step {step}, the gradient's norm {norm.item():.6g}, "
        f"the weights' {weights.item():.6g}; its files: {', '.join(files)}. A lower optimizer.lr, "
        "optimizer.clip_norm or precision=float32 may help"
    )


def require_finite(model: nn.Module, step: int) -> None:
    """Raise FloatingPointError if a weight or a statistic is infinite or nan in any process.

    All processes have to call it.
    """
    tensors = {
        name: value.to_local() if isinstance(value, DTensor) else value.detach()
        for name, value in model.state_dict().items()
        if value.is_floating_point()
    }
    is_finite = torch.stack([value.isfinite().all() for value in tensors.values()])
    num_bad = sum_over_processes((~is_finite).sum())
    if num_bad:
        names = [name for name, good in zip(tensors, is_finite.tolist(), strict=True) if not good]
        raise FloatingPointError(
            f"after step {step} the network is not finite ({', '.join(names[:3]) or 'elsewhere'}"
            f"{', ...' if len(names) > 3 else ''}), so it is not saved; a lower optimizer.lr, "
            "optimizer.clip_norm or precision=float32 may help"
        )


@contextmanager
def requiring_finite_output(model: nn.Module, step: int) -> Iterator[None]:
    """Inside the block the network is called, and some of its outputs must be finite.

    Finite weights may still overflow in a forward pass. All processes have to enter the block.

    Raises:
        FloatingPointError: no output of any process is finite.
    """
    counts = torch.zeros(2, device=next(model.parameters()).device)  # of all, of finite ones

    def count(_: nn.Module, __: object, logits: Tensor) -> None:
        counts[0] += 1
        counts[1] += logits.isfinite().all()

    hook = model.register_forward_hook(count)
    try:
        yield
    finally:
        hook.remove()
    num_outputs, num_finite = sum_over_processes(counts).tolist()
    if num_outputs and not num_finite:
        raise FloatingPointError(
            f"after step {step} the network gives nothing that is finite, so it is not written; "
            "a lower optimizer.lr, optimizer.clip_norm or precision=float32 may help"
        )
    if num_finite < num_outputs and rank() == 0:
        bad = int(num_outputs - num_finite)
        print(f"warning: {bad} outputs of the validation are not finite", file=sys.stderr)


@contextmanager
def explaining_out_of_memory(config: TrainConfig) -> Iterator[None]:
    """Turn the error of an allocation that failed into a MemoryError that says what takes less."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
        signs = ("not enough memory", "can't allocate memory", "out of memory")  # CPU, CPU, MPS
        is_known = isinstance(error, (torch.OutOfMemoryError, MemoryError))
        if not is_known and not any(sign in str(error) for sign in signs):
            raise
        tried = (str(error) or type(error).__name__).splitlines()[0]
        crop = getattr(config.data.augment, "crop_size", None) or "whole images"
        raise MemoryError(
            f"out of memory with crops of {crop}, batch_size {config.batch_size} on "
            f"{num_processes()} devices in {config.accumulate} parts: smaller "
            "data.augment.crop_size or batch_size, a larger accumulate, or recompute "
            "(activation checkpointing, such as [backbone.layer3, head]) takes less, and so does "
            f"precision=bfloat16. What was tried: {tried}"
        ) from error
