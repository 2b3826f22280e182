"""The context modules that context_modules.py compares, written from their papers.

Each takes features (B, C, H, W) and returns as many, with the context of each pixel in them, so
that any of them can stand in the place of the attention in the head of CCNet.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccnet import RecurrentCrissCrossAttention
from ccnet.backbones.layers import conv_norm_activation

MODULES = ("none", "ppm", "aspp", "non-local", "rcca 1", "rcca 2")
RATES = (6, 12, 18)
"""Of ASPP at an output stride of 16; at 8 its paper doubles them."""


def context_module(name: str, channels: int, rates: Sequence[int] = RATES) -> nn.Module:
    """One of MODULES.

    Args:
        name: of the module.
        channels: of its input and output.
        rates: dilations of ASPP.
    """
    if name.startswith("rcca "):
        return RecurrentCrissCrossAttention(channels, int(name.removeprefix("rcca ")))
    builders: dict[str, Callable[[], nn.Module]] = {
        "none": nn.Identity,
        "ppm": lambda: PyramidPooling(channels),
        "aspp": lambda: AtrousPyramid(channels, rates),
        "non-local": lambda: NonLocal(channels),
    }
    return builders[name]()


class PyramidPooling(nn.Module):
    """PPM: averages over grids of several sizes (Zhao et al. 2017, section 3.2).

    Each grid's averages get a quarter of the channels by a 1×1 convolution and are upsampled; a
    1×1 convolution fuses them with the input. In the paper that one is 3×3; here the head's own
    3×3 convolution follows.
    """

    def __init__(self, channels: int, grids: Sequence[int] = (1, 2, 3, 6)) -> None:
        super().__init__()
        width = channels // len(grids)
        self.levels = nn.ModuleList(
            nn.Sequential(nn.AdaptiveAvgPool2d(size), *conv_norm_activation(channels, width, 1))
            for size in grids
        )
        self.fusion = conv_norm_activation(channels + len(grids) * width, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        size = features.shape[-2:]
        levels = [F.interpolate(level(features), size, mode="bilinear") for level in self.levels]
        return self.fusion(torch.cat([features, *levels], 1))


class AtrousPyramid(nn.Module):
    """ASPP: dilated convolutions and the global average (Chen et al. 2017, DeepLabv3).

    A 1×1 convolution, a 3×3 one for each rate, and the average of the map, each with half of the
    channels (256 of 512, as in the paper), are fused by a 1×1 convolution.
    """

    def __init__(self, channels: int, rates: Sequence[int] = RATES) -> None:
        super().__init__()
        width = channels // 2
        self.branches = nn.ModuleList([conv_norm_activation(channels, width, 1)])
        for rate in rates:
            self.branches.append(conv_norm_activation(channels, width, 3, dilation=rate))
        self.average = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), *conv_norm_activation(channels, width, 1)
        )
        self.fusion = conv_norm_activation((len(rates) + 2) * width, channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        branches = [branch(features) for branch in self.branches]
        average = self.average(features).expand_as(branches[0])
        return self.fusion(torch.cat([*branches, average], 1))


class NonLocal(nn.Module):
    """Attention to all N pixels, γ · softmax(q·k) v + H (Wang et al. 2018, embedded Gaussian).

    Query, key and value are those of criss-cross attention: C/8, C/8 and C channels, with γ from
    0, without a factor 1/√d. A map of 97×97×512 then takes the 108 GFLOP that CCNet's paper
    reports. All N² weights are stored, as published.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.query_conv = nn.Conv2d(channels, channels // 8, 1)
        self.key_conv = nn.Conv2d(channels, channels // 8, 1)
        self.value_conv = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(1))

    def forward(self, features: Tensor) -> Tensor:
        query, key, value = (
            conv(features).flatten(2).mT
            for conv in (self.query_conv, self.key_conv, self.value_conv)
        )
        context = (query @ key.mT).softmax(-1) @ value
        return self.gamma * context.mT.unflatten(-1, features.shape[-2:]) + features
