"""What a data set is like, as far as choices depend on it."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from statistics import median_low

import numpy as np
from jaxtyping import UInt8

from ccnet.classes import IGNORE_INDEX
from ccnet.datasets import DataError, SegmentationDataset

MAX_SAMPLES = 200
"""Number of images that are read; more would change no choice."""


@dataclass(frozen=True)
class DataFacts:
    """Numbers of a data set; sizes, shares and widths are those of at most `MAX_SAMPLES` images."""

    num_images: int
    """Images to learn from."""
    num_validation: int
    height: int
    """Median over the images, in pixels, as the width."""
    width: int
    smallest_side: int
    """Shortest side of all images."""
    largest: tuple[int, int]
    """(height, width) of the image with most pixels."""
    shares: tuple[float, ...]
    """Share of each class of the labeled pixels, 0 to 1."""
    thin_share: float
    """Share of the labeled pixels that lie in regions less than 8 pixels wide and high, which a
    network of output stride 8 alone cannot draw."""

    @property
    def num_classes(self) -> int:
        return len(self.shares)

    @property
    def short_side(self) -> int:
        """Of the median size."""
        return min(self.height, self.width)

    @property
    def imbalance(self) -> float:
        """How many times the most frequent class is as frequent as the rarest that occurs."""
        present = [share for share in self.shares if share > 0]
        return max(present) / min(present)


def survey(
    data: SegmentationDataset,
    validation: SegmentationDataset,
    *,
    num_workers: int = 2,
    progress: Callable[[int, int], object] | None = None,
) -> DataFacts:
    """Read images, evenly spread over the training data, and measure them.

    Args:
        data: to learn from.
        validation: of which only the number of images is taken.
        num_workers: number of threads that read.
        progress: called as `progress(done, total)`, counting images.

    Raises:
        DataError: an image or a label cannot be used, or no pixel is labeled.
    """
    indices = np.linspace(0, len(data) - 1, min(len(data), MAX_SAMPLES)).round().astype(int)
    sizes, counts, num_thin = [], np.zeros(IGNORE_INDEX + 1, np.int64), 0
    with ThreadPoolExecutor(max(1, num_workers)) as pool:
        labels = pool.map(lambda index: data[int(index)][1], indices)
        for done, label in enumerate(labels, start=1):
            sizes.append(label.shape)
            counts += np.bincount(label.ravel(), minlength=len(counts))
            num_thin += int(is_thin(label).sum())
            if progress is not None:
                progress(done, len(indices))
    labeled = counts[: len(data.classes)]
    if not labeled.any():
        raise DataError(f"no pixel is labeled in {len(sizes)} images; see `ccnet check-data`")
    heights, widths = zip(*sizes, strict=True)
    return DataFacts(
        num_images=len(data),
        num_validation=len(validation),
        height=median_low(heights),
        width=median_low(widths),
        smallest_side=min(*heights, *widths),
        largest=max(sizes, key=lambda size: size[0] * size[1]),
        shares=tuple((labeled / labeled.sum()).tolist()),
        thin_share=num_thin / int(labeled.sum()),
    )


def is_thin(label: UInt8[np.ndarray, "h w"], width: int = 8) -> np.ndarray:
    """Whether a labeled pixel lies in runs of its class shorter than `width` in a row or a column.

    Runs that the border of the image or ignored pixels cut short do not count.
    """
    rows = _in_short_run(label, width)
    return (rows | _in_short_run(np.ascontiguousarray(label.T), width).T) & (label != IGNORE_INDEX)


def _in_short_run(label: UInt8[np.ndarray, "h w"], width: int) -> np.ndarray:
    """Of the pixels of each row."""
    height, length = label.shape
    starts = np.ones((height, length + 1), bool)  # of a run, and one behind the last
    starts[:, 1:-1] = label[:, 1:] != label[:, :-1]
    padded = np.full((height, length + 2), IGNORE_INDEX, np.uint8)  # as if the border were ignored
    padded[:, 1:-1] = label
    y, x = np.nonzero(starts[:, :-1])
    places = np.flatnonzero(starts[:, :-1].ravel())
    lengths = np.diff(np.append(places, label.size))
    lengths = np.minimum(lengths, length - x)
    before = padded[y, x]
    after = padded[y, x + lengths + 1]
    short = (lengths < width) & (before != IGNORE_INDEX) & (after != IGNORE_INDEX)
    return np.repeat(short, lengths).reshape(label.shape)
