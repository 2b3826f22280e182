"""Derivatives of the two fused operators: reverse mode, forward mode and vmap, of any order.

The derivative of the forward operator is the backward operator. All other derivatives are those of
the reference form: they are exact, and need its memory.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import vjp

from ccnet.ops import reference

Tensors = tuple[Tensor, ...]
Dims = tuple[int | None, ...]  # of each input the dimension that vmap maps over


class FusedAttention(torch.autograd.Function):
    """(query, key, value) → (out, peak, total), all of them (B, *spatial, ...)."""

    @staticmethod
    def forward(*inputs: Tensor) -> Tensors:
        return call_kernel(torch.ops.ccnet.criss_cross_attention, inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Tensors, output: Tensors) -> None:
        ctx.save_for_backward(*inputs, *output)
        ctx.save_for_forward(*inputs)
        ctx.mark_non_differentiable(*output[1:])  # peak and total

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensors:
        return torch.ops.ccnet.criss_cross_attention_backward(grads[0], *ctx.saved_tensors)

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> tuple[Tensor | None, ...]:
        inputs = ctx.saved_tensors[:3]
        return *jvp_by_reverse_mode(reference_outputs, inputs, tangents), None, None

    @staticmethod
    def vmap(info: Any, in_dims: Dims, *inputs: Tensor) -> tuple[Tensors, int]:
        return fold_into_batch(torch.ops.ccnet.criss_cross_attention, info, in_dims, inputs)


class PlainFusedAttention(FusedAttention):
    """The same outside torch.func: without `setup_context`, a call takes 40 µs less."""

    @staticmethod
    def forward(*arguments: Any) -> Tensors:
        ctx, *inputs = arguments
        outputs = FusedAttention.forward(*inputs)
        FusedAttention.setup_context(ctx, tuple(inputs), outputs)
        return outputs

    setup_context = torch.autograd.Function.setup_context


class FusedGradient(torch.autograd.Function):
    """(grad, query, key, value, out, peak, total) → gradients of query, key and value.

    The last three inputs are functions of query, key and value. They have no derivative of their
    own: what depends on them is part of the derivative for query, key and value.
    """

    @staticmethod
    def forward(*inputs: Tensor) -> Tensors:
        return call_kernel(torch.ops.ccnet.criss_cross_attention_backward, inputs)

    @staticmethod
    def setup_context(ctx: Any, inputs: Tensors, output: Tensors) -> None:
        ctx.save_for_backward(*inputs[:4])
        ctx.save_for_forward(*inputs[:4])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        with torch.autocast(grads[0].device.type, enabled=False):
            pull = vjp(reference_gradient, *ctx.saved_tensors)[1]
            return *pull(grads), None, None, None

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor | None) -> Tensors:
        return jvp_by_reverse_mode(reference_gradient, ctx.saved_tensors, tangents[:4])

    @staticmethod
    def vmap(info: Any, in_dims: Dims, *inputs: Tensor) -> tuple[Tensors, int]:
        operator = torch.ops.ccnet.criss_cross_attention_backward
        return fold_into_batch(operator, info, in_dims, inputs)


def are_tracked(inputs: Tensors) -> bool:
    """Whether reverse or forward mode follows any of the inputs."""
    if torch.is_grad_enabled() and any(x.requires_grad for x in inputs):
        return True
    return any(forward_ad.unpack_dual(x).tangent is not None for x in inputs)


def call_kernel(operator: Any, inputs: Tensors) -> Tensors:
    # private, but what PyTorch's own custom operators use: there is no public form of it in Python
    with torch._C._AutoDispatchBelowAutograd():
        return operator(*inputs)


def reference_outputs(query: Tensor, key: Tensor, value: Tensor) -> Tensors:
    return (reference.criss_cross_attention(query, key, value),)


def reference_gradient(grad: Tensor, query: Tensor, key: Tensor, value: Tensor) -> Tensors:
    return vjp(reference_outputs, query, key, value)[1]((grad,))


def jvp_by_reverse_mode(
    function: Callable[..., Tensors], inputs: Tensors, tangents: tuple[Tensor | None, ...]
) -> Tensors:
    """The derivative of `function` at `inputs` along `tangents`, without forward mode inside.

    w ↦ Jᵀw is linear, so its own vector-Jacobian product with the tangents is Jt. Forward mode
    cannot be used, because `torch.autograd.forward_ad` has no nested levels.
    """
    # torch turns forward mode off in here for all levels of torch.func; the outer ones need it
    with forward_ad._set_fwd_grad_enabled(True):
        inputs = tuple(forward_ad.unpack_dual(x, level=0).primal for x in inputs)
        outputs, pull = vjp(function, *inputs)[:2]
        push = vjp(pull, tuple(map(torch.zeros_like, outputs)))[1]
        pairs = zip(inputs, tangents, strict=True)
        return push(tuple(torch.zeros_like(x) if t is None else t for x, t in pairs))[0]


def fold_into_batch(
    operator: Any, info: Any, in_dims: Dims, inputs: Tensors
) -> tuple[Tensors, int]:
    """vmap without a loop: the mapped dimension becomes part of the batch."""
    size = info.batch_size
    folded = [
        (x.expand(size, *x.shape) if dim is None else x.movedim(dim, 0)).flatten(0, 1)
        for x, dim in zip(inputs, in_dims, strict=True)
    ]
    outputs = operator(*folded)
    return tuple(x.unflatten(0, (size, x.shape[0] // size)) for x in outputs), 0
