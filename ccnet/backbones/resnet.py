"""Dilated residual networks with three kinds of stem.

"Dilated" means that the last strides are removed and the convolutions after them are dilated
instead, so that weights that were trained at stride 32 give a map at stride 8 (paper section 3.1).
"""

from typing import Literal

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

RESNETS = {
    18: (2, 2, 2, 2),
    34: (3, 4, 6, 3),
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
}
STEMS = {"plain": (64,), "deep_32": (32, 32, 64), "deep_64": (64, 64, 128)}


class ResNet(Backbone):
    """A residual network (He et al. 2016), dilated.

    `forward` returns the map of the stem, at stride 2, and those of the four layers.

    Args:
        depth: 18, 34, 50, 101 or 152.
        in_channels: channels of the image.
        output_stride: image pixels per pixel of the last map, 8, 16 or 32.
        stem: "plain" is one 7×7 convolution to 64 channels, with torchvision's parameter names.
            "deep_32" has three 3×3 convolutions to 32, 32 and 64 channels (ResNet-v1c,
            mmsegmentation), "deep_64" three to 64, 64 and 128 channels (the CCNet authors); their
            parameter names start with `stem.`.
        dilation: in a layer whose stride was removed and whose dilation is d, "uniform" dilates
            every 3×3 convolution by d (the authors). "contract" dilates the convolution that lost
            its stride by d/2 only (torchvision, mmsegmentation); the map then contains the map of
            the network with strides and adds new pixels between its pixels.
        ceil_mode: round the size after the max pooling up. With it a side of 1024 pixels gives 129
            at stride 8 instead of 128; a side of 769 gives 97 either way.
    """

    def __init__(
        self,
        depth: int,
        *,
        in_channels: int = 3,
        output_stride: int = 8,
        stem: Literal["plain", "deep_32", "deep_64"] = "plain",
        dilation: Literal["contract", "uniform"] = "contract",
        ceil_mode: bool = False,
    ) -> None:
        super().__init__()
        require("depth", depth, tuple(RESNETS))
        require("output_stride", output_stride, OUTPUT_STRIDES)
        require("stem", stem, tuple(STEMS))
        require("dilation", dilation, ("contract", "uniform"))
        block = _BasicBlock if depth < 50 else _Bottleneck
        widths = STEMS[stem]
        if stem == "plain":
            self.stem = None
            self.conv1 = convolution(in_channels, widths[0], 7, stride=2)
            self.bn1 = nn.BatchNorm2d(widths[0])
            self.relu = nn.ReLU(inplace=True)
        else:
            self.stem = nn.Sequential(
                *conv_norm_activation(in_channels, widths[0], 3, stride=2),
                *conv_norm_activation(widths[0], widths[1], 3),
                *conv_norm_activation(widths[1], widths[2], 3),
            )
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1, ceil_mode=ceil_mode)
        channels, layers = widths[-1], []
        strides = strides_and_dilations((1, 2, 2, 2), 4, output_stride)
        for index, (stride, before, after) in enumerate(strides):
            first = after if dilation == "uniform" else before
            width = 64 * 2**index
            blocks = [block(channels, width, stride, (first, after))]
            channels = width * block.expansion
            for _ in range(RESNETS[depth][index] - 1):
                blocks.append(block(channels, width, 1, (after, after)))
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        of_layers = (width * block.expansion for width in (64, 128, 256, 512))
        self.out_channels = (widths[-1], *of_layers)
        self.strides = tuple(min(stride, output_stride) for stride in (2, 4, 8, 16, 32))
        self.output_stride = output_stride
        initialize(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        if self.stem is None:
            maps = [self.relu(self.bn1(self.conv1(images)))]
        else:
            maps = [self.stem(images)]
        maps.append(self.layer1(self.maxpool(maps[0])))
        for layer in (self.layer2, self.layer3, self.layer4):
            maps.append(layer(maps[-1]))
        return maps


class _BasicBlock(nn.Module):
    expansion = 1

    def __init__(
        self, in_channels: int, width: int, stride: int, dilations: tuple[int, int]
    ) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, width, 3, stride=stride, dilation=dilations[0])
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, dilation=dilations[1])
        self.bn2 = nn.BatchNorm2d(width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, width, stride)

    def forward(self, features: Tensor) -> Tensor:
        update = self.relu(self.bn1(self.conv1(features)))
        update = self.bn2(self.conv2(update))
        return self.relu(update + self.downsample(features))


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(
        self, in_channels: int, width: int, stride: int, dilations: tuple[int, int]
    ) -> None:
        super().__init__()
        self.conv1 = convolution(in_channels, width, 1)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride=stride, dilation=dilations[0])
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, 4 * width, 1)
        self.bn3 = nn.BatchNorm2d(4 * width)
        self.relu = nn.ReLU(inplace=True)
        self.downsample = _shortcut(in_channels, 4 * width, stride)

    def forward(self, features: Tensor) -> Tensor:
        update = self.relu(self.bn1(self.conv1(features)))
        update = self.relu(self.bn2(self.conv2(update)))
        update = self.bn3(self.conv3(update))
        return self.relu(update + self.downsample(features))


def _shortcut(in_channels: int, out_channels: int, stride: int) -> nn.Module:
    if stride == 1 and in_channels == out_channels:
        return nn.Identity()
    return nn.Sequential(
        convolution(in_channels, out_channels, 1, stride=stride), nn.BatchNorm2d(out_channels)
    )
