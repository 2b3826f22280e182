"""Scores from one confusion matrix over a whole data set (torchmetrics underneath)."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from ccnet.transforms import IGNORE_INDEX


@dataclass(frozen=True)
class Scores:
    """All in 0 to 1. A class that is neither in the labels nor predicted has no IoU (None)."""

    miou: float
    """Mean intersection over union of the classes that have one."""
    pixel_accuracy: float
    """Share of the labelled pixels that are right."""
    mean_accuracy: float
    """Mean over the classes in the labels of the share of their pixels that are right."""
    iou: dict[str, float | None]
    """Intersection over union of each class."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class ConfusionMatrix(MulticlassConfusionMatrix):
    """Counts of (label, prediction) pairs; pixels with label 255 are left out."""

    def __init__(self, num_classes: int) -> None:
        super().__init__(num_classes, ignore_index=IGNORE_INDEX, validate_args=False)

    def scores(self, classes: tuple[str, ...]) -> Scores:
        return scores(self.compute(), classes)


def scores(confusion: Tensor, classes: tuple[str, ...]) -> Scores:
    """Scores of a confusion matrix (classes, classes) whose rows are labels.

    Raises ValueError for an empty one.
    """
    if confusion.shape != (len(classes), len(classes)):
        raise ValueError(
            f"expected a {len(classes)}×{len(classes)} matrix, got {tuple(confusion.shape)}"
        )
    if confusion.sum() == 0:
        raise ValueError("no pixel has a label other than 255, so there is nothing to score")
    counts = confusion.double()
    correct, labelled, predicted = counts.diag(), counts.sum(1), counts.sum(0)
    iou = correct / (labelled + predicted - correct)  # 0/0, nan, where a class never occurs
    accuracy = correct / labelled
    return Scores(
        miou=iou.nanmean().item(),
        pixel_accuracy=(correct.sum() / counts.sum()).item(),
        mean_accuracy=accuracy.nanmean().item(),
        iou={
            name: None if value.isnan() else value.item()
            for name, value in zip(classes, torch.unbind(iou), strict=True)
        },
    )
