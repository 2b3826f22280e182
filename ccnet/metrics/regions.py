"""Connected regions of an image, and those of them in which the label is probably wrong."""

from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, Float64, Int, Int64, UInt8

from ccnet.classes import IGNORE_INDEX
from ccnet.metrics.boundary import near_border

MIN_CONFIDENCE = 0.5
"""Where the winning class is less likely than all others together, nothing is suspected."""
MARGIN_SHARE = 0.005
"""Distance to borders of objects within which labels are inexact, as a share of the diagonal."""
MIN_AREA_SHARE, MIN_AREA = 0.0005, 16
"""Smallest region, as a share of the image's pixels and in pixels."""


@dataclass(frozen=True)
class Region:
    """A connected region of an image where the label has one class and the model sees another."""

    index: int
    """Number of the image in its data set."""
    name: str
    label: int
    prediction: int
    box: tuple[int, int, int, int]
    """Left and top pixel, width and height."""
    pixels: int
    confidence: float
    """Mean probability of the predicted class."""

    @property
    def score(self) -> float:
        """Size · confidence, by which suspected errors are ranked."""
        return self.pixels * self.confidence


class LabelErrors:
    """Collects regions where the model is confident and the label disagrees.

    This is the idea of confident learning (Northcutt et al., JAIR 2021) for regions instead of
    pixels. A class has a threshold: the mean confidence of the pixels that are labeled and
    predicted as that class. A region is suspected if its mean confidence in the predicted class
    reaches that class's threshold, and at least one half. Pixels near a border of an object, in the
    label or in the prediction, and small regions are left out: there, labels are inexact rather
    than wrong. A suspicion is no proof; a model can be wrong with confidence.

    Args:
        num_classes: number of classes, at most 255.
    """

    def __init__(self, num_classes: int) -> None:
        self.num_classes = num_classes
        self.pixels = np.zeros(num_classes, np.int64)
        self.total_confidence = np.zeros(num_classes)
        self.candidates: list[Region] = []

    def add(
        self,
        index: int,
        name: str,
        label: UInt8[np.ndarray, "h w"],
        prediction: UInt8[np.ndarray, "h w"],
        confidence: Float[np.ndarray, "h w"],
    ) -> list[Region]:
        """Look at an image; returns the regions that are suspected by the thresholds so far."""
        is_right = label == prediction
        right = label[is_right]
        self.pixels += np.bincount(right, minlength=self.num_classes)
        self.total_confidence += np.bincount(
            right, confidence[is_right], minlength=self.num_classes
        )
        found = disagreements(index, name, label, prediction, confidence)
        self.candidates += found
        return self.suspected(found)

    def merge(self, other: Self) -> None:
        """Take the images of another process."""
        self.pixels += other.pixels
        self.total_confidence += other.total_confidence
        self.candidates += other.candidates

    @property
    def thresholds(self) -> Float64[np.ndarray, " classes"]:
        """The confidence that a region needs in each class; infinite for one never found."""
        mean = np.divide(
            self.total_confidence,
            self.pixels,
            out=np.full(self.num_classes, np.inf),
            where=self.pixels > 0,
        )
        return np.maximum(mean, MIN_CONFIDENCE)

    def suspected(self, regions: list[Region] | None = None) -> list[Region]:
        """Those of `regions`, by default of all images, that are suspected; largest score first."""
        thresholds = self.thresholds
        found = [
            region
            for region in (self.candidates if regions is None else regions)
            if region.confidence >= thresholds[region.prediction]
        ]
        return sorted(found, key=lambda r: (-r.score, r.index, r.box))


