"""What a backbone is."""

from torch import Tensor, nn

IMAGENET_MEAN = (123.675, 116.28, 103.53)
IMAGENET_STD = (58.395, 57.12, 57.375)


class Backbone(nn.Module):
    """The contract: images (B, C, H, W), sides at least 32, to a list of maps, fine to coarse.

    `out_channels` has one entry a map. The last map has `output_stride` and goes to the attention,
    the one before it to the auxiliary head. A map's side is the image's over its stride, rounded up
    (ResNet with `ceil_mode` can have one pixel more, a timm network one less).
    `mean` and `std` are what its weights want taken off RGB images of 0–255 and divided by.
    """

    out_channels: tuple[int, ...]
    output_stride: int
    mean: tuple[float, ...] = IMAGENET_MEAN
    std: tuple[float, ...] = IMAGENET_STD

    @property
    def first_convolution(self) -> str:
        """Key of the weight that the image's channels go into."""
        return next(key for key, value in self.state_dict().items() if value.ndim == 4)

    def forward(self, images: Tensor) -> list[Tensor]:
        raise NotImplementedError
