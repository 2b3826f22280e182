"""Activation checkpointing: the backward pass needs less memory and runs the forward pass again."""

from collections.abc import Callable
from itertools import count
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils.checkpoint import checkpoint

Outputs = TypeVar("Outputs", bound=Tensor | tuple[Tensor, ...])


def recompute(
    block: Callable[..., Outputs], features: Tensor, *others: Any, **options: Any
) -> Outputs:
    """block(features, *others, **options), of which only the arguments are saved.

    The backward pass runs the block again. The gradient is the same bit for bit: the second run
    draws the same random numbers as the first, begins with the same buffers, uses the same
    parameters, and leaves the buffers of the module as they are. Without gradients, in an export
    and while torch.fx traces, this is an ordinary call.

    Args:
        block: a module or a method of one. Its random numbers come from torch's generators.
        features: a tensor of any shape.
        others, options: further arguments of the block: tensors, lists of tensors, switches.

    Raises:
        NotImplementedError: under `torch.func`, whose transforms cannot be combined with activation
            checkpointing.
    """
    is_traced = torch.compiler.is_exporting() or not isinstance(features, Tensor)
    if is_traced or not torch.is_grad_enabled():
        return block(features, *others, **options)
    if torch.compiler.is_compiling():  # the compiler repeats no write to a buffer
        return checkpoint(block, features, *others, use_reentrant=False, **options)
    state, runs = State(module_of(block)), count()

    def run(*inputs: Any) -> Outputs:
        if next(runs) == 0:
            return block(*inputs, **options)
        return state.call(block, *inputs, **options)

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

    def call(self, block: Callable[..., Outputs], *inputs: Any, **options: Any) -> Outputs:
        """block(*inputs, **options) with this state; what it writes into buffers is dropped."""
        now = dict(self.module.named_parameters())
        others = {
            name: parameter
            for name, parameter in self.parameters.items()
            # sharded parameters (FSDP) are gathered again by their own hooks
            if now[name] is not parameter and type(parameter) in (Tensor, nn.Parameter)
        }
        buffers = {name: buffer.clone() for name, buffer in self.buffers.items()}
        state = {f"module.{name}": tensor for name, tensor in (others | buffers).items()}
        return functional_call(Call(self.module, block), state, inputs, options)


class Call(nn.Module):
    """Calls a method of a module as if it were its forward."""

    def __init__(self, module: nn.Module, block: Callable[..., Outputs]) -> None:
        super().__init__()
        self.module = module
        # were it the module, it would have two names
        self.run = lambda *inputs, **options: block(*inputs, **options)

    def forward(self, *inputs: Any, **options: Any) -> Tensor | tuple[Tensor, ...]:
        return self.run(*inputs, **options)


def module_of(block: Callable[..., Outputs]) -> nn.Module:
    """The module itself, or the one that a method belongs to."""
    return cast(nn.Module, getattr(block, "__self__", block))
