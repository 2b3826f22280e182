"""Everything that a report says, gathered image by image while a model is evaluated."""

import heapq
from dataclasses import dataclass
from typing import Self

import numpy as np
from jaxtyping import Float, UInt8, UInt16

from ccnet.classes import IGNORE_INDEX
from ccnet.images.colors import Palette
from ccnet.metrics import Scores, scores
from ccnet.metrics.boundary import BoundaryScores
from ccnet.metrics.calibration import Calibration, require_probabilities
from ccnet.metrics.images import CountsOfImages
from ccnet.metrics.regions import LabelErrors, Region
from ccnet.report.gallery import Gallery, Picture, new_picture
from ccnet.runtime.processes import objects_of_processes

MAX_IMAGES = 300
MAX_CROPS = 120
CROP_SIDE = 256


@dataclass(frozen=True)
class Crop:
    """The surroundings of a region."""

    picture: Picture
    box: tuple[float, float, float, float]
    """Left, top, width and height of the region in the picture, as shares of its sides."""


class Evaluation:
    """Observes the evaluation of a model; `write_report` makes a page of it.

    Give it to `evaluate` as its observer. Of each image there remain the counts of its confusion
    matrix and its suspected label errors, a few kilobytes; pictures are kept of a bounded number
    of images. Of several processes each observes its share; `gathered` merges them.

    Args:
        classes: names in the order of their indices.
        palette: one RGB color per class.
        max_images: largest number of images with a picture; of more, the worst half, the best
            quarter, and others at random.
        seed: of the random choice.
    """

    def __init__(
        self,
        classes: tuple[str, ...],
        palette: Palette,
        *,
        max_images: int = MAX_IMAGES,
        seed: int = 0,
    ) -> None:
        self.classes = classes
        self.palette = palette
        self.counts = CountsOfImages(len(classes))
        self.boundary = BoundaryScores(len(classes))
        self.calibration = Calibration()
        self.errors = LabelErrors(len(classes))
        self.gallery = Gallery(max_images, seed)
        self.crops: dict[Region, Crop] = {}

    def __call__(
        self,
        index: int,
        name: str,
        image: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"],
        label: UInt8[np.ndarray, "h w"],
        prediction: UInt8[np.ndarray, "h w"],
        confidence: Float[np.ndarray, "h w"],
    ) -> None:
        """Take in an image.

        Args:
            index: its number in the data set.
            name: its name.
            image: of any number of channels.
            label: the class of each pixel, or 255.
            prediction: the predicted classes.
            confidence: the probability of the predicted class, 0 to 1.

        Raises:
            ValueError: a label, a prediction or a confidence is out of its range.
        """
        require_probabilities(confidence)
        row = self.counts.add(index, name, label, prediction)
        labeled = label != IGNORE_INDEX
        self.boundary.add(label, prediction)
        self.calibration.add(confidence[labeled], (label == prediction)[labeled])
        self.gallery.add(index, row.iou, lambda: new_picture(image, label, prediction))
        for region in self.errors.add(index, name, label, prediction, confidence):
            if len(self.crops) < MAX_CROPS or region.score > min(r.score for r in self.crops):
                self.crops[region] = new_crop(region, image, label, prediction)
                self.keep_best_crops()

    def keep_best_crops(self) -> None:
        best = heapq.nsmallest(MAX_CROPS, self.crops, key=lambda r: (-r.score, r.index, r.box))
        self.crops = {region: self.crops[region] for region in best}

    def merge(self, other: Self) -> None:
        """Take in what another process has observed."""
        self.counts.merge(other.counts)
        self.boundary.merge(other.boundary)
        self.calibration.merge(other.calibration)
        self.errors.merge(other.errors)
        self.gallery.merge(other.gallery)
        self.crops |= other.crops
        self.keep_best_crops()

    def gathered(self) -> "Evaluation":
        """What all processes have observed together; all of them have to call it."""
        first, *others = objects_of_processes(self)
        for other in others:
            first.merge(other)
        return first

    @property
    def scores(self) -> Scores:
        """Scores of the data set. Raises ValueError without a labeled pixel."""
        return scores(self.counts.total(), self.classes)


def new_crop(
    region: Region,
    image: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"],
    label: UInt8[np.ndarray, "h w"],
    prediction: UInt8[np.ndarray, "h w"],
) -> Crop:
    """A region with surroundings of half its size, and at least 24 pixels, on each side."""
    x, y, width, height = region.box
    border = max(24, max(width, height) // 2)
    left, top = max(0, x - border), max(0, y - border)
    bottom, right = (
        min(label.shape[0], y + height + border),
        min(label.shape[1], x + width + border),
    )
    area = np.s_[top:bottom, left:right]
    picture = new_picture(image[area], label[area], prediction[area], CROP_SIDE)
    full_width, full_height = right - left, bottom - top
    box = (
        (x - left) / full_width,
        (y - top) / full_height,
        width / full_width,
        height / full_height,
    )
    return Crop(picture, box)
