"""The head's refinement: fused features meet finer maps of the backbone before the classifier."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from ccnet.backbones.layers import conv_norm_activation

WIDEST, WIDTH_PER_STRIDE = 128, 32
"""Channels of a stage, and those for each image pixel of its stride: at stride 2, where pixels are
four times as many, half as many channels, so that the stage has the cost of the one before it."""


class Refinement(nn.Module):
    """Features at finer strides, for objects that are thinner than the stride of the attention.

    There is one `RefinementStage` for each finer map, from coarse to fine, as in feature pyramids
    (Lin et al. 2017).

    Args:
        in_channels: number of channels of the features.
        finer_channels: number of channels of each finer map.
        strides: stride of each finer map. A stage has 128 channels, 64 at stride 2 and 32 at stride
            1, but not more than the stage before it.
        activation: a name in `ccnet.backbones.layers.ACTIVATIONS`.
        align_corners: how features are upsampled, as in `torch.nn.functional.interpolate`.

    Attributes:
        out_channels: number of channels of the refined features.
    """

    def __init__(
        self,
        in_channels: int,
        finer_channels: Sequence[int],
        strides: Sequence[int],
        *,
        activation: str,
        align_corners: bool,
    ) -> None:
        super().__init__()
        if len(strides) != len(finer_channels) or not strides:
            raise ValueError(
                f"refinement needs one finer map per stride, got {len(strides)} strides and "
                f"{len(finer_channels)} maps"
            )
        self.stages = nn.ModuleList()
        for stride, channels in zip(strides, finer_channels, strict=True):
            width = min(WIDEST, WIDTH_PER_STRIDE * stride, in_channels)
            self.stages.append(
                RefinementStage(in_channels, channels, width, activation, align_corners)
            )
            in_channels = width
        self.out_channels = in_channels

    def forward(
        self, features: Float[Tensor, "b x h w"], finer: Sequence[Float[Tensor, "b _ _ _"]]
    ) -> Float[Tensor, "b y _ _"]:
        """Features at the size of the last of the finer maps, which come from coarse to fine."""
        for stage, one in zip(self.stages, finer, strict=True):
            features = stage(features, one)
        return features


class RefinementStage(nn.Module):
    """The sum of upsampled features and a finer map, each after a 1×1 convolution, through a 3×3.

    The features get their new channels before they are upsampled, which costs less. The output has
    the size of the finer map.
    """

    def __init__(
        self,
        in_channels: int,
        finer_channels: int,
        width: int,
        activation: str,
        align_corners: bool,
    ) -> None:
        super().__init__()
        self.align_corners = align_corners
        self.projection = nn.Conv2d(in_channels, width, 1)
        self.finer_projection = nn.Conv2d(finer_channels, width, 1)
        self.fusion = conv_norm_activation(width, width, 3, activation)

    def forward(
        self, features: Float[Tensor, "b x h w"], finer: Float[Tensor, "b y h2 w2"]
    ) -> Float[Tensor, "b z h2 w2"]:
        upsampled = F.interpolate(
            self.projection(features),
            finer.shape[-2:],
            mode="bilinear",
            align_corners=self.align_corners,
        )
        return self.fusion(upsampled + self.finer_projection(finer))


def finer_maps(strides: Sequence[int], refinement: Sequence[int] | None) -> tuple[int, ...]:
    """The index of the backbone's map for each stride of a refinement.

    Args:
        strides: of the backbone's maps, from fine to coarse; the last is that of the attention.
        refinement: strides, from coarse to fine; None for no refinement.

    Raises:
        ValueError: the backbone has no map of a stride that is finer than that of the attention.
    """
    known = [stride for stride in strides if stride < strides[-1]]
    for stride in refinement or ():
        if stride not in known:
            finer = ", ".join(map(str, sorted(set(known), reverse=True))) or "none"
            raise ValueError(
                f"refinement needs maps of the backbone that are finer than its output stride "
                f"{strides[-1]}, got stride {stride}; there are maps of stride {finer}"
            )
    return tuple(strides.index(stride) for stride in refinement or ())
