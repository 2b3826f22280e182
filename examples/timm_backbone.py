"""Any of timm's feature extractors as the encoder of a criss-cross segmentation network.

`CCNetHead` is the paper's head: reduction, recurrent attention, fusion, classifier. It takes the
last map of whatever stands before it.

    python examples/timm_backbone.py [resnet18]          needs timm
"""

import sys

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccnet import CCNetHead


class TimmSegmentation(nn.Module):
    """Normalised images (B, 3, H, W) → logits (B, classes, H, W).

    Args:
        name: a timm network that has `features_only`.
        num_classes: channels of the logits.
        channels: channels that the attention works on.
        output_stride: 8, 16 or 32, of the map that it works on; not every network can be dilated,
            and timm raises for those that can't.
        pretrained: whether timm downloads ImageNet weights.
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
