"""Criss-cross attention on the CPU, tile by tile. No tensor of size N·(H+W) is ever allocated.

Tensors are (B, *spatial, channels): contiguous, or a slice of the channels of a contiguous tensor.
Along one axis such a tensor can be viewed as (outer, L, inner, channels) without a copy. A tile is
a group of lines, [outers, lines, L, channels], or a part of one line if the line is too long for a
tile. DESIGN.md derives how axes are merged, and the gradient.
"""

import itertools
import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

TILE_SCORES = 1 << 19  # scores of one tile: 2 MiB in float32, the size of a second-level cache
TILE_VALUES = 1 << 21  # numbers of one tile of values: 8 MiB in float32
LOG2_E = math.log2(math.e)

# MKL's vector functions detect the processor in their first call, without a lock: if several
# threads make it at once, one may get a less accurate kernel (pytorch issue 188792)
torch.ones(1, device="cpu").exp_()


def forward(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The attention (B, *spatial, C) and, per pixel, peak = max(scores) and Σ exp(score − peak)."""
    out = value.new_empty(value.shape)
    peak = query.new_empty(query.shape[:-1], dtype=statistics_dtype(query))
    total = torch.empty_like(peak)
    for axis in reversed(range(1, query.ndim - 1)):
        itself = axis == query.ndim - 2  # the last axis comes first and includes the pixel itself
        for start, (q, o, m, z), (k, v) in tiles(axis, (query, out, peak, total), (key, value)):
            scores = tile_scores(q, k, None if itself else start, m.dtype)
            new_peak = scores.amax(-1, keepdim=True).div_(LOG2_E)  # [outers, lines, rows, 1]
            if not itself:
                new_peak = torch.maximum(m, new_peak)
                z.mul_((m * LOG2_E).sub_(new_peak * LOG2_E).exp2_())
            weights = scores.sub_(new_peak * LOG2_E).exp2_()  # [outers, lines, rows, L]
            new_total = weights.sum(-1, keepdim=True)
            if not itself:
                new_total += z
            weights = weights.div_(new_total).to(v.dtype)
            if itself:
                add_product(o, weights, v, first=True)
            else:
                kept = z.div_(new_total).to(o.dtype)
                torch.addcmul(product(weights, v), o, kept, out=o)
            m.copy_(new_peak)
            z.copy_(new_total)
    return out, peak, total


def backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    out: Tensor,
    peak: Tensor,
    total: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of query, key and value. Every axis adds its part, given the joint statistics."""
    delta = inner_products(grad, out, peak.dtype)
    grads = [x.new_empty(x.shape) for x in (query, key, value)]
    query_side = (query, grad, peak, total, delta, grads[0])
    key_side = (key, value, *grads[1:])
    for axis in reversed(range(1, query.ndim - 1)):
        itself = axis == query.ndim - 2
        for start, (q, g, m, z, d, dq), (k, v, dk, dv) in tiles(axis, query_side, key_side):
            scores = tile_scores(q, k, None if itself else start, m.dtype)
            weights = scores.sub_(m * LOG2_E).exp2_().div_(z)  # [outers, lines, rows, L]
            g, v = gemm_operands(g, v)
            slope = product(g, v.mT).to(m.dtype).sub_(d).mul_(weights).to(q.dtype)
            add_product(dv, weights.to(g.dtype).mT, g, first=itself and start == 0)
            add_product(dq, slope, k, first=itself)
            add_product(dk, slope.mT, q, first=itself and start == 0)
    return grads[0], grads[1], grads[2]


def inner_products(left: Tensor, right: Tensor, dtype: torch.dtype) -> Tensor:
    """Σ_c left · right for each pixel, in groups of pixels whose products stay in the cache."""
    pixels = max(1, TILE_SCORES // left.shape[-1])
    pairs = zip(left.flatten(0, -2).split(pixels), right.flatten(0, -2).split(pixels), strict=True)
    return torch.cat([(a * b).sum(-1, dtype=dtype) for a, b in pairs]).view(left.shape[:-1])


def gemm_operands(*lines: Tensor) -> Iterator[Tensor]:
    """oneDNN multiplies contiguous 16-bit operands 3 times faster (measured: torch 2.13, AMX)."""
    return (x.contiguous() if x.element_size() == 2 else x for x in lines)


def product(left: Tensor, right: Tensor) -> Tensor:
    """Matrix products of [outers, lines, ...]. With one `outer`, strided lines are not copied."""
    return torch.bmm(left[0], right[0])[None] if left.shape[0] == 1 else left @ right


def add_product(target: Tensor, left: Tensor, right: Tensor, *, first: bool) -> None:
    """target += left @ right, or target = left @ right if it is the first term of the sum."""
    if target.shape[0] != 1:
        target.copy_(left @ right) if first else target.add_(left @ right)
    elif first:
        torch.bmm(left[0], right[0], out=target[0])
    elif target.element_size() == 2:
        target[0].baddbmm_(left[0], right[0])
    else:  # in float32 an in-place product on strided lines is computed line by line
        target.add_(product(left, right))


def tile_scores(q: Tensor, k: Tensor, itself: int | None, dtype: torch.dtype) -> Tensor:
    """Scores q · k as powers of two, [outers, lines, rows, L]: 2^score is the exponential of q · k.

    On processors of AMD, PyTorch's exp2 takes a third of the time of its exp. `itself` is the
    position of the pixel of row 0 in its line; every row has −∞ at its own pixel. None: no pixel is
    left out.
    """
    scores = product(q.to(dtype) * LOG2_E, k.to(dtype).mT)
    if itself is not None:
        scores.diagonal(itself, dim1=-2, dim2=-1).fill_(-math.inf)
    return scores


def statistics_dtype(tensor: Tensor) -> torch.dtype:
    """Softmax statistics are float64 for float64 inputs and float32 for all others."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def tiles(
    axis: int, query_side: Sequence[Tensor], key_side: Sequence[Tensor]
) -> Iterator[tuple[int, list[Tensor], list[Tensor]]]:
    """Tiles along `axis`.

    Yields the position of the first row in its line, views of the tile's rows of the query-side
    tensors, and views of the whole lines of the key-side tensors. The first key-side tensor has
    channels; a tensor with one number per pixel gets a channel dimension of 1.
    """
    shape = key_side[0].shape[:-1]
    length, channels = shape[axis], max(x.shape[-1] for x in key_side)
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    rows = min(length, max(1, TILE_SCORES // length))
    lines = max(1, min(TILE_SCORES // (rows * length), TILE_VALUES // (length * channels)))
    views = [
        x.view(outer, length, inner, *x.shape[len(shape) :] or (1,))
        for x in (*query_side, *key_side)
    ]
    for group in line_groups(views, outer, inner, lines):
        of_lines, of_keys = group[: len(query_side)], group[len(query_side) :]
        if rows == length:
            yield 0, of_lines, of_keys
            continue
        for start in range(0, length, rows):
            yield start, [x[:, :, start : start + rows] for x in of_lines], of_keys


def line_groups(views: list[Tensor], outer: int, inner: int, lines: int) -> Iterator[list[Tensor]]:
    """Groups of at most `lines` lines of (outer, L, inner, C) views, as [outers, lines, L, C]."""
    if inner == 1:
        for group in even_slices(outer, lines):
            yield [x[group].movedim(2, 0) for x in views]
    elif inner <= lines:
        for group in even_slices(outer, lines // inner):
            yield [x[group].transpose(1, 2) for x in views]
    else:
        for row in range(outer):
            for group in even_slices(inner, lines):
                yield [x[row : row + 1, :, group].transpose(1, 2) for x in views]


def even_slices(count: int, most: int) -> list[slice]:
    """Cut range(count) into as few slices of at most `most` as possible, of about equal size."""
    slices = max(1, -(-count // most))
    ends = [count * i // slices for i in range(slices + 1)]
    return [slice(start, end) for start, end in itertools.pairwise(ends)]
