"""Two models on the same images: is the difference of their mIoU more than chance?"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from ccnet.metrics.confusion import Scores, scores
from ccnet.metrics.images import CountsOfImages, ImageCounts, miou_of_sums

NUM_RESAMPLED = 10_000
LEVEL = 0.95


@dataclass(frozen=True)
class ImageDifference:
    """An image and its IoU by two models."""

    index: int
    name: str
    iou: tuple[float, float]
    """Mean IoU over the classes in the label, by A and by B."""

    @property
    def difference(self) -> float:
        return self.iou[1] - self.iou[0]


@dataclass(frozen=True)
class Comparison:
    """How much better model B is than model A, by a paired bootstrap over the images."""

    scores: tuple[Scores, Scores]
    """Of A and of B on the whole data set."""
    difference: float
    """mIoU of B minus mIoU of A."""
    interval: tuple[float, float]
    """The difference in the middle 95 % of the resampled data sets."""
    p_value: float
    """Two-sided: how often resampled data sets contradict the sign of the difference, doubled."""
    num_images: int
    num_resampled: int
    images: tuple[ImageDifference, ...]
    """Every image with labeled pixels, that on which the models differ most first."""

    @property
    def is_significant(self) -> bool:
        """Whether a difference of zero is outside the interval."""
        return self.interval[0] > 0 or self.interval[1] < 0

    def to_dict(self) -> dict[str, Any]:
        """The content as JSON has it."""
        images = [{**asdict(image), "difference": image.difference} for image in self.images]
        return {
            **{name: value.to_dict() for name, value in zip("ab", self.scores, strict=True)},
            "difference": self.difference,
            "interval": list(self.interval),
            "level": LEVEL,
            "p_value": self.p_value,
            "num_images": self.num_images,
            "num_resampled": self.num_resampled,
            "images": images,
        }


def compare_counts(
    a: CountsOfImages,
    b: CountsOfImages,
    classes: tuple[str, ...],
    *,
    num_resampled: int = NUM_RESAMPLED,
    seed: int = 0,
) -> Comparison:
    """Compare two models by their counts on the same images.

    The images are drawn with replacement, as many as there are, `num_resampled` times. Each time
    both models are scored on the same drawn images, with one confusion matrix as usual. This tells
    how the difference would vary with other images of this kind; the variation from one training to
    the next is not in it.

    Args:
        a, b: counts of the two models, of the same images with the same labels.
        classes: names of the classes.
        num_resampled: number of drawn data sets.
        seed: of the draws.

    Raises:
        ValueError: the images or their labels differ, or no pixel is labeled.
    """
    require_same_images(a.rows, b.rows)
    both = scores(a.total(), classes), scores(b.total(), classes)
    differences = resampled_differences(a.sums(), b.sums(), num_resampled, seed)
    tail = (1 - LEVEL) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    contradicting = min((differences <= 0).sum(), (differences >= 0).sum())
    images = [
        ImageDifference(row.index, row.name, (row.iou, other.iou))
        for row, other in zip(a.rows, b.rows, strict=True)
        if row.iou is not None and other.iou is not None
    ]
    return Comparison(
        scores=both,
        difference=both[1].miou - both[0].miou,
        interval=(float(low), float(high)),
        p_value=min(1.0, 2 * float(contradicting + 1) / (len(differences) + 1)),
        num_images=len(a.rows),
        num_resampled=num_resampled,
        images=tuple(sorted(images, key=lambda i: (-abs(i.difference), i.index))),
    )


def require_same_images(a: Sequence[ImageCounts], b: Sequence[ImageCounts]) -> None:
    """Raises ValueError unless both have the same images, in the same order, with equal labels."""
    if len(a) != len(b):
        raise ValueError(f"the models were scored on {len(a)} and {len(b)} images")
    for row, other in zip(a, b, strict=True):
        same_image = (row.index, row.name) == (other.index, other.name)
        if not same_image or not np.array_equal(row.sums()[1], other.sums()[1]):
            raise ValueError(
                f"the models were scored on different images or labels: {row.name} and {other.name}"
            )


def resampled_differences(
    a: Int64[np.ndarray, "images 3 classes"],
    b: Int64[np.ndarray, "images 3 classes"],
    number: int,
    seed: int,
) -> Float64[np.ndarray, " drawn"]:
    """mIoU of B minus that of A on data sets of images drawn with replacement.

    Drawn data sets without a labeled pixel have no mIoU and are left out.
    """
    rng = np.random.default_rng(seed)
    num_images = len(a)
    stacked = np.stack([a, b]).swapaxes(0, 1).reshape(num_images, -1).astype(np.float64)
    chunk = max(1, 2**22 // num_images)  # so many numbers at once
    found = []
    for start in range(0, number, chunk):
        draws = min(chunk, number - start)
        times = rng.multinomial(num_images, np.full(num_images, 1 / num_images), draws)
        sums = (times.astype(np.float64) @ stacked).reshape(draws, 2, *a.shape[1:])
        miou = miou_of_sums(sums)
        found.append(miou[:, 1] - miou[:, 0])
    differences = np.concatenate(found)
    return differences[np.isfinite(differences)]
