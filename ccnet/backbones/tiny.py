"""A backbone of two convolutions, for the embedded scenes."""

from torch import Tensor, nn

from ccnet.backbones.backbone import Backbone
from ccnet.backbones.layers import conv_norm_activation, initialise


class Tiny(Backbone):
    """Two 3×3 convolutions with stride 2: trains in seconds, and sees 7×7 pixels.

    So small a receptive field is the point: whatever a network on top of it knows about the rest of
    the image came through the attention.
    """

    def __init__(self, channels: int = 64, *, in_channels: int = 3):
        super().__init__()
        if channels < 2:
            raise ValueError(f"channels is {channels}; at least 2 are needed")
        self.out_channels = (channels // 2, channels)
        self.output_stride = 4
        self.conv1 = nn.Sequential(*conv_norm_activation(in_channels, channels // 2, 3, stride=2))
        self.conv2 = nn.Sequential(*conv_norm_activation(channels // 2, channels, 3, stride=2))
        initialise(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.conv1(images)
        return [fine, self.conv2(fine)]
