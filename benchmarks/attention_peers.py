"""Ordinary attention kernels of PyTorch and others, made exact forms of criss-cross attention.

One call of a kernel per axis computes the attention of each pixel to its line, itself included,
and the logarithm of the sum of its exponentials. With outputs o, logarithms l and the pixel's own
score s = q · k, two axes are merged by

    out = (exp(l₁) o₁ + exp(l₂) o₂ − exp(s) v) / (exp(l₁) + exp(l₂) − exp(s)),

since the pixel itself was counted on both. Nothing cancels badly: the denominator is at least the
larger of exp(l₁) and exp(l₂). The backward kernels get the merged output and the logarithm of the
denominator, and so compute the shares of the merged attention; the share of the pixel itself is
subtracted afterwards as many times as it was counted too often.

A kernel that needs as many channels in the values as in the queries gets the values split into
heads, with the same queries and keys for every head.
"""

import importlib
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import (
    AuxRequest,
    BlockMask,
    create_block_mask,
    flex_attention,
)

aten = torch.ops.aten
Attended = tuple[Tensor, Tensor, tuple[Any, ...]]
"""Output, log-sum-exp (lines, heads, length), and what else the backward kernel takes."""


@dataclass(frozen=True)
class Kernel:
    """An attention kernel on (lines, heads, length, channels)."""

    forward: Callable[[Tensor, Tensor, Tensor], Attended]
    backward: Callable[..., tuple[Tensor, ...]] | None
    splits_values: bool = True
    """Whether values need as many channels per head as queries have."""


