"""A segmentation network from any feature extractor of timm and the head of CCNet.

`CCNetHead` is the head of the paper: reduction, recurrent attention, fusion and classifier. Its
input is the last feature map of the encoder.

    python examples/timm_backbone.py [resnet18]

This needs timm.
"""

import sys

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccnet import CCNetHead


class TimmSegmentation(nn.Module):
    """Normalized images (B, 3, H, W) → logits (B, classes, H, W).

    Args:
        name: A network of timm that supports `features_only`.
        num_classes: Channels of the logits.
        channels: Channels of the attention.
        output_stride: Image pixels per feature pixel: 8, 16 or 32. timm raises an error for a
            network that cannot be dilated to it.
        pretrained: Whether timm downloads ImageNet weights.
    """

    def __init__(
        self,
        name: str,
        num_classes: int,
        channels: int = 512,
        output_stride: int = 8,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        self.encoder = timm.create_model(
            name, features_only=True, output_stride=output_stride, pretrained=pretrained
        )
        in_channels = self.encoder.feature_info.channels()[-1]
        self.head = CCNetHead(in_channels, num_classes, channels)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.head(self.encoder(images)[-1])
        return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


def main(name: str = "resnet18") -> None:
    model = TimmSegmentation(name, num_classes=19, channels=128).eval()
    with torch.inference_mode():
        print(name, tuple(model(torch.rand(1, 3, 193, 257)).shape))


if __name__ == "__main__":
    main(*sys.argv[1:])
