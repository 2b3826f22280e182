"""Scores from one confusion matrix over a whole data set."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ccnet.classes import IGNORE_INDEX


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


class ConfusionMatrix:
    """Counts of (label, prediction) pairs; pixels with label 255 are left out."""

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, prediction: Int[Tensor, "b h w"], label: Int[Tensor, "b h w"]) -> None:
        """Add a batch. Raises ValueError for a label that is neither a class nor 255."""
        kept = label != IGNORE_INDEX
        rows, columns = label[kept].long(), prediction[kept].long()
        wrong = rows[(rows < 0) | (rows >= self.num_classes)]
        if wrong.numel():
            raise ValueError(
                f"labels are 0 to {self.num_classes - 1} or {IGNORE_INDEX}, got {wrong[0]}"
            )
        pairs = torch.bincount(self.num_classes * rows + columns, minlength=self.counts.numel())
        self.counts += pairs.view_as(self.counts).to(self.counts.device)

    def compute(self) -> Int[Tensor, "classes classes"]:
        """All counts so far; rows are labels."""
        return self.counts

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