def two_calls(kernel: Kernel, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Criss-cross attention of (B, C, *spatial) by one call of a kernel per axis."""
    # the kernels do not check that the channels of a pixel lie side by side
    rows = (x.movedim(1, -1).contiguous() for x in (query, key, value))
    return TwoCalls.apply(kernel, *rows).movedim(-1, 1)


class TwoCalls(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, kernel: Kernel, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        axes = range(1, query.ndim - 1)
        attended = [along(kernel, axis, query, key, value) for axis in axes]
        ctx.kernel, ctx.others = kernel, [others for *_, others in attended]
        outputs, logs = [x[0] for x in attended], [x[1] for x in attended]
        out, total = merged(outputs, logs, own_score(query, key), value)
        ctx.save_for_backward(query, key, value, out, total)
        return out

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, out, total = ctx.saved_tensors
        if ctx.kernel.backward is None:
            raise NotImplementedError("this kernel has no backward pass")
        grad = grad.contiguous()
        grads = [torch.zeros_like(x) for x in (query, key, value)]
        for axis, others in enumerate(ctx.others, start=1):
            parts = along_backward(ctx.kernel, axis, grad, query, key, value, out, total, others)
            for one, part in zip(grads, parts, strict=True):
                one.add_(part)
        subtract_own(grads, grad, query, key, value, out, total)
        return None, *grads


def along(kernel: Kernel, axis: int, query: Tensor, key: Tensor, value: Tensor) -> Attended:
    """The attention along one axis of (B, *spatial, C); its log-sum-exp is (B, *spatial)."""
    q, k, v = heads_of(kernel, axis, query, key, value)
    out, log, others = kernel.forward(q, k, v)
    length = query.shape[axis]
    log = unlined(log[:, :1, :length, None], axis, query.shape)[..., 0]
    return unlined(out, axis, query.shape), log, others


def along_backward(
    kernel: Kernel,
    axis: int,
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    total: Tensor,
    others: tuple[Any, ...],
) -> list[Tensor]:
    """The part of one axis in the gradients of query, key and value (B, *spatial, C)."""
    assert kernel.backward is not None
    q, k, v = heads_of(kernel, axis, query, key, value)
    g, o = (lined(x, axis, v.shape[1]) for x in (grad, out))
    log = lined(total[..., None], axis, 1)[..., 0].expand(q.shape[:-1]).contiguous()
    dq, dk, dv = kernel.backward(g, q, k, v, o, log, others)[:3]
    small = (unlined(x.sum(1, keepdim=True), axis, query.shape) for x in (dq, dk))
    return [*small, unlined(dv, axis, query.shape)]


def heads_of(kernel: Kernel, axis: int, *tensors: Tensor) -> list[Tensor]:
    """Query, key and value as (lines, heads, L, channels)."""
    query, key, value = tensors
    heads = value.shape[-1] // query.shape[-1] if kernel.splits_values else 1
    small = (lined(x, axis, 1).expand(-1, heads, -1, -1) for x in (query, key))
    return [*small, lined(value, axis, heads)]


def lined(tensor: Tensor, axis: int, heads: int) -> Tensor:
    """(B, *spatial, C) → (lines, heads, L, C / heads), a view where the strides allow it."""
    lines = tensor.movedim(axis, -2).flatten(0, -3)
    return lines.unflatten(-1, (heads, -1)).transpose(1, 2)


def unlined(lines: Tensor, axis: int, shape: torch.Size) -> Tensor:
    """The inverse of `lined`, for a tensor with the sizes `shape` up to its channels."""
    others = [size for place, size in enumerate(shape[:-1]) if place != axis]
    return lines.transpose(1, 2).flatten(-2).unflatten(0, others).movedim(-2, axis)


def own_score(query: Tensor, key: Tensor) -> Tensor:
    """q · k at each pixel, (B, *spatial), as the statistics are kept."""
    dtype = torch.promote_types(query.dtype, torch.float32)
    return (query.to(dtype) * key.to(dtype)).sum(-1)


def merged(
    outputs: list[Tensor], logs: list[Tensor], own: Tensor, value: Tensor
) -> tuple[Tensor, Tensor]:
    """The joint attention (B, *spatial, C), and the logarithm of its sum of exponentials."""
    joint = torch.stack([log.to(own.dtype) for log in logs])
    peak = joint.amax(0)
    shares, own = (joint - peak).exp(), (own - peak).exp() * (len(logs) - 1)
    total = shares.sum(0) - own
    out = sum(o * (share / total)[..., None] for o, share in zip(outputs, shares, strict=True))
    out = out - value * (own / total)[..., None]
    return out.to(value.dtype), peak + total.log()


def subtract_own(
    grads: list[Tensor],
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    total: Tensor,
) -> None:
    """Take the pixel's own share out of the gradients where it was counted once too often."""
    times = query.ndim - 3
    weight = (own_score(query, key) - total).exp() * times
    # Σ g · (v − out) is the gradient of the share without its cancellation
    slope = weight * (grad.to(weight.dtype) * (value - out).to(weight.dtype)).sum(-1)
    for one, factor, tensor in zip(grads, (slope, slope, weight), (key, query, grad), strict=True):
        one.sub_((factor[..., None] * tensor).to(one.dtype))


def cpu_flash() -> Kernel:
    """PyTorch's flash attention for CPUs."""

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Attended:
        return *aten._scaled_dot_product_flash_attention_for_cpu(q, k, v, scale=1.0), ()

    def backward(g: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, log: Tensor, _: object):
        call = aten._scaled_dot_product_flash_attention_for_cpu_backward
        return call(g, q, k, v, o, log, 0.0, False, scale=1.0)

    return Kernel(forward, backward)


def efficient() -> Kernel:
    """PyTorch's memory-efficient attention for CUDA, whose values may have more channels."""

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Attended:
        call = aten._scaled_dot_product_efficient_attention
        out, log, *seeds = call(q, k, v, None, True, scale=1.0)
        return out, log, (log.shape[-1], *seeds)

    def backward(g: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, log: Tensor, others: Any):
        padded, *seeds = others  # the logarithms are kept in multiples of 32
        log = torch.nn.functional.pad(log, (0, padded - log.shape[-1]), value=math.inf)
        call = aten._scaled_dot_product_efficient_attention_backward
        wanted = [True, True, True, False]
        return call(g, q, k, v, None, o, log, *seeds, 0.0, wanted, scale=1.0)

    return Kernel(forward, backward, splits_values=False)


def cudnn() -> Kernel:
    """cuDNN's attention, by PyTorch."""

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Attended:
        call = aten._scaled_dot_product_cudnn_attention
        out, log, *others = call(q, k, v, None, True, scale=1.0)
        return out, log[..., 0] if log.ndim == 4 else log, tuple(others[:6])

    def backward(g: Tensor, q: Tensor, k: Tensor, v: Tensor, o: Tensor, log: Tensor, others: Any):
        cum_q, cum_k, max_q, max_k, seed, offset = others
        call = aten._scaled_dot_product_cudnn_attention_backward
        sizes = (cum_q, cum_k, max_q, max_k, 0.0, False)
        return call(g, q, k, v, o, log[..., None], seed, offset, None, *sizes, scale=1.0)

    return Kernel(forward, backward)


def flash_3() -> Kernel:
    """FlashAttention-3, whose forward pass takes 64 channels of queries and 512 of values."""
    library = importlib.import_module("flash_attn_interface")

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Attended:
        q, k, v = (x.transpose(1, 2) for x in (q, k, v))
        out, log = library.flash_attn_func(q, k, v, softmax_scale=1.0, return_attn_probs=True)[:2]
        return out.transpose(1, 2), log, ()

    return Kernel(forward, None, splits_values=False)


def flash_4() -> Kernel:
    """FlashAttention-4, with the values split into heads."""
    library = importlib.import_module("flash_attn.cute.interface")

    def forward(q: Tensor, k: Tensor, v: Tensor) -> Attended:
        q, k, v = (x.transpose(1, 2).contiguous() for x in (q, k, v))
        out, log = library.flash_attn_func(q, k, v, softmax_scale=1.0, return_lse=True)[:2]
        return out.transpose(1, 2), log, ()

    return Kernel(forward, None)


@cache
def compiled_flex() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=False)


