"""Activation checkpointing: the backward pass needs less memory and runs the forward pass again."""

from collections.abc import Callable
from itertools import count
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint


def recompute(block: Callable[..., Tensor], features: Tensor, *others: Any) -> Tensor:
    """block(features, *others), of which only these are saved; the backward pass runs it again.

    The gradient is the same bit for bit: the second run draws the same random numbers as the first,
    begins with the same buffers, uses the same parameters, and leaves the buffers of the module as
    they are. Without gradients, in an export and while torch.fx traces, this is an ordinary call.

    Args:
        block: a module or a method of one. Its random numbers come from torch's generators.
        features: a tensor of any shape.
        others: further arguments of the block: tensors, and lists of tensors.

    Raises:
        NotImplementedError: under `torch.func`, whose transforms cannot be combined with activation
            checkpointing.
    """
    is_traced = torch.compiler.is_exporting() or not isinstance(features, Tensor)
    if is_traced or not torch.is_grad_enabled():
        return block(features, *others)
    if torch.compiler.is_compiling():  # the compiler repeats no write to a buffer
        return checkpoint(block, features, *others, use_reentrant=False)
    state, runs = State(module_of(block)), count()

    def run(*inputs: Any) -> Tensor:
        return block(*inputs) if next(runs) == 0 else state.call(block, *inputs)

    try:
        return checkpoint(run, features, *others, use_reentrant=False)
    except RuntimeError as error:
        if "saved tensor hooks" not in str(error):
            raise
        raise NotImplementedError(
            "torch.func cannot differentiate through activation checkpointing; a module without "
            "recompute works"
        ) from error


class State:
    """The parameters of a module, and its buffers as they are before a forward pass."""

    def __init__(self, module: nn.Module) -> None:
        self.module = module
        self.parameters = dict(module.named_parameters())
        self.buffers = {name: buffer.clone() for name, buffer in module.named_buffers()}

    def call(self, block: Callable[..., Tensor], *inputs: Any) -> Tensor:
        """block(*inputs) with this state; what the call writes into buffers is dropped."""
        now = dict(self.module.named_parameters())
        others = {
            name: parameter
            for name, parameter in self.parameters.items()
            # sharded parameters (FSDP) are gathered again by their own hooks
            if now[name] is not parameter and type(parameter) in (Tensor, nn.Parameter)
        }
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        state = {f"module.{name}": tensor for name, tensor in (others | buffers).items()}
        return functional_call(Call(self.module, block), state, inputs)


class Call(nn.Module):
    """Calls a method of a module as if it were its forward."""

    def __init__(self, module: nn.Module, block: Callable[..., Tensor]) -> None:
        super().__init__()
        self.module = module
        self.run = lambda *inputs: block(*inputs)  # were it the module, it would have two names

    def forward(self, *inputs: Any) -> Tensor:
        return self.run(*inputs)


def module_of(block: Callable[..., Tensor]) -> nn.Module:
    """The module itself, or the one that a method belongs to."""
    return cast(nn.Module, getattr(block, "__self__", block))
