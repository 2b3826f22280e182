"""What is wrong with a data set, found before a training run stumbles over it."""

import math
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ccnet.classes import IGNORE_INDEX, median_frequency_weights
from ccnet.datasets.dataset import SegmentationDataset, SizeMismatchError
from ccnet.datasets.description import RawValue
from ccnet.datasets.folder import FolderDataset
from ccnet.datasets.labels import LabelValueError, UnmappedValue
from ccnet.datasets.pairs import PairedDataset
from ccnet.layouts.files import relative_name
from ccnet.runtime.files import DataError

FEW_IMAGES = 20
"""Fewer images than this give a warning."""
MOSTLY_IGNORED = 0.5
"""A larger share of ignored pixels gives a warning."""


@dataclass(frozen=True)
class Problem:
    """A pair that cannot be used, and why."""

    name: str
    message: str


@dataclass
class DataReport:
    """What `check_dataset` found, in the order of the data set. Sizes are (height, width)."""

    root: str
    split: str
    layout: str
    classes: tuple[str, ...]
    num_pairs: int
    """Pairs that were read."""
    num_usable: int = 0
    """Pairs without a problem. All counts of pixels and images are theirs."""
    unmatched_images: list[str] = field(default_factory=list)
    unmatched_labels: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Files that a list file names but that do not exist."""
    hidden: list[str] = field(default_factory=list)
    """Hidden files and folders that were left out."""
    notes: list[str] = field(default_factory=list)
    """What was chosen and passed over in finding the files."""
    unreadable: list[Problem] = field(default_factory=list)
    size_mismatches: list[Problem] = field(default_factory=list)
    bad_values: dict[str, tuple[UnmappedValue, ...]] = field(default_factory=dict)
    """Raw label values that stand for no class, by the name of the pair."""
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    """Number of pairs of each size."""
    class_pixels: list[int] = field(default_factory=list)
    """Pixels of each class."""
    class_images: list[int] = field(default_factory=list)
    """Images in which each class occurs."""
    present_pixels: list[int] = field(default_factory=list)
    """Labeled pixels of the images in which each class occurs."""
    ignored_pixels: int = 0

    @property
    def frequencies(self) -> list[float]:
        """The share of each class in the labeled pixels, 0 to 1."""
        labeled = sum(self.class_pixels)
        return [pixels / labeled if labeled else 0.0 for pixels in self.class_pixels]

    @property
    def class_weights(self) -> list[float | None]:
        """The `median_frequency_weights` of the data."""
        return median_frequency_weights(self.class_pixels, self.present_pixels)

    @property
    def ignored_share(self) -> float:
        """The share of ignored pixels in all pixels, 0 to 1."""
        total = self.ignored_pixels + sum(self.class_pixels)
        return self.ignored_pixels / total if total else 0.0

    @property
    def problems(self) -> list[str]:
        """What makes the data unfit for training, one line per kind; empty if they are fit."""
        counts = {
            "listed but missing": len(self.missing),
            "images without a label": len(self.unmatched_images),
            "labels without an image": len(self.unmatched_labels),
            "unreadable": len(self.unreadable),
            "size mismatch of image and label": len(self.size_mismatches),
            "labels with values out of range": len(self.bad_values),
        }
        found = [f"{kind}: {count}" for kind, count in counts.items() if count]
        if not sum(self.class_pixels):
            found.append("no labeled pixel at all")
        if len(self.classes) < 2:
            found.append("one class only, and a network needs 2 to 255")
        return found

    @property
    def warnings(self) -> list[str]:
        """What does not prevent training but is likely to give a poor result."""
        pairs = zip(self.classes, self.class_pixels, strict=True)
        absent = [name for name, pixels in pairs if not pixels]
        found = []
        if absent and self.num_usable:
            found.append(f"no pixel of {', '.join(absent)}: this cannot be learned")
        if self.ignored_share > MOSTLY_IGNORED:
            found.append(
                f"{self.ignored_share:.0%} of the pixels are ignored; if 255 is a class, "
                "say so in `mapping`"
            )
        if 0 < self.num_pairs < FEW_IMAGES:
            found.append(f"few pairs: {self.num_pairs}")
        return found

    @property
    def fit(self) -> bool:
        """Whether training can read every file and finds something to learn."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain lists, numbers and text, for JSON."""
        return vars(self) | {
            "classes": list(self.classes),
            "unreadable": [vars(problem) for problem in self.unreadable],
            "size_mismatches": [vars(problem) for problem in self.size_mismatches],
            "bad_values": [
                {"name": name, **vars(value), "value": _for_json(value.value)}
                for name, values in self.bad_values.items()
                for value in values
            ],
            "sizes": [
                {"height": height, "width": width, "images": count}
                for (height, width), count in self.sizes.most_common()
            ],
            "frequencies": self.frequencies,
            "class_weights": self.class_weights,
            "ignored_share": self.ignored_share,
            "problems": self.problems,
            "warnings": self.warnings,
            "fit": self.fit,
        }


