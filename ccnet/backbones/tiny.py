"""A backbone of two convolutions, for the embedded scenes."""

from torch import Tensor

from ccnet.backbones.backbone import Backbone
from ccnet.backbones.layers import conv_norm_activation, initialize


class Tiny(Backbone):
    """Two 3×3 convolutions with stride 2, with a receptive field of 7×7 pixels.

    The receptive field is small on purpose: whatever a network with this backbone knows about the
    rest of the image has passed through the attention. Training takes seconds.
    """

    def __init__(self, channels: int = 64, *, in_channels: int = 3) -> None:
        super().__init__()
        if channels < 2:
            raise ValueError(f"channels is {channels}; at least 2 are needed")
        self.out_channels = (channels // 2, channels)
        self.strides, self.output_stride = (2, 4), 4
        self.conv1 = conv_norm_activation(in_channels, channels // 2, 3, stride=2)
        self.conv2 = conv_norm_activation(channels // 2, channels, 3, stride=2)
        initialize(self)

    def forward(self, images: Tensor) -> list[Tensor]:
        fine = self.conv1(images)
        return [fine, self.conv2(fine)]
