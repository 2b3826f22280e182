"""Criss-cross attention as layers (paper sections 3.2 and 3.3)."""

from typing import cast

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ccnet.models.recompute import recompute
from ccnet.ops import criss_cross_attention

CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class CrissCrossAttention(nn.Module):
    """One pass: every pixel gathers from its row and column, H'_u = γ Σ_i A_{i,u} v_i + H_u.

    query, key and value are 1×1 convolutions with bias, to max(1, channels // reduction) channels
    for query and key; their weights are applied as one matrix product (`project`). γ is learned and
    starts at 0, so that a new module is the identity.

    Args:
        channels: C of the input and output, (B, C, *spatial).
        reduction: how many times fewer channels query and key have.
        dims: number of spatial axes, 1, 2 or 3.
        backend: handed to `criss_cross_attention`.
    """

    def __init__(
        self, channels: int, reduction: int = 8, dims: int = 2, *, backend: str | None = None
    ) -> None:
        super().__init__()
        if channels < 1 or reduction < 1:
            raise ValueError(f"channels and reduction must be ≥ 1, got {channels} and {reduction}")
        if dims not in CONVOLUTIONS:
            raise ValueError(f"dims must be 1, 2 or 3, got {dims}")
        conv = CONVOLUTIONS[dims]
        reduced = max(1, channels // reduction)
        self.query_conv = conv(channels, reduced, 1)
        self.key_conv = conv(channels, reduced, 1)
        self.value_conv = conv(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))
        self.backend = backend

    def forward(self, features: Float[Tensor, "b c *spatial"]) -> Float[Tensor, "b c *spatial"]:
        query, key, value = self.project(features)
        context = criss_cross_attention(query, key, value, backend=self.backend)
        return context + features

    def project(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """query, key (B, D, *spatial) and γ value (B, C, *spatial), parts of one tensor.

        Attention is linear in the values: γ costs nothing in the weights and two passes behind it.
        """
        convs = (self.query_conv, self.key_conv, self.value_conv)
        weights, biases = zip(*((conv.weight.flatten(1), conv.bias) for conv in convs), strict=True)
        weight = torch.cat([*weights[:2], self.gamma * weights[2]])  # [2D + C, C]
        bias = torch.cat([*biases[:2], self.gamma * biases[2]])
        projected = F.linear(features.movedim(1, -1), weight, bias).movedim(-1, 1)
        query, key, value = projected.split([conv.out_channels for conv in convs], dim=1)
        return query, key, value

    def extra_repr(self) -> str:
        return f"backend={self.backend!r}"


class RecurrentCrissCrossAttention(nn.Module):
    """R passes of criss-cross attention; two reach every pixel from every pixel.

    Paper section 3.3.

    Args:
        channels, reduction, dims, backend: as for `CrissCrossAttention`.
        recurrence: R ≥ 0, the number of passes; 0 is the identity and has no parameters.
        shared: whether all passes share one set of weights, as in the paper.
        recompute: keep only the input for the backward pass, which runs all passes again: at
            (1, 512, 97, 97) float32 18 MiB instead of 61 a pass, for the same gradient.
    """

    def __init__(
        self,
        channels: int,
        recurrence: int = 2,
        reduction: int = 8,
        dims: int = 2,
        shared: bool = True,
        *,
        backend: str | None = None,
        recompute: bool = False,
    ) -> None:
        super().__init__()
        if recurrence < 0:
            raise ValueError(f"recurrence must be ≥ 0, got {recurrence}")
        self.recurrence = recurrence
        self.recompute = recompute
        num_modules = min(1, recurrence) if shared else recurrence
        self.passes = nn.ModuleList(
            CrissCrossAttention(channels, reduction, dims, backend=backend)
            for _ in range(num_modules)
        )

    def forward(self, features: Float[Tensor, "b c *spatial"]) -> Float[Tensor, "b c *spatial"]:
        if self.recompute and self.recurrence > 0:
            return recompute(self.all_passes, features)
        return self.all_passes(features)

    def all_passes(self, features: Tensor) -> Tensor:
        for index in range(self.recurrence):
            features = self.attention(index)(features)
        return features

    def attention(self, index: int) -> CrissCrossAttention:
        """The module of one pass: the same one each time where the weights are shared."""
        return cast(CrissCrossAttention, self.passes[index % len(self.passes)])

    def extra_repr(self) -> str:
        return f"recurrence={self.recurrence}, recompute={self.recompute}"
