"""MobileNetV2, dilated."""

from functools import partial

from torch import Tensor, nn

from ccnet.backbones.backbone import Backbone
from ccnet.backbones.layers import (
    OUTPUT_STRIDES,
    conv_norm_activation,
    convolution,
    initialize,
    require,
    strides_and_dilations,
)


class MobileNetV2(Backbone):
    """MobileNetV2 at width 1.0 (Sandler et al. 2018), for processors without an accelerator.

    `forward` returns the last map of each stride, five in all; the coarsest has 320 channels. The
    final 1×1 convolution to 1280 channels is left out: it serves the ImageNet classifier only, and
    would quadruple the cost of the head's 3×3 convolutions. Parameters have torchvision's names.
    Strides are replaced by dilation as in `ResNet` with `dilation="contract"`.

    Args:
        output_stride: image pixels per pixel of the last map, 8, 16 or 32.
        in_channels: channels of the image.
    """

    _STAGES = (1, 3, 6, 13, 17)

    def __init__(self, *, output_stride: int = 8, in_channels: int = 3) -> None:
        super().__init__()
        require("output_stride", output_stride, OUTPUT_STRIDES)
        # Table 2 of the paper: expansion factor, channels, number of blocks, stride
        expansions, widths = (1, 6, 6, 6, 6, 6, 6), (16, 24, 32, 64, 96, 160, 320)
        counts, strides = (1, 2, 3, 4, 3, 3, 1), (1, 2, 2, 2, 1, 2, 1)
        features: list[nn.Module] = [conv_norm_activation(in_channels, 32, 3, "relu6", stride=2)]
        channels = 32
        dilated = strides_and_dilations(strides, 2, output_stride)
        rows = zip(expansions, widths, counts, dilated, strict=True)
        for expansion, width, count, (stride, before, after) in rows:
            features.append(_InvertedResidual(channels, width, stride, before, expansion))
            for _ in range(count - 1):
                features.append(_InvertedResidual(width, width, 1, after, expansion))
            channels = width
        self.features = nn.Sequential(*features)
        self.out_channels = (16, 24, 32, 96, 320)
        self.strides = tuple(min(stride, output_stride) for stride in (2, 4, 8, 16, 32))
        self.output_stride = output_stride
        initialize(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for index, block in enumerate(self.features):
            images = block(images)
            if index in self._STAGES:
                maps.append(images)
        return maps


class _InvertedResidual(nn.Module):
    def __init__(
        self, in_channels: int, width: int, stride: int, dilation: int, expansion: int
    ) -> None:
        super().__init__()
        hidden = in_channels * expansion
        layer = partial(conv_norm_activation, activation="relu6")
        depthwise = layer(hidden, hidden, 3, stride=stride, dilation=dilation, groups=hidden)
        layers = [depthwise] if expansion == 1 else [layer(in_channels, hidden, 1), depthwise]
        self.conv = nn.Sequential(*layers, convolution(hidden, width, 1), nn.BatchNorm2d(width))
        # As in the published network: blocks whose stride was removed change the channels too
        self.is_residual = in_channels == width

    def forward(self, features: Tensor) -> Tensor:
        update = self.conv(features)
        return features + update if self.is_residual else update