def disagreements(
    index: int,
    name: str,
    label: UInt8[np.ndarray, "h w"],
    prediction: UInt8[np.ndarray, "h w"],
    confidence: Float[np.ndarray, "h w"],
) -> list[Region]:
    """The regions of an image where label and prediction differ, away from borders of both."""
    height, width = label.shape
    candidate = (label != IGNORE_INDEX) & (label != prediction) & (confidence >= MIN_CONFIDENCE)
    if not candidate.any():
        return []
    margin = max(1, round(MARGIN_SHARE * float(np.hypot(height, width))))
    candidate &= ~near_border(label, margin) & ~near_border(prediction, margin)
    min_area = max(MIN_AREA, round(MIN_AREA_SHARE * height * width))
    kind = label.astype(np.int32) * 256 + prediction
    runs = connected_runs(np.where(candidate, kind, -1))
    num_regions = int(runs.region.max(initial=-1)) + 1
    area = np.bincount(runs.region, runs.length, minlength=num_regions)
    sums = np.add.reduceat(
        np.append(confidence.ravel().astype(np.float64), 0),
        np.stack([runs.start, runs.start + runs.length], 1).ravel(),
    )[::2]
    total = np.bincount(runs.region, sums, minlength=num_regions)
    found = []
    for region in np.flatnonzero(area >= min_area):
        own = runs.region == region
        (rows, left), length = np.divmod(runs.start[own], width), runs.length[own]
        x, y = int(left.min()), int(rows.min())
        box = x, y, int((left + length).max()) - x, int(rows.max()) + 1 - y
        true, seen = divmod(int(runs.kind[own][0]), 256)
        pixels = int(area[region])
        found.append(Region(index, name, true, seen, box, pixels, float(total[region]) / pixels))
    return found


@dataclass(frozen=True)
class Runs:
    """Pixels of one kind side by side in a row; runs with the same `region` are connected."""

    start: Int64[np.ndarray, " runs"]
    """Number of the first pixel, row by row."""
    length: Int64[np.ndarray, " runs"]
    kind: Int[np.ndarray, " runs"]
    region: Int64[np.ndarray, " runs"]


def connected_runs(kinds: Int[np.ndarray, "h w"]) -> Runs:
    """The regions of pixels of one kind that touch along an edge; kind −1 belongs to none.

    Regions are numbered from 0 in the order of their first pixels.
    """
    height, width = kinds.shape
    begins = np.ones((height, width), bool)
    begins[:, 1:] = kinds[:, 1:] != kinds[:, :-1]
    start = np.flatnonzero(begins)
    length = np.diff(start, append=height * width)
    kind = kinds.ravel()[start]
    kept = kind >= 0
    start, length, kind = start[kept], length[kept], kind[kept]
    above, below = touching(start, length, width)
    same = kind[above] == kind[below]
    region = components(len(start), above[same], below[same])
    return Runs(start, length, kind, region)


def touching(
    start: Int64[np.ndarray, " runs"], length: Int64[np.ndarray, " runs"], width: int
) -> tuple[Int64[np.ndarray, " pairs"], Int64[np.ndarray, " pairs"]]:
    """Pairs of runs, one in the row below the other, that have a column in common."""
    end = start + length
    # runs are in order, so those below a run are consecutive
    first = np.searchsorted(end, start + width, side="right")
    last = np.searchsorted(start, end + width, side="left")
    count = last - first
    above = np.repeat(np.arange(len(start)), count)
    offset = np.arange(count.sum()) - np.repeat(count.cumsum() - count, count)
    return above, np.repeat(first, count) + offset


def components(
    number: int, first: Int64[np.ndarray, " pairs"], second: Int64[np.ndarray, " pairs"]
) -> Int64[np.ndarray, " number"]:
    """The connected component of each of `number` nodes, given pairs that are connected.

    Trees of nodes are hooked to smaller roots and flattened until no pair has two roots.
    """
    root = np.arange(number)
    while (first_root := root[first]).size and (
        differs := first_root != (second_root := root[second])
    ).any():
        low = np.minimum(first_root, second_root)[differs]
        high = np.maximum(first_root, second_root)[differs]
        np.minimum.at(root, high, low)
        while not np.array_equal(root, flat := root[root]):
            root = flat
    return np.unique(root, return_inverse=True)[1]
