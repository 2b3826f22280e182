"""Activation checkpointing: the backward pass needs less memory and runs the forward pass again."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import cast

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def recompute(block: Callable[[Tensor], Tensor], features: Tensor) -> Tensor:
    """block(features), of which only `features` is saved; the backward pass runs the block again.

    The gradient is the same bit for bit: the second run draws the same random numbers as the first,
    and does not change the running statistics of batch normalization. Without gradients, in an
    export and while torch.fx traces, this is an ordinary call.

    Args:
        block: a module or a method of one. Its random numbers come from torch's generators.
        features: a tensor of any shape.
    """
    is_traced = torch.compiler.is_exporting() or not isinstance(features, Tensor)
    if is_traced or not torch.is_grad_enabled():
        return block(features)
    if torch.compiler.is_compiling():  # the compiler repeats no write to a buffer
        return checkpoint(block, features, use_reentrant=False)

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), unchanged_statistics(block)

    return checkpoint(block, features, use_reentrant=False, context_fn=contexts)


@contextmanager
def unchanged_statistics(block: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """Restores the running statistics of batch normalization at the end of the context."""
    module = cast(nn.Module, getattr(block, "__self__", block))  # a method's module
    norms = [part for part in module.modules() if isinstance(part, BATCH_NORMS) and part.training]
    saved = [(buffer, buffer.clone()) for norm in norms for buffer in norm.buffers()]
    try:
        yield
    finally:
        with torch.no_grad():
            for buffer, value in saved:
                buffer.copy_(value)
