"""The definition of criss-cross attention in plain PyTorch. All other forms are tested against it.

Tensors are channels-last here, (B, *spatial, channels), with one, two or three spatial axes.
"""

import torch
from torch import Tensor


def criss_cross_attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """out_u = Σ_i softmax_i(q_u · k_i) v_i over the pixels i that differ in at most one coordinate.

    (B, *spatial, D), (B, *spatial, D), (B, *spatial, C) → (B, *spatial, C).
    """
    weights = attention_weights(query, key)
    return torch.stack([attend(w, value, axis) for axis, w in enumerate(weights, start=1)]).sum(0)


def attention_weights(query: Tensor, key: Tensor) -> tuple[Tensor, ...]:
    """The attention weights of every pixel, one tensor (B, *spatial, L_axis) per spatial axis.

    The softmax is joint: the weights of one pixel sum to 1 over all axes together.
    """
    scores = axis_scores(query, key)
    lengths = [score.shape[-1] for score in scores]
    return torch.cat(scores, dim=-1).softmax(dim=-1).split(lengths, dim=-1)


def axis_scores(query: Tensor, key: Tensor) -> list[Tensor]:
    """Scores q_u · k_i for the pixels i on each axis through u, (B, *spatial, L_axis) per axis.

    The pixel u lies on all axes. It has its score on the last axis and −∞ on the others.
    """
    scores = []
    last = query.ndim - 2
    for axis in range(1, last + 1):
        score = query.movedim(axis, -2) @ key.movedim(axis, -2).mT  # [B, *others, L, L]
        if axis != last:
            itself = torch.eye(score.shape[-1], dtype=torch.bool, device=score.device)
            score = score.masked_fill(itself, float("-inf"))
        scores.append(score.movedim(-2, axis))
    return scores


def attend(weights: Tensor, value: Tensor, axis: int) -> Tensor:
    """Σ_i weights_i v_i along one axis: (B, *spatial, L), (B, *spatial, C) → (B, *spatial, C)."""
    return (weights.movedim(axis, -2) @ value.movedim(axis, -2)).movedim(-2, axis)
