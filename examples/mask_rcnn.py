"""Criss-cross attention in a detector: Mask R-CNN with the attention in its ResNet.

As in the COCO experiment of the paper, one recurrent module is inserted before the last block of
res4, the stage that torchvision and `ccnet.backbones` call layer3. γ starts at 0, so the detector
first computes the same as before, and trained weights remain useful. Load them before inserting the
module, because it shifts the number of the last block in the parameter names by one.

    python examples/mask_rcnn.py

This needs torchvision, and downloads trained weights (170 MB).
"""

import torch
from torch import nn

from ccnet import RecurrentCrissCrossAttention


def add_attention(stage: nn.Sequential, recurrence: int = 2) -> RecurrentCrissCrossAttention:
    """Insert the attention before the last block of a ResNet stage, in place.

    Args:
        stage: The blocks of the stage.
        recurrence: R, the number of passes of attention.

    Returns:
        The new module.

    Raises:
        ValueError: The stage has one block only, whose input has the size of the stage before.
    """
    if len(stage) < 2:
        raise ValueError(f"the stage must have two blocks or more, got {len(stage)}")
    channels = stage[-1].conv1.in_channels
    attention = RecurrentCrissCrossAttention(channels, recurrence)
    stage.insert(len(stage) - 1, attention)
    return attention


def main() -> None:
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    detector = maskrcnn_resnet50_fpn(weights="DEFAULT").eval()
    images = torch.rand(1, 3, 480, 640)
    with torch.inference_mode():
        before = detector.backbone(images)
        attention = add_attention(detector.backbone.body.layer3)
        after = detector.backbone(images)
    change = max((after[key] - before[key]).abs().max() for key in before)
    largest = max(features.abs().max() for features in before.values())
    print(f"features changed by {change / largest:.1e} of the largest at the start")
    print("new parameters:", sum(p.numel() for p in attention.parameters()))


if __name__ == "__main__":
    main()
