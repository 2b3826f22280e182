"""MobileNetV2, dilated."""

from functools import partial

from torch import Tensor, nn

from ccnet.backbones.backbone import Backbone
from ccnet.backbones.layers import (
    OUTPUT_STRIDES,
    conv_norm_activation,
    convolution,
    initialise,
    require,
    strides_and_dilations,
)


class MobileNetV2(Backbone):
    """Inverted residuals at width 1.0, for processors without an accelerator.

    Returns the last map of each stride, five in all, the coarsest with 320 channels. The network's
    own last 1×1 convolution, to 1280 channels, is left out: it feeds the ImageNet classifier, and
    would make the head's 3×3 convolutions four times dearer. Parameter names are torchvision's;
    the dilation is ResNet's "contract".
    """

    _STAGES = (1, 3, 6, 13, 17)

    def __init__(self, *, output_stride: int = 8, in_channels: int = 3):
        super().__init__()
        require("output_stride", output_stride, OUTPUT_STRIDES)
        # Table 2 of Sandler et al. (2018): expansion, channels and number of the blocks, stride
        expansions, widths = (1, 6, 6, 6, 6, 6, 6), (16, 24, 32, 64, 96, 160, 320)
        counts, strides = (1, 2, 3, 4, 3, 3, 1), (1, 2, 2, 2, 1, 2, 1)
        features: list[nn.Module] = [
            nn.Sequential(*conv_norm_activation(in_channels, 32, 3, stride=2, activation=nn.ReLU6))
        ]
        channels = 32
        spread = strides_and_dilations(strides, 2, output_stride)
        rows = zip(expansions, widths, counts, spread, strict=True)
        for expansion, width, count, (stride, before, after) in rows:
            features.append(_InvertedResidual(channels, width, stride, before, expansion))
            for _ in range(count - 1):
                features.append(_InvertedResidual(width, width, 1, after, expansion))
            channels = width
        self.features = nn.Sequential(*features)
        self.out_channels = (16, 24, 32, 96, 320)
        self.output_stride = output_stride
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        maps = []
        for index, block in enumerate(self.features):
            images = block(images)
            if index in self._STAGES:
                maps.append(images)
        return maps


class _InvertedResidual(nn.Module):
    def __init__(self, in_channels: int, width: int, stride: int, dilation: int, expansion: int):
        super().__init__()
        hidden = in_channels * expansion
        step = partial(conv_norm_activation, activation=nn.ReLU6)
        depthwise = step(hidden, hidden, 3, stride=stride, dilation=dilation, groups=hidden)
        steps = [depthwise] if expansion == 1 else [step(in_channels, hidden, 1), depthwise]
        self.conv = nn.Sequential(
            *(nn.Sequential(*layers) for layers in steps),
            convolution(hidden, width, 1),
            nn.BatchNorm2d(width),
        )
        # Both from the published network: a block that once had a stride has other channels too
        self.is_residual = in_channels == width

    def forward(self, features: Tensor) -> Tensor:
        update = self.conv(features)
        return features + update if self.is_residual else update
