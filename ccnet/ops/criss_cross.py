"""The contract of criss-cross attention: public function, operator schema, gradient, device → file.

This file imports torch only; an implementation is imported when it first runs.
"""

from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.flop_counter import register_flop_formula

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# device type → dtypes that have a fused kernel
FUSED = {"cpu": FLOATS, "cuda": (torch.float32, torch.bfloat16, torch.float16)}
MAX_CUDA_DEPTH = 128  # query and key channels that fit the CUDA kernel's tiles
HAS_TRITON = find_spec("triton") is not None


def criss_cross_attention(
    query: Float[Tensor, "b d *spatial"],
    key: Float[Tensor, "b d *spatial"],
    value: Float[Tensor, "b c *spatial"],
    *,
    backend: str | None = None,
) -> Float[Tensor, "b c *spatial"]:
    """Attend from every pixel to all pixels of its row and column (paper section 3.2, equation 2).

    out_u = Σ_i softmax_i(q_u · k_i) v_i, one softmax over the H+W−1 pixels i that share a row or a
    column with u, u itself once; no 1/√d scale. With one spatial axis this is full attention along
    a sequence, with three the pixels along each axis through u (T+H+W−2 of them).

    Time is O(N·(H+W)) for N pixels; the fused form keeps query, key, value, the output and two
    numbers a pixel for the backward pass and works in tiles of constant size, the reference form
    keeps O(N·(H+W)). Any strides are taken; channels-last ones save a copy. The result has
    channels-last strides and the dtype of `value`. Softmax statistics of the fused form are float32
    (float64 for float64). Under autocast, inputs other than float64 are cast to autocast's dtype.
    On CUDA the fused form takes D ≤ 128; its float32 products are TF32 where torch's matrix
    products are (`torch.set_float32_matmul_precision`).

    Args:
        query, key: (B, D, *spatial), float64, float32, bfloat16 or float16.
        value: (B, C, *spatial), of the same dtype and device.
        backend: "fused" or "reference" runs that form or raises; None takes the fused form where
            `fused_available(device, dtype)` and the reference elsewhere, also for D > 128 on CUDA.

    Raises:
        ValueError: shapes, dtypes or devices that don't fit, or an unknown backend.
        NotImplementedError: backend="fused" where there is no kernel.
    """
    validate(query, key, value)
    device = query.device.type
    if torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device):
        dtype = query.dtype if query.dtype == torch.float64 else torch.get_autocast_dtype(device)
        with torch.autocast(device, enabled=False):
            return criss_cross_attention(
                query.to(dtype), key.to(dtype), value.to(dtype), backend=backend
            )
    channels_last = (query.movedim(1, -1), key.movedim(1, -1), value.movedim(1, -1))
    if use_fused(backend, query):
        out, *_ = torch.ops.ccnet.criss_cross_attention(*channels_last)
    else:
        from ccnet.ops import reference

        out = reference.criss_cross_attention(*channels_last)
    return out.movedim(-1, 1)


def fused_available(device: str | torch.device, dtype: torch.dtype) -> bool:
    """Whether `backend=None` takes a fused kernel for tensors of this device and dtype.

    On CUDA that needs Triton, an NVIDIA GPU of compute capability 8.0 or more and, beyond what is
    asked here, at most 128 query channels.
    """
    device = torch.device(device)
    if dtype not in FUSED.get(device.type, ()):
        return False
    return device.type != "cuda" or triton_runs(device)


def triton_runs(device: torch.device) -> bool:
    if not HAS_TRITON or torch.version.hip is not None or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_properties(device).major >= 8


def use_fused(backend: str | None, query: Tensor) -> bool:
    if backend not in (None, "fused", "reference"):
        raise ValueError(f"backend must be None, 'fused' or 'reference', got {backend!r}")
    available = fused_available(query.device, query.dtype)
    if available and query.is_cuda and query.shape[1] > MAX_CUDA_DEPTH:
        if backend == "fused":
            raise NotImplementedError(
                f"the CUDA kernel takes at most {MAX_CUDA_DEPTH} query channels, got "
                f"{query.shape[1]}; backend=None or backend='reference' works"
            )
        return False
    if backend == "fused" and not available:
        raise NotImplementedError(
            f"no fused criss-cross kernel for {query.dtype} on {query.device.type}; "
            "backend=None or backend='reference' works there"
        )
    return available if backend is None else backend == "fused"


