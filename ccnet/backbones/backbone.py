"""The interface of all backbones."""

from torch import Tensor, nn

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class Backbone(nn.Module):
    """A network that turns images (B, C, H, W), with sides of at least 32, into feature maps.

    `forward` returns the maps from fine to coarse. The last map goes to the attention, the one
    before it to the auxiliary head, and finer ones to the head's refinement. The side of a map is
    the side of the image divided by the map's stride, rounded up; it can be one pixel more in a
    ResNet with `ceil_mode`, and one pixel less in a network of timm.

    Attributes:
        out_channels: the number of channels of each map.
        strides: image pixels per pixel of each map.
        output_stride: image pixels per pixel of the last map.
        mean, std: mean and standard deviation of each channel with which the weights were trained,
            for RGB images of 0 to 255.
    """

    out_channels: tuple[int, ...]
    strides: tuple[int, ...]
    output_stride: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def first_convolution(self) -> str:
        """Key, in the state dict, of the weight that is applied to the image."""
        return next(key for key, value in self.state_dict().items() if value.ndim == 4)

    def forward(self, images: Tensor) -> list[Tensor]:
        raise NotImplementedError
