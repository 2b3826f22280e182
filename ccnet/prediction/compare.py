"""Two models on one data set: how much they differ, and whether that is more than chance."""

from collections.abc import Callable

import numpy as np

from ccnet.datasets import SegmentationDataset
from ccnet.metrics.comparison import NUM_RESAMPLED, Comparison, compare_counts
from ccnet.metrics.images import CountsOfImages
from ccnet.prediction.evaluate import evaluate
from ccnet.prediction.predictor import Predictor
from ccnet.runtime.processes import objects_of_processes


def compare(
    a: Predictor,
    b: Predictor,
    dataset: SegmentationDataset,
    *,
    num_workers: int = 0,
    progress: Callable[[int, int], object] | None = None,
    num_resampled: int = NUM_RESAMPLED,
    seed: int = 0,
) -> Comparison:
    """Score two models on the same images and compare them by a paired bootstrap.

    Each of N processes evaluates every N-th image; all return the same.

    Args:
        a: the first model; its classes must be those of the data set.
        b: the second model, from whose mIoU that of the first is subtracted.
        dataset: images and labels.
        num_workers: number of processes that read images ahead.
        progress: called as `progress(done, total)` after each image, of A's and then of B's.
        num_resampled: number of resampled data sets.
        seed: of the resampling.

    Raises:
        ValueError: as `evaluate` does.
        DataError: an image or label cannot be used.
    """
    counts = []
    for number, predictor in enumerate((a, b)):

        def count_both(done: int, total: int, number: int = number) -> None:
            if progress is not None:
                progress(done + number * total, 2 * total)

        observer = CountingObserver(len(dataset.classes))
        evaluate(
            predictor, dataset, num_workers=num_workers, progress=count_both, observer=observer
        )
        counts.append(observer.gathered())
    first, second = counts
    return compare_counts(first, second, dataset.classes, num_resampled=num_resampled, seed=seed)


class CountingObserver:
    """Observes an evaluation and keeps the confusion counts of each image.

    Args:
        num_classes: number of classes.
    """

    def __init__(self, num_classes: int) -> None:
        self.counts = CountsOfImages(num_classes)

    def __call__(
        self,
        index: int,
        name: str,
        image: np.ndarray,
        label: np.ndarray,
        prediction: np.ndarray,
        confidence: np.ndarray,
    ) -> None:
        self.counts.add(index, name, label, prediction)

    def gathered(self) -> CountsOfImages:
        """The counts of all processes; all of them have to call it."""
        first, *others = objects_of_processes(self.counts)
        for other in others:
            first.merge(other)
        return first
