"""The processes of a run, one per device: sums and exchanges over all of them.

Plain `torch.distributed`, whoever started the processes (`ccnet --devices`, torchrun, SLURM, or
Lightning's Trainer). With one process nothing is sent.
"""

import gc
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

T = TypeVar("T")

MAX_WORKERS = 256
"""Processes or threads that read for one process; more only take memory."""

# gloo raises plain RuntimeErrors, also in torch 2.13; their texts are all that tells them apart
LOST_CONNECTION = re.compile(
    "Connection closed by peer|Connection reset by peer|Connection refused|Broken pipe|"
    "Timed out waiting|Application timeout caused pair closure"
)


def num_processes() -> int:
    """Number of processes that compute together; 1 without a process group."""
    return dist.get_world_size() if has_process_group() else 1


def rank() -> int:
    """Number of this process, from 0; process 0 is the one that writes files."""
    return dist.get_rank() if has_process_group() else 0


def require_num_workers(number: int) -> None:
    """Raises ValueError unless this many processes or threads can read for one process."""
    if not 0 <= number <= MAX_WORKERS:
        raise ValueError(f"num_workers must be from 0 to {MAX_WORKERS}, got {number}")


def has_process_group() -> bool:
    return dist.is_available() and dist.is_initialized()


@torch.no_grad()
def sum_over_processes(value: Tensor) -> Tensor:
    """The sum of `value` over all processes, the same in all of them; `value` is not changed."""
    if num_processes() == 1:
        return value
    value = value.detach().clone()
    with reporting_lost_processes():
        dist.all_reduce(value)
    return value


@torch.no_grad()
def gather_over_processes(value: Tensor) -> Tensor:
    """The tensors of all processes, which have one shape, concatenated along the first axis."""
    if num_processes() == 1:
        return value
    parts = [torch.empty_like(value) for _ in range(num_processes())]
    with reporting_lost_processes():
        dist.all_gather(parts, value.contiguous())
    return torch.cat(parts)


def objects_of_processes(value: T) -> list[T]:
    """The picklable `value` of every process, in the order of their ranks."""
    if num_processes() == 1:
        return [value]
    values: list[T] = [value] * num_processes()
    with reporting_lost_processes():
        dist.all_gather_object(values, value)
    return values


@torch.no_grad()
def broadcast_buffers(model: nn.Module) -> None:
    """Give every process the buffers of process 0.

    Running statistics differ between processes where batch normalization is not synchronized.
    """
    if num_processes() > 1:
        with reporting_lost_processes():
            for buffer in model.buffers():
                dist.broadcast(buffer, 0)


@contextmanager
def reporting_lost_processes() -> Iterator[None]:
    """Turn the error of a lost connection into a ConnectionError; other errors pass unchanged.

    The process that failed says itself why. This one waits two seconds before it raises, since a
    launcher usually ends it in that time, and the first error is then the only one that is shown.
    """
    try:
        yield
    except RuntimeError as error:
        if not is_lost_connection(error):
            raise
        time.sleep(2)
        raise ConnectionError(
            f"process {rank()} has lost the others; the first error of theirs tells why"
        ) from error


def is_lost_connection(error: RuntimeError) -> bool:
    """Whether an error of `torch.distributed` says that another process cannot be reached."""
    # NCCL's and the store's errors have classes of their own, gloo's have not
    kinds = (dist.DistBackendError, dist.DistNetworkError, dist.DistStoreError)
    return isinstance(error, kinds) or LOST_CONNECTION.search(str(error)) is not None


@contextmanager
def leaving_cleanly() -> Iterator[None]:
    """Destroy the process group at the end of the block, if there is one then.

    gloo sometimes aborts a process at its end if a model still refers to the process group. So no
    object that the block made may be reachable when it ends.
    """
    try:
        yield
    finally:
        gc.collect()
        if has_process_group():
            dist.destroy_process_group()
