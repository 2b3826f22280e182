"""Activation checkpointing: less memory for the backward pass, for a second forward pass in it."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint


def recompute(block: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """block(features), of which only `features` is kept; the backward pass runs the block again.

    The gradient is the same bit for bit: the second run draws the first one's random numbers, and
    batch normalisation counts the batch once. Without gradients, and in an export, it is a call.

    Args:
        block: a module, or a method of one, whose random numbers are torch's.
        features: of any shape.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_exporting():
        return block(features)
    if torch.compiler.is_compiling():  # which repeats no write to a buffer, and traces no context
        return checkpoint(block, features, use_reentrant=False)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), unchanged_statistics(block)

    return checkpoint(block, features, use_reentrant=False, context_fn=contexts)


@contextmanager
def unchanged_statistics(block: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Batch normalisation's running statistics are afterwards what they were."""
    module = cast(nn.Module, getattr(block, "__self__", block))  # of a method its module
    norms = [part for part in module.modules() if isinstance(part, _BatchNorm) and part.training]
    kept = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in kept:
                buffer.copy_(value)
