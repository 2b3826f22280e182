"""The fused form as two PyTorch operators, one per direction: schemas, kernels, fakes, FLOPs.

PyTorch's dispatcher is the only registry of kernels: a device has a kernel where one is registered
here. A kernel works on (B, *spatial, channels) tensors as `pixel_rows` returns them.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

from ccnet.ops import reference
from ccnet.ops.derivatives import (
    FusedAttention,
    FusedGradient,
    PlainFusedAttention,
    Tensors,
    are_tracked,
    call_kernel,
)

FORWARD, BACKWARD = "criss_cross_attention", "criss_cross_attention_backward"

# `torch.library.custom_op` would register a derivative of its own, which is neither right in
# forward mode nor beyond the second order, and fails under torch.func
library = torch.library.Library("ccnet", "FRAGMENT")
library.define(
    f"{FORWARD}(Tensor query, Tensor key, Tensor value) -> (Tensor out, Tensor peak, Tensor total)",
    tags=torch.Tag.pt2_compliant_tag,
)
library.define(
    f"{BACKWARD}(Tensor grad, Tensor query, Tensor key, Tensor value, Tensor out, Tensor peak,"
    " Tensor total) -> (Tensor query_grad, Tensor key_grad, Tensor value_grad)",
    tags=torch.Tag.pt2_compliant_tag,
)


def pixel_rows(tensor: Tensor) -> Tensor:
    """The tensor (B, *spatial, C) itself where its pixels lie evenly apart, otherwise a copy.

    The strides of the result are those of a contiguous tensor with at least C channels. The slices
    of a joint projection are such tensors.
    """
    rows = tensor.flatten(0, -2)
    if rows.stride(-1) != 1 or rows.stride(0) < rows.shape[-1]:
        rows = rows.contiguous()
    return rows.view(tensor.shape)


def without_autocast(kernel: Callable[..., Tensors]) -> Callable[..., Tensors]:
    """A kernel chooses its own precision, also where a backward pass runs under autocast."""

    def run(*inputs: Tensor) -> Tensors:
        if not torch.is_autocast_enabled("cpu"):
            return kernel(*inputs)
        with torch.autocast("cpu", enabled=False):
            return kernel(*inputs)

    return run


@without_autocast
def cpu_forward(query: Tensor, key: Tensor, value: Tensor) -> Tensors:
    from ccnet.ops import cpu

    return cpu.forward(pixel_rows(query), pixel_rows(key), pixel_rows(value))


@without_autocast
def cpu_backward(*inputs: Tensor) -> Tensors:
    from ccnet.ops import cpu

    return cpu.backward(*map(pixel_rows, inputs[:4]), *(x.contiguous() for x in inputs[4:]))


def cuda_forward(query: Tensor, key: Tensor, value: Tensor) -> Tensors:
    from ccnet.ops import triton

    return triton.forward(pixel_rows(query), pixel_rows(key), pixel_rows(value))


def cuda_backward(grad: Tensor, *inputs: Tensor) -> Tensors:
    from ccnet.ops import triton

    rows, statistics = map(pixel_rows, inputs[:3]), (x.contiguous() for x in inputs[3:])
    return triton.backward(grad.contiguous(), *rows, *statistics)


def fake_forward(query: Tensor, key: Tensor, value: Tensor) -> Tensors:
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    statistics = [query.new_empty(query.shape[:-1], dtype=dtype) for _ in range(2)]
    return value.new_empty(value.shape), statistics[0], statistics[1]


def fake_backward(
    grad: Tensor, query: Tensor, key: Tensor, value: Tensor, *outputs: Tensor
) -> Tensors:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def differentiable_forward(*inputs: Tensor) -> Tensors:
    # ONNX has no such operator; the exporter decomposes a program by tracing it once more
    if torch.compiler.is_exporting() and torch.onnx.is_in_onnx_export():
        return reference_forward(*inputs)
    if are_tracked(inputs):
        return PlainFusedAttention.apply(*inputs)
    return call_kernel(torch.ops.ccnet.criss_cross_attention, inputs)


def differentiable_backward(*inputs: Tensor) -> Tensors:
    if are_tracked(inputs):
        return FusedGradient.apply(*inputs)
    return call_kernel(torch.ops.ccnet.criss_cross_attention_backward, inputs)


def reference_forward(query: Tensor, key: Tensor, value: Tensor) -> Tensors:
    scores = torch.cat(reference.axis_scores(query, key), dim=-1)
    peak = scores.amax(-1)
    total = (scores - peak[..., None]).exp().sum(-1)
    return reference.criss_cross_attention(query, key, value), peak, total


library.impl(FORWARD, cpu_forward, "CPU")
library.impl(BACKWARD, cpu_backward, "CPU")
library.impl(FORWARD, cuda_forward, "CUDA")
library.impl(BACKWARD, cuda_backward, "CUDA")
torch.library.register_fake(f"ccnet::{FORWARD}", fake_forward, lib=library)
torch.library.register_fake(f"ccnet::{BACKWARD}", fake_backward, lib=library)
library.impl(FORWARD, differentiable_forward, "Autograd")
library.impl(BACKWARD, differentiable_backward, "Autograd")
# torch.func asks an autograd.Function for its rules only if it is applied above the transforms; the
# dispatcher comes to this key first while a transform is active, and has no public name for it
library.impl(FORWARD, FusedAttention.apply, "FuncTorchDynamicLayerFrontMode")
library.impl(BACKWARD, FusedGradient.apply, "FuncTorchDynamicLayerFrontMode")


@register_flop_formula(torch.ops.ccnet.criss_cross_attention)
def forward_flops(query_shape, key_shape, value_shape, *args, **kwargs) -> int:
    """2 operations per multiply-add: D for each score, C for each weighted value.

    Every pixel has T+H+W−2 scores.
    """
    batch, *spatial, channels = query_shape
    pixels = batch * torch.Size(spatial).numel()
    return 2 * pixels * (sum(spatial) - len(spatial) + 1) * (channels + value_shape[-1])


@register_flop_formula(torch.ops.ccnet.criss_cross_attention_backward)
def backward_flops(grad_shape, query_shape, key_shape, value_shape, *args, **kwargs) -> int:
    """Three products over D (scores, dq, dk) and two over C (dv, gradient of the weights)."""
    batch, *spatial, channels = query_shape
    pixels = batch * torch.Size(spatial).numel()
    positions = sum(spatial) - len(spatial) + 1
    return 2 * pixels * positions * (3 * channels + 2 * value_shape[-1])
