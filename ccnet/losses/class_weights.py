"""Weights of the classes that follow from how often each occurs in the labels."""

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from ccnet.classes import IGNORE_INDEX, median_frequency_weights
from ccnet.datasets.dataset import SegmentationDataset
from ccnet.runtime.processes import num_processes, objects_of_processes, rank
from ccnet.runtime.progress import counting

MOST_IMAGES = 5000
"""Of a larger data set so many images are read, at equal distances."""
ABSENT = 1.0
"""The weight of a class that occurs in no label."""
LARGEST = 1000.0
"""The largest weight that a configuration takes."""


def measured_weights(dataset: SegmentationDataset) -> list[float]:
    """The cube roots of the median-frequency weights of a data set, rounded to three digits.

    The weights themselves differ by factors of a hundred and more, and training with them trades
    the frequent classes for the rare ones. A class that does not occur gets 1, which is said on
    standard error with the other weights. All processes have to call this; each of them reads a
    share of the images.

    Raises:
        DataError: an image or a label cannot be used.
        ValueError: no pixel has a label, or a label is no class.
    """
    number = len(dataset)
    chosen = np.linspace(0, number - 1, min(number, MOST_IMAGES)).round().astype(int)
    own = chosen[rank() :: num_processes()].tolist()
    pixels = np.zeros(len(dataset.classes), np.int64)
    present = np.zeros(len(dataset.classes), np.int64)
    with ThreadPoolExecutor() as pool, counting("class weights") as progress:
        for done, counts in enumerate(pool.map(lambda i: class_counts(dataset, i), own), 1):
            pixels += counts
            present += np.where(counts > 0, counts.sum(), 0)
            if progress is not None:
                progress(done, len(own))
    pixels, present = np.sum(objects_of_processes(np.stack([pixels, present])), axis=0).tolist()
    if not any(pixels):
        raise ValueError(
            "class_weights=auto: no pixel of the training labels has a class; `ccnet check-data` "
            "says what the labels hold"
        )
    found = median_frequency_weights(pixels, present)
    weights = [
        ABSENT if weight is None else min(float(f"{weight ** (1 / 3):.3g}"), LARGEST)
        for weight in found
    ]
    if rank() == 0:
        pairs = list(zip(dataset.classes, weights, strict=True))
        words = ", ".join(f"{name} {weight:g}" for name, weight in pairs)
        print(f"class weights of {len(chosen)} of {number} images: {words}", file=sys.stderr)
        if absent := [
            name for name, weight in zip(dataset.classes, found, strict=True) if not weight
        ]:
            print(
                f"warning: no pixel of {', '.join(absent)} in these labels: the weight is 1, and "
                "it cannot be learned",
                file=sys.stderr,
            )
    return weights


def class_counts(dataset: SegmentationDataset, index: int) -> np.ndarray:
    """Pixels of each class in one label; raises ValueError for a value that is no class."""
    _, label = dataset[index]
    counts = np.bincount(label.ravel(), minlength=IGNORE_INDEX + 1)
    outside = np.flatnonzero(counts[len(dataset.classes) : IGNORE_INDEX])
    if len(outside):
        raise ValueError(
            f"{dataset.name(index)}: its label holds {outside[0] + len(dataset.classes)}; there "
            f"are {len(dataset.classes)} classes, 0 to {len(dataset.classes) - 1}, and 255"
        )
    return counts[: len(dataset.classes)]
