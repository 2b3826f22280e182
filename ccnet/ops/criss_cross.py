"""The public function of criss-cross attention: what it accepts, and which form computes it.

This file imports torch only. Every form of the operator is imported when it first runs.
"""

from importlib.util import find_spec

import torch
from jaxtyping import Float
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function_variadic

from ccnet.ops import operators as operators  # declares torch.ops.ccnet

FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
# device type → dtypes that have a fused kernel
FUSED = {"cpu": FLOATS, "cuda": (torch.float32, torch.bfloat16, torch.float16)}
MAX_CUDA_DEPTH = 128  # query and key channels that fit into the tiles of the CUDA kernel
HAS_TRITON = find_spec("triton") is not None


def criss_cross_attention(
    query: Float[Tensor, "b d *spatial"],
    key: Float[Tensor, "b d *spatial"],
    value: Float[Tensor, "b c *spatial"],
    *,
    backend: str | None = None,
) -> Float[Tensor, "b c *spatial"]:
    """Attend from every pixel to all pixels of its row and column (paper section 3.2, equation 2).

    out_u = Σ_i softmax_i(q_u · k_i) v_i, where i runs over the H+W−1 pixels in the row and the
    column of u and the softmax is taken over all of them together. The pixel u itself counts once,
    and scores are not scaled by 1/√d. With one spatial axis this is full attention along a
    sequence; with three, u attends to the T+H+W−2 pixels on the three axes through it.

    The time is O(N·(H+W)) for N pixels. The fused form saves query, key, value, the output and two
    numbers per pixel for the backward pass, and works in tiles of constant size. The reference form
    saves O(N·(H+W)) numbers. Inputs may have any strides; channels-last inputs are not copied. The
    result has channels-last strides and the dtype of `value`. The fused form computes softmax
    statistics in float32, and in float64 for float64 inputs. On CUDA it multiplies float32 as torch
    multiplies matrices (`torch.set_float32_matmul_precision`).

    The fused form supports `torch.func` (`grad`, `vmap`, `jvp` and combinations of them), automatic
    differentiation in forward mode and derivatives of any order. The first derivative in reverse
    mode runs the fused kernel; all others are those of the reference form, and need its memory.

    Under autocast, every input is cast to the dtype of autocast first, except float64 inputs, as
    `torch.nn.functional.scaled_dot_product_attention` does. `torch.onnx.export` gets the reference
    form for `backend=None`, since ONNX has no operator for the fused form.

    Args:
        query, key: (B, D, *spatial) in float64, float32, bfloat16 or float16.
        value: (B, C, *spatial) of the same dtype and device.
        backend: "fused" or "reference" runs that form or raises an error. None takes the fused form
            where `fused_available(device, dtype)`, and the reference form elsewhere and for D > 128
            on CUDA.

    Raises:
        ValueError: shapes, dtypes or devices do not fit together, or the backend is unknown.
        TypeError: an argument is no tensor.
        NotImplementedError: `backend="fused"` where there is no kernel.
    """
    if has_torch_function_variadic(query, key, value):  # torch.fx, subclasses and modes
        return handle_torch_function(
            criss_cross_attention, (query, key, value), query, key, value, backend=backend
        )
    for tensor in (query, key, value):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"query, key and value must be tensors, got {type(tensor).__name__}")
    device = query.device.type
    if device != "meta" and torch.is_autocast_enabled(device):  # meta has no autocast
        dtype = torch.get_autocast_dtype(device)
        query, key, value = (autocast_to(dtype, x) for x in (query, key, value))
        with torch.autocast(device, enabled=False):
            return criss_cross_attention(query, key, value, backend=backend)
    validate(query, key, value)
    channels_last = (query.movedim(1, -1), key.movedim(1, -1), value.movedim(1, -1))
    if use_fused(backend, query):
        out, *_ = torch.ops.ccnet.criss_cross_attention(*channels_last)
    else:
        from ccnet.ops import reference

        out = reference.criss_cross_attention(*channels_last)
    return out.movedim(-1, 1)


def attention_weights(
    query: Float[Tensor, "b d *spatial"], key: Float[Tensor, "b d *spatial"]
) -> Float[Tensor, "b positions *spatial"]:
    """The weights A_{i,u} with which every pixel u attends to its row and column (paper, figure 3).

    With two spatial axes the result is (B, H+W−1, H, W), and the weights of a pixel sum to 1. Its
    first H−1 entries are the other pixels of the column of u, from top to bottom, and the next W
    are the pixels of the row of u, from left to right, u itself among them. With any number of axes
    the positions on each axis follow each other in the order of the axes, and u itself is only
    among those on the last one.

    This tensor takes O(N·(H+W)) memory for N pixels, which `criss_cross_attention` never does; it
    is for small maps. The functions of `ccnet.explanation` follow the weights of one pixel without
    it. Weights are computed in the dtype of `query`, by the reference form.

    Raises:
        ValueError: as for `criss_cross_attention`.
    """
    validate(query, key, key)
    from ccnet.ops import reference

    *others, last = reference.attention_weights(query.movedim(1, -1), key.movedim(1, -1))
    parts = [without_itself(weights, axis) for axis, weights in enumerate(others, start=1)]
    return torch.cat([*parts, last], dim=-1).movedim(-1, 1)


def without_itself(weights: Tensor, axis: int) -> Tensor:
    """Weights (B, *spatial, L) along an axis of length L → (B, *spatial, L−1) of the others."""
    length = weights.shape[-1]
    positions = torch.arange(length - 1, device=weights.device)
    own = torch.arange(length, device=weights.device)[:, None]
    index = positions + (positions >= own)  # [L, L−1], for each place on the axis the others
    shape = [1] * weights.ndim
    shape[axis], shape[-1] = length, length - 1
    return weights.gather(-1, index.view(shape).expand(*weights.shape[:-1], length - 1))


def autocast_to(dtype: torch.dtype, tensor: Tensor) -> Tensor:
    """Autocast leaves float64 and integers as they are."""
    is_cast = tensor.is_floating_point() and tensor.dtype != torch.float64
    return tensor.to(dtype) if is_cast else tensor


def fused_available(device: str | torch.device, dtype: torch.dtype) -> bool:
    """Whether `backend=None` takes a fused kernel for tensors of this device and dtype.

    On CUDA this needs Triton and an NVIDIA GPU of compute capability 8.0 or later. There the kernel
    also needs at most 128 query channels, which this function does not know.
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
    """Whether the fused form computes this call; an error where it was asked for and cannot."""
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
    if query.ndim not in (3, 4, 5):
        expected = "expected (B, channels, *spatial) with 1 to 3 spatial axes"
    elif query.shape != key.shape:
        expected = "query and key must have the same shape"
    elif value.ndim != query.ndim or value.shape[0] != query.shape[0]:
        expected = "value must have the batch and axes of query"
    elif value.shape[2:] != query.shape[2:]:
        expected = "value must have the spatial size of query"
    elif 0 in query.shape[1:] or value.shape[1] == 0:
        expected = "only the batch may be empty"
    else:
        expected = None
    if expected is not None:
        raise ValueError(
            f"{expected}, got query {tuple(query.shape)}, key {tuple(key.shape)}, "
            f"value {tuple(value.shape)}"
        )
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
