"""Scores from one confusion matrix over a whole data set."""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from ccnet.classes import IGNORE_INDEX


@dataclass(frozen=True)
class Scores:
    """Scores of a data set, all between 0 and 1.

    A class that occurs neither in the labels nor in the predictions has no IoU: None.
    """

    miou: float
    """Mean intersection over union of the classes that have one."""
    pixel_accuracy: float
    """Share of the labeled pixels that are predicted correctly."""
    mean_accuracy: float
    """Share of its pixels that are predicted correctly, averaged over the classes in the labels."""
    iou: dict[str, float | None]
    """Intersection over union of each class."""

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


class ConfusionMatrix:
    """Counts of (label, prediction) pairs; pixels with label 255 are not counted.

    `counts` is (classes, classes) of int64 on the CPU; rows are labels, columns predictions.
    """

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


def scores(confusion: Int[Tensor, "classes classes"], classes: tuple[str, ...]) -> Scores:
    """Scores of the counts of a confusion matrix, whose rows are labels.

    Raises:
        ValueError: the matrix is empty, or of another size than the number of classes.
    """
    if confusion.shape != (len(classes), len(classes)):
        raise ValueError(
            f"expected a {len(classes)}×{len(classes)} matrix, got {tuple(confusion.shape)}"
        )
    if confusion.sum() == 0:
        raise ValueError("no pixel has a label other than 255, so there is nothing to score")
    counts = confusion.double()
    correct, labeled, predicted = counts.diag(), counts.sum(1), counts.sum(0)
    iou = correct / (labeled + predicted - correct)  # nan (0/0) where a class never occurs
    accuracy = correct / labeled
    return Scores(
        miou=iou.nanmean().item(),
        pixel_accuracy=(correct.sum() / counts.sum()).item(),
        mean_accuracy=accuracy.nanmean().item(),
        iou={
            name: None if value.isnan() else value.item()
            for name, value in zip(classes, torch.unbind(iou), strict=True)
        },
    )