def validate(query: Tensor, key: Tensor, value: Tensor) -> None:
    shapes = f"query {tuple(query.shape)}, key {tuple(key.shape)}, value {tuple(value.shape)}"
    if query.ndim not in (3, 4, 5):
        raise ValueError(f"expected (B, channels, *spatial) with 1 to 3 spatial axes, got {shapes}")
    if query.shape != key.shape:
        raise ValueError(f"query and key must have the same shape, got {shapes}")
    if value.ndim != query.ndim or value.shape[0] != query.shape[0]:
        raise ValueError(f"value must have the batch and axes of query, got {shapes}")
    if value.shape[2:] != query.shape[2:]:
        raise ValueError(f"value must have the spatial size of query, got {shapes}")
    if 0 in query.shape[1:] or value.shape[1] == 0:
        raise ValueError(f"only the batch may be empty, got {shapes}")
    if not query.dtype == key.dtype == value.dtype or query.dtype not in FLOATS:
        raise ValueError(
            "query, key and value must share one of float64, float32, bfloat16 and float16, got "
            f"{query.dtype}, {key.dtype} and {value.dtype}"
        )
    if not query.device == key.device == value.device:
        raise ValueError(
            "query, key and value must be on one device, got "
            f"{query.device}, {key.device} and {value.device}"
        )


def pixel_rows(tensor: Tensor) -> Tensor:
    """(B, *spatial, C) as a matrix with a row a pixel, as slices of a projection are; else a copy.

    Its strides are those of a contiguous tensor with at least C channels.
    """
    rows = tensor.flatten(0, -2)
    if rows.stride(-1) != 1 or rows.stride(0) < rows.shape[-1]:
        rows = rows.contiguous()
    return rows.view(tensor.shape)


@torch.library.custom_op("ccnet::criss_cross_attention", mutates_args=(), device_types="cpu")
def fused_forward(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    from ccnet.ops import cpu

    return cpu.forward(pixel_rows(query), pixel_rows(key), pixel_rows(value))


@torch.library.custom_op(
    "ccnet::criss_cross_attention_backward", mutates_args=(), device_types="cpu"
)
def fused_backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    peak: Tensor,
    total: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    from ccnet.ops import cpu

    query, key, value = pixel_rows(query), pixel_rows(key), pixel_rows(value)
    return cpu.backward(pixel_rows(grad), query, key, value, out, peak, total)


@fused_forward.register_kernel("cuda")
def _(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    from ccnet.ops import triton

    return triton.forward(pixel_rows(query), pixel_rows(key), pixel_rows(value))


@fused_backward.register_kernel("cuda")
def _(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    peak: Tensor,
    total: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    from ccnet.ops import triton

    query, key, value = pixel_rows(query), pixel_rows(key), pixel_rows(value)
    return triton.backward(grad.contiguous(), query, key, value, out, peak, total)


@fused_forward.register_fake
def _(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    statistics = [query.new_empty(query.shape[:-1], dtype=dtype) for _ in range(2)]
    return value.new_empty(value.shape), statistics[0], statistics[1]


@fused_backward.register_fake
def _(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    peak: Tensor,
    total: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    return query.new_empty(query.shape), key.new_empty(key.shape), value.new_empty(value.shape)


def save_for_backward(ctx, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
    _, peak, total = output
    ctx.save_for_backward(*inputs, *output)
    ctx.mark_non_differentiable(peak, total)


def gradient(ctx, grad: Tensor, *_) -> tuple[Tensor, ...]:
    return torch.ops.ccnet.criss_cross_attention_backward(grad, *ctx.saved_tensors)


def save_for_second_derivative(ctx, inputs: tuple[Tensor, ...], output) -> None:
    grad, query, key, value, *_ = inputs
    ctx.save_for_backward(grad, query, key, value)


def second_derivative(ctx, *grads: Tensor) -> tuple[Tensor | None, ...]:
    """Differentiates the reference twice: exact, at the reference's cost in memory."""
    from ccnet.ops import reference

    with torch.enable_grad():
        inputs = [x.detach().requires_grad_() for x in ctx.saved_tensors]
        grad, query, key, value = inputs
        out = reference.criss_cross_attention(query, key, value)
        first = torch.autograd.grad(out, (query, key, value), grad, create_graph=True)
    second = torch.autograd.grad(first, inputs, grads)
    return *second, None, None, None  # out, peak and total are functions of query, key and value


fused_forward.register_autograd(gradient, setup_context=save_for_backward)
fused_backward.register_autograd(second_derivative, setup_context=save_for_second_derivative)


@register_flop_formula(torch.ops.ccnet.criss_cross_attention)
def forward_flops(query_shape, key_shape, value_shape, *args, **kwargs) -> int:
    """2 a multiply-add: D for each score and C for each weighted value, T+H+W−2 of them a pixel."""
    batch, *spatial, channels = query_shape
    pixels = batch * torch.Size(spatial).numel()
    return 2 * pixels * (sum(spatial) - len(spatial) + 1) * (channels + value_shape[-1])


@register_flop_formula(torch.ops.ccnet.criss_cross_attention_backward)
def backward_flops(grad_shape, query_shape, key_shape, value_shape, *args, **kwargs) -> int:
    """Scores again, dq and dk: 3 products of D; dv and the weights' gradient: 2 products of C."""
    batch, *spatial, channels = query_shape
    pixels = batch * torch.Size(spatial).numel()
    positions = sum(spatial) - len(spatial) + 1
    return 2 * pixels * positions * (3 * channels + 2 * value_shape[-1])
