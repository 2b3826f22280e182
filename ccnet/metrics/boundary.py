"""How good predictions are at the borders of objects: boundary IoU, accuracy by distance."""

from collections.abc import Callable, Sequence
from typing import Self

import numpy as np
from jaxtyping import Bool, Float, Int64, UInt8

from ccnet.classes import IGNORE_INDEX

SHARE_OF_DIAGONAL = 0.02
"""Width of the boundary in boundary IoU, as a share of the image's diagonal."""
DISTANCES = (1, 2, 4, 8, 16, 32)
"""Largest distance to a border, in pixels, of each band; a last band has what is farther away."""


class BoundaryScores:
    """Boundary IoU of each class, and accuracy by the distance to a border of the label.

    Boundary IoU (Cheng et al., CVPR 2021) compares only those pixels of a class that are at most
    some distance from its contour, in the label and in the prediction. The edge of the image is
    part of the contour, as in the authors' program. Distances are those of the 3×3 square: a pixel
    beside one of another class, also diagonally, has distance 1. What the label ignores is neither
    a class nor a border. Intersections and unions are added up over the images.

    Args:
        num_classes: number of classes, at most 255.
        share: distance of boundary IoU as a share of the image's diagonal.
    """

    def __init__(self, num_classes: int, share: float = SHARE_OF_DIAGONAL) -> None:
        self.num_classes = num_classes
        self.share = share
        self.intersection = np.zeros(num_classes, np.int64)
        self.union = np.zeros(num_classes, np.int64)
        self.band_pixels = np.zeros(len(DISTANCES) + 1, np.int64)
        self.band_correct = np.zeros(len(DISTANCES) + 1, np.int64)

    def add(
        self, label: UInt8[np.ndarray, "h w"], prediction: UInt8[np.ndarray, "h w"]
    ) -> UInt8[np.ndarray, "h w"]:
        """Count an image; returns the band of each pixel, as `bands` does."""
        intersection, union = boundary_counts(label, prediction, self.num_classes, self.share)
        self.intersection += intersection
        self.union += union
        band = bands(label)
        kept = label != IGNORE_INDEX
        num_bands = len(self.band_pixels)
        self.band_pixels += np.bincount(band[kept], minlength=num_bands)
        self.band_correct += np.bincount(band[kept & (label == prediction)], minlength=num_bands)
        return band

    def merge(self, other: Self) -> None:
        """Add the counts of another process."""
        for name in ("intersection", "union", "band_pixels", "band_correct"):
            getattr(self, name)[:] += getattr(other, name)

    @property
    def iou(self) -> Float[np.ndarray, " classes"]:
        """Boundary IoU of each class, nan for one that never occurs."""
        return ratio(self.intersection, self.union)

    @property
    def mean_iou(self) -> float:
        """Mean boundary IoU of the classes that occur."""
        return float(np.nanmean(self.iou))

    @property
    def band_accuracy(self) -> Float[np.ndarray, " bands"]:
        """Share of each band's pixels that are predicted correctly, nan for an empty band."""
        return ratio(self.band_correct, self.band_pixels)


def boundary_counts(
    label: UInt8[np.ndarray, "h w"],
    prediction: UInt8[np.ndarray, "h w"],
    num_classes: int,
    share: float = SHARE_OF_DIAGONAL,
) -> tuple[Int64[np.ndarray, " classes"], Int64[np.ndarray, " classes"]]:
    """Intersection and union of the boundaries of each class in one image, in pixels."""
    distance = boundary_distance(label.shape, share)
    # the unlabeled pixels are taken out of both, so that a prediction without error has 1
    prediction = np.where(label == IGNORE_INDEX, np.uint8(IGNORE_INDEX), prediction)
    in_label, in_prediction = (
        (labels != IGNORE_INDEX) & near_contour(labels, distance) for labels in (label, prediction)
    )
    both = in_label & in_prediction & (label == prediction)
    intersection, labeled, predicted = (
        np.bincount(pixels, minlength=num_classes)
        for pixels in (label[both], label[in_label], prediction[in_prediction])
    )
    return intersection, labeled + predicted - intersection


def boundary_distance(shape: Sequence[int], share: float = SHARE_OF_DIAGONAL) -> int:
    """A share of the diagonal of an image (height, width) in whole pixels, at least 1."""
    return max(1, round(share * float(np.hypot(shape[0], shape[1]))))


def near_contour(labels: UInt8[np.ndarray, "h w"], distance: int) -> Bool[np.ndarray, "h w"]:
    """Pixels with another class, or the edge of the image, at most `distance` away."""
    near = near_border(labels, distance)
    near[:distance] = near[-distance:] = True
    near[:, :distance] = near[:, -distance:] = True
    return near


def near_border(labels: UInt8[np.ndarray, "h w"], distance: int) -> Bool[np.ndarray, "h w"]:
    """Pixels with two different classes at most `distance` away; 255 is no class."""
    lowest, highest = extrema(*as_extrema(labels), distance)
    return highest - np.uint8(1) != lowest


def bands(
    label: UInt8[np.ndarray, "h w"], distances: Sequence[int] = DISTANCES
) -> UInt8[np.ndarray, "h w"]:
    """The band of each pixel: the number of distances that are smaller than that to a border.

    A border is a pixel of another class in the label, which neither 255 nor the edge is.

    Args:
        label: the class of each pixel, or 255.
        distances: in pixels, ascending.
    """
    band = np.zeros(label.shape, np.uint8)
    lowest, highest = as_extrema(label)
    reached = 0
    for distance in distances:
        lowest, highest = extrema(lowest, highest, distance - reached)
        reached = distance
        band += highest - np.uint8(1) == lowest
    return band


Extremum = UInt8[np.ndarray, "h w"]


def as_extrema(labels: UInt8[np.ndarray, "h w"]) -> tuple[Extremum, Extremum]:
    """The lowest class of each pixel's own window, and the highest plus 1; 255 and 0 for none."""
    return labels, labels + np.uint8(1)  # 255 + 1 is 0 in uint8


def extrema(lowest: Extremum, highest: Extremum, distance: int) -> tuple[Extremum, Extremum]:
    """`as_extrema` of windows that reach `distance` pixels farther on all sides."""
    return (
        spread(lowest, distance, np.minimum, IGNORE_INDEX),
        spread(highest, distance, np.maximum, 0),
    )


def spread(
    values: Extremum,
    distance: int,
    combine: Callable[[np.ndarray, np.ndarray], np.ndarray],
    outside: int,
) -> Extremum:
    """The combination of all values at most `distance` rows and columns away.

    The window doubles with each pass, so the cost grows with the logarithm of the distance.
    """
    values = np.pad(values, distance, constant_values=outside)
    for axis in (0, 1):
        covered, window = 1, 2 * distance + 1
        while covered < window:
            step = min(covered, window - covered)
            front, back = [slice(None)] * 2, [slice(None)] * 2
            front[axis], back[axis] = slice(None, -step), slice(step, None)
            values = combine(values[tuple(front)], values[tuple(back)])
            covered += step
    return values


def ratio(part: Int64[np.ndarray, " n"], whole: Int64[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """part / whole, nan where the whole is 0."""
    return np.divide(part, whole, out=np.full(len(part), np.nan), where=whole > 0)
