"""The processes of a run, one a device: what they add up and hand around.

Plain `torch.distributed`, whoever started it (`ccnet --devices`, torchrun, SLURM, Lightning's
Trainer); with one process nothing is sent.
"""

import gc
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")


def num_processes() -> int:
    return dist.get_world_size() if started() else 1


def rank() -> int:
    """Number of this process, 0 for the one that writes."""
    return dist.get_rank() if started() else 0


def started() -> bool:
    return dist.is_available() and dist.is_initialized()


@torch.no_grad()
def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of every process's `value`, the same in all; `value` itself isn't changed."""
    if num_processes() == 1:
        return value
    value = value.detach().clone()
    with naming_a_lost_process():
        dist.all_reduce(value)
    return value


@torch.no_grad()
def gather_over_processes(value: Tensor) -> Tensor:
    """Every process's `value`, all of one shape, one after the other along the first axis."""
    if num_processes() == 1:
        return value
    parts = [torch.empty_like(value) for _ in range(num_processes())]
    with naming_a_lost_process():
        dist.all_gather(parts, value.contiguous())
    return torch.cat(parts)


def objects_of_processes(value: T) -> list[T]:
    """Every process's picklable `value`, by rank."""
    if num_processes() == 1:
        return [value]
    values: list[T] = [value] * num_processes()
    with naming_a_lost_process():
        dist.all_gather_object(values, value)
    return values


@torch.no_grad()
def take_buffers_of_first(model: nn.Module) -> None:
    """Running statistics are a process's own where they aren't synchronised: take rank 0's."""
    if num_processes() > 1:
        with naming_a_lost_process():
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


@contextmanager
def naming_a_lost_process() -> Iterator[None]:
    """Raises ConnectionError where another process is gone; what stopped it is said there.

    Waits a moment first: a launcher ends this process then, and has one error to report.
    """
    try:
        yield
    except RuntimeError as error:
        time.sleep(2)
        raise ConnectionError(
            f"process {rank()} has lost the others; the first error of theirs tells why"
        ) from error


@contextmanager
def leaving_cleanly() -> Iterator[None]:
    """Ends the process group behind the block, where there is one then.

    gloo aborts now and then at the end of a process whose models still hold on to its group, so
    what the block made has to be out of reach by its end.
    """
    try:
        yield
    finally:
        gc.collect()
        if started():
            dist.destroy_process_group()
