"""Attention inside a detector: Mask R-CNN with criss-cross attention in its ResNet.

As in the paper's COCO experiment, one recurrent module stands before the last block of the fourth
stage (res4, which torchvision and `ccnet.backbones` call layer3). γ starts at 0, so the detector
first computes what it did before, and trained weights are a good start: load them first, since the
last block's parameters then have one number more in their names.

    python examples/mask_rcnn.py          needs torchvision
"""

import torch
from torch import nn

from ccnet import RecurrentCrissCrossAttention


def add_attention(stage: nn.Sequential, recurrence: int = 2) -> RecurrentCrissCrossAttention:
    """Insert the attention before a ResNet stage's last block, in place; returns the new module.

    Raises ValueError for a stage of one block, whose input still has another stage's size.
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
