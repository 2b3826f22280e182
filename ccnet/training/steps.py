"""The pieces of a training step: its images, its random numbers, what its parts have in common."""

import math
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from traceback import clear_frames
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from ccnet.losses import Divisors, SegmentationLoss, true_class_probability
from ccnet.models.ccnet import CCNet
from ccnet.models.recompute import unchanged_statistics
from ccnet.runtime import engine
from ccnet.runtime.processes import num_processes, rank, sum_over_processes
from ccnet.training.state import whole

Part = tuple[Tensor, Tensor]  # uint8 images [b, 3, h, w], labels [b, h, w]


def next_step(source: Iterator[Part], num_parts: int) -> tuple[list[Part], float, Exception | None]:
    """This process's images and labels of a step, the seconds waited for them, and what failed."""
    start = time.monotonic()
    try:
        return [next(source) for _ in range(num_parts)], time.monotonic() - start, None
    except Exception as error:  # whatever a data set or a user's transform may raise
        # its frames would keep the loader, and its workers keep this process from ending
        clear_frames(error.__traceback__)
        return [], time.monotonic() - start, error


def agree(flags: Sequence[bool], device: torch.device) -> list[bool]:
    """Which of the flags is set in any process."""
    if num_processes() == 1:
        return list(flags)
    counts = sum_over_processes(torch.tensor(flags, dtype=torch.float32, device=device))
    return [count > 0 for count in counts.tolist()]


def survey(
    criterion: SegmentationLoss,
    network: nn.Module,
    model: CCNet,
    parts: Sequence[Part],
    layout: torch.memory_format,
    seed: int,
    step: int,
) -> Divisors:
    """What the loss of a step is divided by, before its first part is learned from.

    OHEM ranks the pixels of all parts: it takes a forward pass over them first, with the same
    dropout, and leaves batch normalisation's statistics as they are.
    """
    labels = [part[1] for part in parts]
    if criterion.ohem_threshold is None:
        return criterion.divisors(labels)
    probabilities = []
    with torch.no_grad(), unchanged_statistics(model):
        for index, (images, label) in enumerate(parts):
            seed_part(seed, step, index)
            images = model.normalize(images).contiguous(memory_format=layout)
            logits, *_ = network(images, auxiliary=True)  # as the pass that learns has them
            probabilities.append(true_class_probability(logits, label))
    return criterion.divisors(labels, probabilities)


def seed_part(seed: int, step: int, part: int) -> None:
    """Dropout's random numbers follow from where in the run they are drawn alone."""
    entropy = np.random.SeedSequence((seed, step, part, rank()))
    torch.manual_seed(int(entropy.generate_state(1, np.uint64)[0]))


def without_exchange(
    fabric: Fabric, network: Any, until_last: bool
) -> AbstractContextManager[None]:
    """Gradients are summed over the processes once a step, with its last part."""
    if num_processes() == 1:
        return nullcontext()
    return fabric.no_backward_sync(network, enabled=until_last)


def clip_gradient(
    fabric: Fabric, network: Any, optimizer: Optimizer, limit: float | None
) -> Tensor:
    """The gradient's norm over all parameters, before it is cut to `limit`, if there is one."""
    if limit is None and engine.scaler(fabric) is None:  # else it has to be unscaled first
        gradients = [p.grad for p in network.parameters() if p.grad is not None]
        return whole(nn.utils.get_total_norm(gradients))
    norm = fabric.clip_gradients(
        network,
        optimizer,
        max_norm=math.inf if limit is None else limit,
        error_if_nonfinite=False,
    )
    assert norm is not None
    return whole(norm)


def advance(scheduler: LRScheduler) -> None:
    with warnings.catch_warnings():  # a first step that was left out isn't a call out of order
        warnings.filterwarnings("ignore", "Detected call of `lr_scheduler.step")
        scheduler.step()


@torch.no_grad()
def put_back(model: CCNet, buffers: Sequence[Tensor]) -> None:
    for buffer, kept in zip(model.buffers(), buffers, strict=True):
        buffer.copy_(kept)
