"""What is wrong with a data set, before it is trained on."""

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Group
from rich.table import Table
from rich.text import Text

from ccnet.classes import IGNORE_INDEX
from ccnet.datasets.dataset import SegmentationDataset, SizeMismatchError
from ccnet.datasets.folder import FolderDataset
from ccnet.datasets.labels import LabelValueError, UnmappedValue
from ccnet.datasets.pairs import PairedDataset, relative_name
from ccnet.images.reading import DataError

FEW_IMAGES = 20
MOSTLY_IGNORED = 0.5
ROWS_SHOWN = 10


@dataclass(frozen=True)
class Problem:
    """A sample that can't be used, and why."""

    name: str
    message: str


@dataclass(frozen=True)
class BadValue:
    """A raw label value that stands for no class, in one sample, and where it is first met."""

    name: str
    value: int | tuple[int, int, int]
    x: int
    y: int
    pixels: int


@dataclass
class DataReport:
    """What `check_dataset` found. Sizes are (height, width); lists are in the data set's order."""

    root: str
    split: str
    layout: str
    classes: tuple[str, ...]
    num_pairs: int
    """Pairs looked at."""
    num_usable: int = 0
    """Pairs without a problem; the statistics are theirs."""
    unmatched_images: list[str] = field(default_factory=list)
    unmatched_labels: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    """Files that a list file names and that don't exist."""
    unreadable: list[Problem] = field(default_factory=list)
    size_mismatches: list[Problem] = field(default_factory=list)
    bad_values: list[BadValue] = field(default_factory=list)
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    class_pixels: list[int] = field(default_factory=list)
    class_images: list[int] = field(default_factory=list)
    """Images in which the class occurs."""
    present_pixels: list[int] = field(default_factory=list)
    """Labelled pixels of the images in which the class occurs."""
    ignored_pixels: int = 0

    @property
    def frequencies(self) -> list[float]:
        """Each class's share of the labelled pixels, 0–1."""
        labelled = sum(self.class_pixels)
        return [pixels / labelled if labelled else 0.0 for pixels in self.class_pixels]

    @property
    def class_weights(self) -> list[float | None]:
        """Median-frequency weights: median(f) / f of a class, f its share of the labelled pixels of
        the images in which it occurs (Eigen and Fergus 2015); None for a class that is absent."""
        pairs = zip(self.class_pixels, self.present_pixels, strict=True)
        shares = [pixels / present if pixels else None for pixels, present in pairs]
        known = [share for share in shares if share is not None]
        median = float(np.median(known)) if known else 0.0
        return [None if share is None else median / share for share in shares]

    @property
    def ignored_share(self) -> float:
        """Share of all pixels that is ignored, 0–1."""
        total = self.ignored_pixels + sum(self.class_pixels)
        return self.ignored_pixels / total if total else 0.0

    @property
    def problems(self) -> list[str]:
        """What makes the data unfit for training, one line a kind; empty if it is fit."""
        counts = {
            "listed but missing": len(self.missing),
            "images without a label": len(self.unmatched_images),
            "labels without an image": len(self.unmatched_labels),
            "unreadable": len(self.unreadable),
            "size mismatch of image and label": len(self.size_mismatches),
            "labels with values out of range": len({bad.name for bad in self.bad_values}),
        }
        found = [f"{kind}: {count}" for kind, count in counts.items() if count]
        if not sum(self.class_pixels):
            found.append("no labelled pixel at all")
        return found

    @property
    def warnings(self) -> list[str]:
        """What doesn't prevent training but is likely to disappoint."""
        pairs = zip(self.classes, self.class_pixels, strict=True)
        absent = [name for name, pixels in pairs if not pixels]
        found = []
        if absent and self.num_usable:
            found.append(f"no pixel of {', '.join(absent)}: can't be learned")
        if self.ignored_share > MOSTLY_IGNORED:
            found.append(
                f"{self.ignored_share:.0%} of the pixels are ignored; if 255 is a class, "
                "say so in `mapping`"
            )
        if 0 < self.num_pairs < FEW_IMAGES:
            found.append(f"only {self.num_pairs} images")
        return found

    @property
    def fit(self) -> bool:
        """Whether training can read every file and finds something to learn."""
        return not self.problems

    def to_dict(self) -> dict[str, Any]:
        """Everything in plain lists, numbers and text, for JSON."""
        return vars(self) | {
            "classes": list(self.classes),
            "unreadable": [vars(problem) for problem in self.unreadable],
            "size_mismatches": [vars(problem) for problem in self.size_mismatches],
            "bad_values": [vars(bad) for bad in self.bad_values],
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

    def __rich__(self) -> Group:
        """The report for a rich console; long lists are cut, the JSON has them whole."""
        sizes = [f"{w}×{h} ({count})" for (h, w), count in self.sizes.most_common()]
        verdict = "not fit for training: " + "; ".join(self.problems)
        problems = _all_problems(self)
        rest = len(problems) - ROWS_SHOWN
        return Group(
            Text(f"{self.root} · {self.split} · {self.layout}"),
            Text(f"{self.num_pairs} pairs, {self.num_usable} usable; sizes {_cut(sizes, 5)}"),
            _class_table(self),
            *(Text(f"{title}: {_cut(names, ROWS_SHOWN)}") for title, names in _file_lists(self)),
            *(Text(problem) for problem in problems[:ROWS_SHOWN]),
            *([Text(f"and {rest} more like these")] if rest > 0 else []),
            *(Text(f"warning: {warning}", style="yellow") for warning in self.warnings),
            Text("fit for training", "bold green") if self.fit else Text(verdict, "bold red"),
        )


def check_dataset(
    dataset: SegmentationDataset | Path | str,
    split: str = "train",
    *,
    workers: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Reads every pair and collects what is wrong instead of stopping at the first.

    `dataset` is a folder that `FolderDataset` reads, or a data set; open those with `strict=False`
    so that files without a partner are listed too. `split` is a folder's; for a data set it is only
    what the report says. `workers` threads read, by default a few more than there are processors;
    `progress(done, total)` is called after each pair, in the calling thread.
    Raises DataError where there is no data set to look at: no folder, no split, no description.
    """
    if isinstance(dataset, str | Path):
        dataset = FolderDataset(dataset, split, strict=False)
    report = _empty_report(dataset, split)
    with ThreadPoolExecutor(workers) as pool:
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
        report.bad_values += [
            BadValue(name, bad.value, bad.x, bad.y, bad.pixels) for bad in sample.values
        ]
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
    return report


def _names(dataset: PairedDataset, paths: tuple[Path, ...]) -> list[str]:
    return [relative_name(path, dataset.root) for path in paths]


def _class_table(report: DataReport) -> Table:
    table = Table("class")
    for column in ("pixels", "share of labelled", "images", "weight"):
        table.add_column(column, justify="right")
    frequencies, weights = report.frequencies, report.class_weights
    for i, name in enumerate(report.classes):
        weight = "–" if weights[i] is None else f"{weights[i]:.4f}"
        pixels, images = f"{report.class_pixels[i]:,}", str(report.class_images[i])
        table.add_row(Text(f"{i} {name}"), pixels, f"{frequencies[i]:.2%}", images, weight)
    table.add_row("ignored", f"{report.ignored_pixels:,}", f"({report.ignored_share:.2%} of all)")
    return table


def _file_lists(report: DataReport) -> list[tuple[str, list[str]]]:
    lists = {
        "images without a label": report.unmatched_images,
        "labels without an image": report.unmatched_labels,
        "listed but missing": report.missing,
    }
    return [(title, names) for title, names in lists.items() if names]


def _all_problems(report: DataReport) -> list[str]:
    bad = [
        f"{bad.name}: {UnmappedValue(bad.value, bad.x, bad.y, bad.pixels)}: no class has it"
        for bad in report.bad_values
    ]
    return [problem.message for problem in report.unreadable + report.size_mismatches] + bad


def _cut(items: list[str], limit: int) -> str:
    rest = f", and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + rest
