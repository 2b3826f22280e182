"""Confusion counts of every image, from which scores of images and of resampled sets are made."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import torch
from jaxtyping import Float, Int, Int64, UInt8
from torch import Tensor

from ccnet.classes import IGNORE_INDEX


@dataclass(frozen=True)
class ImageCounts:
    """The confusion matrix of one image, of which only cells with pixels are kept."""

    index: int
    """Number of the image in its data set."""
    name: str
    size: tuple[int, int]
    """Height and width in pixels."""
    num_classes: int
    cells: Int[np.ndarray, " cells"]
    """Class of the label · num_classes + predicted class, ascending."""
    pixels: Int64[np.ndarray, " cells"]
    """Number of pixels in each cell."""

    @property
    def labeled(self) -> int:
        """Number of labeled pixels."""
        return int(self.pixels.sum())

    @property
    def accuracy(self) -> float | None:
        """Share of the labeled pixels that are predicted correctly; None without any."""
        is_right = self.cells // self.num_classes == self.cells % self.num_classes
        return float(self.pixels[is_right].sum() / self.labeled) if self.labeled else None

    @property
    def iou(self) -> float | None:
        """Mean intersection over union of the classes in the label; None without a labeled pixel.

        A class that is only predicted takes pixels from the others, but has no IoU of its own here:
        otherwise a single wrong pixel would halve the score of an image of one class.
        """
        intersection, labeled, predicted = self.sums()
        present = labeled > 0
        if not present.any():
            return None
        union = (labeled + predicted - intersection)[present]
        return float((intersection[present] / union).mean())

    def sums(self) -> Int64[np.ndarray, "3 classes"]:
        """Correct, labeled and predicted pixels of each class."""
        rows, columns = np.divmod(self.cells, self.num_classes)
        is_right = rows == columns
        sums = np.zeros((3, self.num_classes), np.int64)
        np.add.at(sums[0], rows[is_right], self.pixels[is_right])
        np.add.at(sums[1], rows, self.pixels)
        np.add.at(sums[2], columns, self.pixels)
        return sums


class CountsOfImages:
    """Collects the counts of the images of a data set, each process those of its share.

    Args:
        num_classes: number of classes, at most 255.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.rows: list[ImageCounts] = []

    def add(
        self,
        index: int,
        name: str,
        label: UInt8[np.ndarray, "h w"],
        prediction: UInt8[np.ndarray, "h w"],
    ) -> ImageCounts:
        """Count an image; returns its counts. Raises ValueError for values that are no class."""
        pairs = pair_counts(label, prediction, self.num_classes).ravel()
        cells = np.flatnonzero(pairs)
        size = label.shape[0], label.shape[1]
        row = ImageCounts(index, name, size, self.num_classes, cells.astype(np.int32), pairs[cells])
        self.rows.append(row)
        return row

    def merge(self, other: Self) -> None:
        """Take the images of another process; the order is that of the data set again."""
        self.rows = sorted(self.rows + other.rows, key=lambda row: row.index)

    def total(self) -> Int[Tensor, "classes classes"]:
        """The confusion matrix of all images; rows are labels."""
        total = np.zeros(self.num_classes**2, np.int64)
        for row in self.rows:
            total[row.cells] += row.pixels
        return torch.from_numpy(total).view(self.num_classes, self.num_classes)

    def sums(self) -> Int64[np.ndarray, "images 3 classes"]:
        """Correct, labeled and predicted pixels of each class in each image."""
        empty = np.zeros((0, 3, self.num_classes), np.int64)
        return np.stack([row.sums() for row in self.rows]) if self.rows else empty


def pair_counts(
    label: UInt8[np.ndarray, "h w"], prediction: UInt8[np.ndarray, "h w"], num_classes: int
) -> Int64[np.ndarray, "classes classes"]:
    """Pixels of each pair (label, prediction), without those whose label is 255.

    Raises:
        ValueError: a label is neither a class nor 255, or a prediction there is no class.
    """
    kept = label != IGNORE_INDEX
    rows, columns = label[kept], prediction[kept]
    for what, values in (("labels", rows), ("predictions", columns)):
        if values.size and values.max() >= num_classes:
            raise ValueError(f"{what} are 0 to {num_classes - 1}, got {values.max()}")
    pairs = np.bincount(rows.astype(np.int32) * num_classes + columns, minlength=num_classes**2)
    return pairs.reshape(num_classes, num_classes)


def miou_of_sums(sums: Float[np.ndarray, "*sets 3 classes"]) -> Float[np.ndarray, "*sets"]:
    """mIoU of sets of images, from their correct, labeled and predicted pixels of each class.

    As in `Scores`, a class without labeled and predicted pixels is left out; nan without any class.
    """
    intersection, labeled, predicted = np.moveaxis(sums, -2, 0)
    union = labeled + predicted - intersection
    occurs = union > 0
    total = np.divide(intersection, union, out=np.zeros_like(union), where=occurs).sum(-1)
    counted = occurs.sum(-1)
    return np.divide(total, counted, out=np.full(total.shape, np.nan), where=counted > 0)
