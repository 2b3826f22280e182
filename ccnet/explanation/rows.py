"""Rows of the attention matrices of all passes, without the matrices.

The weights of a pass are a matrix A over all N pixels, of which a pixel's row has H+W−1 entries
that are not 0. Attention is linear in the values, out = A v with one channel, so the operator's
vector-Jacobian product in the value is m ↦ Aᵀ m: the mass m of every pixel u spreads over the
pixels i by A_{u,i}. From mass 1 at one pixel follows its row, from that the row of a product of
matrices. Nothing of size N·(H+W) or N² is formed.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ccnet.models.attention import CrissCrossAttention, RecurrentCrissCrossAttention
from ccnet.ops import criss_cross_attention


@dataclass(frozen=True)
class Pass:
    """The attention of one pass on one image, in float64 on the CPU; γ is that of its module."""

    query: Float[Tensor, "1 d h w"]
    key: Float[Tensor, "1 d h w"]
    gamma: float
    module: CrissCrossAttention


def frozen_passes(
    attention: RecurrentCrissCrossAttention, features: Float[Tensor, "1 c h w"]
) -> tuple[list[Pass], list[Float[Tensor, "1 c h w"]]]:
    """All passes on the features H, and the features that enter each of them."""
    passes, inputs = [], []
    with torch.no_grad():
        for index in range(attention.recurrence):
            module = attention.attention(index)
            query, key, _ = module.project(features)
            query, key = (x.cpu().double() for x in (query, key))
            passes.append(Pass(query, key, module.gamma.item(), module))
            inputs.append(features)
            features = module(features)
    return passes, inputs


def spread(attention: Pass, mass: Float[Tensor, "k h w"]) -> Float[Tensor, "k h w"]:
    """Aᵀ m for each of k maps: the mass of every pixel, spread over what it attends to."""
    with torch.enable_grad():
        value = torch.zeros_like(mass[None]).requires_grad_()
        out = criss_cross_attention(attention.query, attention.key, value)
        (spread_mass,) = torch.autograd.grad(out, value, mass[None])
    return spread_mass[0]


def mass_at(attention: Pass, cell: tuple[int, int]) -> Float[Tensor, "1 h w"]:
    """Mass 1 at one feature (row, column)."""
    mass = attention.query.new_zeros(1, *attention.query.shape[-2:])
    mass[0, *cell] = 1
    return mass


def reach(passes: Sequence[Pass], cell: tuple[int, int]) -> list[Float[Tensor, "h w"]]:
    """A feature's row of A_R, of A_R A_{R−1}, and so on to A_R…A_1; each sums to 1."""
    mass, rows = mass_at(passes[-1], cell), []
    for attention in reversed(passes):
        mass = spread(attention, mass)
        rows.append(mass[0])
    return rows


def influence(passes: Sequence[Pass], cell: tuple[int, int]) -> Float[Tensor, "h w"]:
    """A feature's row of (I + γ_R A_R)…(I + γ_1 A_1); it sums to the product of all 1 + γ_r."""
    mass = mass_at(passes[-1], cell)
    for attention in reversed(passes):
        mass = mass + attention.gamma * spread(attention, mass)
    return mass[0]


def entropy(attention: Pass) -> Float[Tensor, "h w"]:
    """The entropy of every feature's attention weights in one pass, in nats.

    It is 0 where one position has all the weight and log(H+W−1) where all have the same. With
    scores s_i and their log-sum-exp l it is −Σ a_i (s_i − l) = l − q_u · Σ a_i k_i: one call of the
    operator with the keys as its values.
    """
    query, key = (x.movedim(1, -1) for x in (attention.query, attention.key))
    mean_key, peak, total = torch.ops.ccnet.criss_cross_attention(query, key, key)
    return (peak + total.log() - (query * mean_key).sum(-1))[0].clamp(min=0)