def flex(*inputs: Tensor, **options: Any) -> Any:
    """FlexAttention, compiled on a GPU; PyTorch's own eager form of it on a CPU."""
    return (compiled_flex() if inputs[0].is_cuda else flex_attention)(*inputs, scale=1.0, **options)


def flex_two_calls(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """FlexAttention once per axis. Its gradient passes through the log-sum-exp by itself."""
    q, k, v = (x.movedim(1, -1) for x in (query, key, value))
    outputs, logs = [], []
    for axis in range(1, q.ndim - 1):
        lines = (lined(x, axis, 1) for x in (q, k, v))
        out, kept = flex(*lines, return_aux=AuxRequest(lse=True))
        outputs.append(unlined(out, axis, q.shape))
        logs.append(unlined(kept.lse[..., None], axis, q.shape)[..., 0])
    return merged(outputs, logs, own_score(q, k), v)[0].movedim(-1, 1)


@cache
def cross_mask(height: int, width: int, device: torch.device) -> BlockMask:
    """Which pixels of a whole map lie in one row or column, in blocks of 128×128 pixels."""

    def same_line(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query // width == key // width) | (query % width == key % width)

    pixels = height * width
    return create_block_mask(same_line, None, None, pixels, pixels, device=device)


def flex_whole_map(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """FlexAttention over all pixels with a mask. Where no block of the mask is empty, it is dense.

    Every line of at most 128 pixels puts an entry into each block, so that nothing is saved there.
    """
    mask = cross_mask(*query.shape[2:], query.device)
    q, k, v = (x.flatten(2).mT[:, None] for x in (query, key, value))
    return flex(q, k, v, block_mask=mask)[:, 0].mT.unflatten(-1, query.shape[2:])


def calls_of(kernel: Callable[[], Kernel]) -> Callable[..., Tensor]:
    return lambda query, key, value: two_calls(kernel(), query, key, value)


PEERS = {
    "flash-two-calls": calls_of(cpu_flash),
    "efficient-two-calls": calls_of(efficient),
    "cudnn-two-calls": calls_of(cudnn),
    "flash3-two-calls": calls_of(flash_3),
    "flash4-two-calls": calls_of(flash_4),
    "flex-two-calls": flex_two_calls,
    "flex-whole-map": flex_whole_map,
}
OF_DEVICE = {"cpu": list(PEERS)[:1], "cuda": list(PEERS)[1:]}
FORWARD_ONLY = ("flash3-two-calls", "flash4-two-calls")


def why_not(form: str, query: Tensor, key: Tensor, value: Tensor) -> str | None:
    """Why a peer cannot be used here for such tensors (B, C, *spatial); None if it can."""
    if form == "flex-whole-map" and query.ndim != 4:
        return "it takes maps of two axes"
    inputs = [x.detach().requires_grad_(form not in FORWARD_ONLY) for x in (query, key, value)]
    try:
        out = PEERS[form](*inputs)
        if form not in FORWARD_ONLY:
            out.sum().backward()
    except (ImportError, NotImplementedError, RuntimeError, ValueError) as error:
        return f"{type(error).__name__}: {str(error).splitlines()[0]}"[:200]
    return None
