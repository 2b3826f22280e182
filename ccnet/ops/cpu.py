"""Criss-cross attention on the CPU, tile by tile: no tensor of size N·(H+W) is made or kept.

Tensors are contiguous (B, *spatial, channels). Seen along one axis such a tensor is
(outer, L, inner, channels) without a copy. A tile is a group of its lines, or some rows of one
line where a line alone is too long; DESIGN.md derives the merge and the gradient.
"""

import math
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

TILE_SCORES = 1 << 18  # of one tile: 1 MiB in float32, within a second-level cache


def forward(query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The attention (B, *spatial, C); of each pixel's scores the peak and Σ exp(score − peak)."""
    out = value.new_empty(value.shape)
    peak = query.new_empty(query.shape[:-1], dtype=statistics_dtype(query))
    total = torch.empty_like(peak)
    for axis in reversed(range(1, query.ndim - 1)):
        itself = axis == query.ndim - 2  # the last axis comes first and counts the pixel itself
        for start, (q, o, m, z), (k, v) in tiles(axis, (query, out, peak, total), (key, value)):
            scores = tile_scores(q, k, None if itself else start, m.dtype)
            new_peak = scores.amax(-1, keepdim=True)  # [lines, rows, 1]
            if not itself:
                new_peak = torch.maximum(m, new_peak)
                z.mul_((m - new_peak).exp_())
            weights = scores.sub_(new_peak).exp_()  # [lines, rows, L]
            new_total = weights.sum(-1, keepdim=True)
            if not itself:
                new_total += z
            context = torch.bmm(weights.div_(new_total).to(v.dtype), v)
            if itself:
                o.copy_(context)
            else:
                o.mul_(z.div_(new_total)).add_(context)
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
    """Gradients of query, key and value; every axis adds its own from the joint statistics."""
    delta = (grad * out).sum(-1, dtype=peak.dtype)
    grads = (torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value))
    query_side = (query, grad, peak, total, delta, grads[0])
    key_side = (key, value, *grads[1:])
    for axis in range(1, query.ndim - 1):
        itself = axis == query.ndim - 2
        for start, (q, g, m, z, d, dq), (k, v, dk, dv) in tiles(axis, query_side, key_side):
            scores = tile_scores(q, k, None if itself else start, m.dtype)
            weights = scores.sub_(m).exp_().div_(z)  # [lines, rows, L]
            dv += torch.bmm(weights.to(g.dtype).mT, g)
            slope = torch.bmm(g, v.mT).to(m.dtype).sub_(d).mul_(weights).to(q.dtype)
            dq += torch.bmm(slope, k)
            dk += torch.bmm(slope.mT, q)
    return grads


def tile_scores(q: Tensor, k: Tensor, itself: int | None, dtype: torch.dtype) -> Tensor:
    """q · k within each line, [lines, rows, L]; −∞ at the pixel itself, `itself` on in row 0."""
    scores = torch.bmm(q.to(dtype), k.to(dtype).mT)
    if itself is not None:
        scores.diagonal(itself, dim1=-2, dim2=-1).fill_(-math.inf)
    return scores


def statistics_dtype(tensor: Tensor) -> torch.dtype:
    """Softmax statistics are float64 for float64 inputs and float32 for all others."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def tiles(
    axis: int, query_side: Sequence[Tensor], key_side: Sequence[Tensor]
) -> Iterator[tuple[int, list[Tensor], list[Tensor]]]:
    """Tiles along `axis`: the first row, [lines, rows, channels] and [lines, L, channels] views.

    The first key-side tensor has channels; one that is a number a pixel comes as one channel.
    """
    shape = key_side[0].shape[:-1]
    length = shape[axis]
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    rows = min(length, max(1, TILE_SCORES // length))
    lines = max(1, TILE_SCORES // (rows * length))
    views = [
        x.view(outer, length, inner, *x.shape[len(shape) :] or (1,))
        for x in (*query_side, *key_side)
    ]
    for group in line_groups(views, outer, inner, lines):
        for start in range(0, length, rows):
            of_rows = [x[:, start : start + rows] for x in group[: len(query_side)]]
            yield start, of_rows, group[len(query_side) :]


def line_groups(views: list[Tensor], outer: int, inner: int, lines: int) -> Iterator[list[Tensor]]:
    """The lines of (outer, L, inner, channels) views, at most `lines` at a time, [lines, L, C]."""
    if inner == 1:
        for start in range(0, outer, lines):
            yield [x[start : start + lines, :, 0] for x in views]
    else:
        for row in range(outer):
            for start in range(0, inner, lines):
                yield [x[row, :, start : start + lines].transpose(0, 1) for x in views]
