"""Criss-cross attention on the CPU, tile by tile: no tensor of size N·(H+W) is made or kept.

Tensors are contiguous (B, *spatial, channels). Seen along one axis such a tensor is
(outer, L, inner, channels) without a copy; a tile is a group of its lines, each an L × channels
matrix whose rows lie `inner · channels` apart. DESIGN.md derives the merge and the gradient.
"""

import math
from collections.abc import Iterator

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
        for q, k, v, o, m, z in tiles(axis, query, key, value, out, peak, total):
            scores = line_scores(q, k, itself, m.dtype)
            new_peak = scores.amax(-1, keepdim=True)  # [lines, L, 1]
            if not itself:
                new_peak = torch.maximum(m, new_peak)
                z.mul_((m - new_peak).exp_())
            weights = scores.sub_(new_peak).exp_()  # [lines, L, L]
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
    tensors = (query, key, value, grad, peak, total, delta, *grads)
    for axis in range(1, query.ndim - 1):
        itself = axis == query.ndim - 2
        for q, k, v, g, m, z, d, dq, dk, dv in tiles(axis, *tensors):
            weights = line_scores(q, k, itself, m.dtype).sub_(m).exp_().div_(z)  # [lines, L, L]
            dv += torch.bmm(weights.to(g.dtype).mT, g)
            slope = torch.bmm(g, v.mT).to(m.dtype).sub_(d).mul_(weights).to(q.dtype)
            dq += torch.bmm(slope, k)
            dk += torch.bmm(slope.mT, q)
    return grads


def line_scores(q: Tensor, k: Tensor, itself: bool, dtype: torch.dtype) -> Tensor:
    """q · k within each line, [lines, L, L]; −∞ on the diagonal unless `itself` counts."""
    scores = torch.bmm(q.to(dtype), k.to(dtype).mT)
    if not itself:
        scores.diagonal(dim1=-2, dim2=-1).fill_(-math.inf)
    return scores


def statistics_dtype(tensor: Tensor) -> torch.dtype:
    """Softmax statistics are float64 for float64 inputs and float32 for all others."""
    return torch.float64 if tensor.dtype == torch.float64 else torch.float32


def tiles(axis: int, *tensors: Tensor) -> Iterator[list[Tensor]]:
    """Views [lines, L, channels] of the same group of lines along `axis` in every tensor.

    The first tensor has channels; one that is a number a pixel comes as one channel.
    """
    shape = tensors[0].shape[:-1]
    length = shape[axis]
    outer, inner = math.prod(shape[:axis]), math.prod(shape[axis + 1 :])
    lines = max(1, TILE_SCORES // (length * length))
    views = [x.view(outer, length, inner, *x.shape[len(shape) :] or (1,)) for x in tensors]
    if inner == 1:
        for start in range(0, outer, lines):
            yield [x[start : start + lines, :, 0] for x in views]
    else:
        for row in range(outer):
            for start in range(0, inner, lines):
                yield [x[row, :, start : start + lines].transpose(0, 1) for x in views]
