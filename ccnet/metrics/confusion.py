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
    pixels: dict[str, int]
    """Labeled pixels of each class."""
    unpredicted: tuple[str, ...] = ()
    """Classes that occur in the labels and in no prediction."""

    def to_dict(self) -> dict[str, Any]:
        """The fields, and as "absent" the classes that the means leave out."""
        lists = {"unpredicted": list(self.unpredicted), "absent": list(self.absent)}
        return asdict(self) | lists

    @property
    def absent(self) -> tuple[str, ...]:
        """Classes that occur neither in the labels nor in the predictions."""
        return tuple(name for name, iou in self.iou.items() if iou is None)

    @property
    def labeled(self) -> tuple[str, ...]:
        """Classes with at least one labeled pixel."""
        return tuple(name for name, count in self.pixels.items() if count)

    @property
    def warnings(self) -> list[str]:
        """What makes the means say less than they seem to, a sentence each."""
        sentences = []
        if self.absent:
            num_counted = len(self.iou) - len(self.absent)
            sentences.append(
                f"mIoU is over {num_counted} of {len(self.iou)} classes; "
                f"never seen: {', '.join(self.absent)}"
            )
        predicted_only = [
            name for name, iou in self.iou.items() if iou is not None and not self.pixels[name]
        ]
        if predicted_only:
            sentences.append(
                f"predicted, but never labeled, so that the IoU is 0: {', '.join(predicted_only)}"
            )
        if self.unpredicted:
            sentences.append(
                f"labeled, but never predicted, so that the IoU is 0: {', '.join(self.unpredicted)}"
            )
        if len(self.labeled) == 1 < len(self.iou):
            sentences.append(
                f"every labeled pixel is {self.labeled[0]}, so the scores do not tell whether the "
                "model can distinguish classes"
            )
        return sentences


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
        pixels=dict(zip(classes, confusion.sum(1).tolist(), strict=True)),
        unpredicted=tuple(
            name
            for name, is_missed in zip(classes, (labeled > 0) & (predicted == 0), strict=True)
            if is_missed
        ),
    )


def require_labels_of_several_classes(scores: Scores) -> None:
    """Raises ValueError if there are several classes, and all labeled pixels are of one of them.

    Their mIoU would be 1.0 for a model that has learned nothing. This is what becomes of masks of 0
    and 255 whose 255 is read as ignored.
    """
    if len(scores.labeled) == 1 < len(scores.iou):
        missing = [name for name in scores.iou if name not in scores.labeled]
        raise ValueError(
            f"every labeled pixel is {scores.labeled[0]!r}, so scores would say nothing about "
            f"{', '.join(map(repr, missing[:3]))}{' and others' if len(missing) > 3 else ''}; for "
            "masks of 0 and 255 write `mapping: {0: 0, 255: 1}` in dataset.yaml"
        )