def check_dataset(
    dataset: SegmentationDataset | Path | str,
    split: str = "train",
    *,
    num_threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Read every pair and collect all problems instead of stopping at the first.

    Args:
        dataset: A folder that `FolderDataset` reads, or a data set. Open a data set with
            `strict=False`, so that files without a partner are listed too.
        split: The part of the folder to read; of a data set, what the report calls it.
        num_threads: Threads that read; by default a few more than there are processors.
        progress: Called as `progress(done, total)` after each pair, in the calling thread.

    Raises:
        DataError: There is nothing to read: no folder, no split or no description.
    """
    if isinstance(dataset, str | Path):
        dataset = FolderDataset(dataset, split, strict=False)
    report = _empty_report(dataset, split)
    with ThreadPoolExecutor(num_threads) as pool:
        samples = pool.map(lambda index: _inspect(dataset, index), range(len(dataset)))
        for index, sample in enumerate(samples):
            _record(report, dataset.name(index), sample)
            if progress is not None:
                progress(index + 1, len(dataset))
    return report


@dataclass(frozen=True)
class _Sample:
    size: tuple[int, int]
    counts: np.ndarray
    """Pixels of each of the 256 label values."""


def _inspect(dataset: SegmentationDataset, index: int) -> _Sample | DataError:
    """Size and counts of one pair, or why it cannot be used."""
    try:
        _, label = dataset[index]
    except DataError as error:
        return error
    except (OSError, ValueError) as error:
        return DataError(f"{dataset.name(index)}: {type(error).__name__}: {error}")
    counts = np.bincount(label.ravel(), minlength=IGNORE_INDEX + 1)
    outside = np.flatnonzero(counts[len(dataset.classes) : IGNORE_INDEX]) + len(dataset.classes)
    if not len(outside):
        return _Sample((label.shape[0], label.shape[1]), counts)
    values = []
    for value in outside.tolist():
        y, x = divmod(int(np.argmax(label == value)), label.shape[1])
        values.append(UnmappedValue(value, x, y, int(counts[value])))
    message = f"{dataset.name(index)}: {'; '.join(map(str, values))}: no class has it."
    return LabelValueError(message, values=tuple(values))


def _record(report: DataReport, name: str, sample: _Sample | DataError) -> None:
    if isinstance(sample, LabelValueError):
        report.bad_values[name] = sample.values
    elif isinstance(sample, SizeMismatchError):
        report.size_mismatches.append(Problem(name, str(sample)))
    elif isinstance(sample, DataError):
        report.unreadable.append(Problem(name, str(sample)))
    else:
        report.num_usable += 1
        report.sizes[sample.size] += 1
        report.ignored_pixels += int(sample.counts[IGNORE_INDEX])
        pixels = sample.counts[: len(report.classes)].tolist()
        for c in np.flatnonzero(pixels).tolist():
            report.class_pixels[c] += pixels[c]
            report.class_images[c] += 1
            report.present_pixels[c] += sum(pixels)


def _empty_report(dataset: SegmentationDataset, split: str) -> DataReport:
    num_classes = len(dataset.classes)
    report = DataReport(
        root=type(dataset).__name__,
        split=split,
        layout="",
        classes=dataset.classes,
        num_pairs=len(dataset),
        class_pixels=[0] * num_classes,
        class_images=[0] * num_classes,
        present_pixels=[0] * num_classes,
    )
    if isinstance(dataset, PairedDataset):
        report.root = str(dataset.root)
        report.layout = dataset.files.layout
        report.unmatched_images = _names(dataset, dataset.files.unmatched_images)
        report.unmatched_labels = _names(dataset, dataset.files.unmatched_labels)
        report.missing = _names(dataset, dataset.files.missing)
        report.hidden = _names(dataset, dataset.files.hidden)
        report.notes = list(dataset.files.notes)
        report.unreadable = [
            Problem(relative_name(error.path or dataset.root, dataset.root), str(error))
            for error in dataset.files.unusable
        ]
    return report


def _for_json(value: RawValue | float) -> RawValue | float | str:
    """The value, as text where JSON has no such number."""
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _names(dataset: PairedDataset, paths: tuple[Path, ...]) -> list[str]:
    return [relative_name(path, dataset.root) for path in paths]
