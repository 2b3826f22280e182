"""Reading all pairs of a data set to find what is wrong with them."""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from ccnet.checking.findings import DataReport, Problem
from ccnet.checking.inspection import Observation, inspect
from ccnet.datasets.dataset import SegmentationDataset, SizeMismatchError
from ccnet.datasets.folder import FolderDataset
from ccnet.datasets.pairs import PairedDataset
from ccnet.datasets.unmapped import LabelValueError
from ccnet.layouts.files import relative_name
from ccnet.runtime.files import DataError


def check_dataset(
    dataset: SegmentationDataset | Path | str,
    split: str = "train",
    *,
    indices: Sequence[int] | None = None,
    compare_edges: bool = False,
    num_threads: int | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> DataReport:
    """Read every pair and collect all problems instead of stopping at the first.

    Args:
        dataset: A folder that `FolderDataset` reads, or a data set. Open a data set with
            `strict=False`, so that files without a partner are listed too.
        split: The part of the folder to read; of a data set, what the report calls it.
        indices: The pairs to read; by default all.
        compare_edges: Also compare the borders in each label with the edges of its image, which
            takes 5 to 20 ms per pair.
        num_threads: Threads that read; by default a few more than there are processors.
        progress: Called as `progress(done, total)` after each pair, in the calling thread.

    Raises:
        DataError: There is nothing to read: no folder, no split or no description.
    """
    if isinstance(dataset, str | Path):
        dataset = FolderDataset(dataset, split, strict=False)
    chosen = range(len(dataset)) if indices is None else indices
    report = _empty_report(dataset, split, len(chosen))

    def read(index: int) -> Observation | DataError:
        return inspect(dataset, index, compare_edges=compare_edges)

    with ThreadPoolExecutor(num_threads) as pool:
        for done, (index, sample) in enumerate(zip(chosen, pool.map(read, chosen), strict=True), 1):
            _record(report, dataset, index, sample)
            if progress is not None:
                progress(done, len(chosen))
    return report


def _record(
    report: DataReport, dataset: SegmentationDataset, index: int, sample: Observation | DataError
) -> None:
    name = dataset.name(index)
    if isinstance(sample, Observation):
        report.observations[index] = sample
        _count(report, name, sample)
        return
    report.errors[index] = str(sample)
    if isinstance(sample, LabelValueError):
        report.bad_values[name] = sample.values
        if isinstance(dataset, PairedDataset):
            label_path = dataset.files.pairs[index][1]
            report.label_files[name] = relative_name(label_path, dataset.root)
    elif isinstance(sample, SizeMismatchError):
        report.size_mismatches.append(Problem(name, str(sample)))
    else:
        report.unreadable.append(Problem(_faulty_file(dataset, index, sample), str(sample)))


def _count(report: DataReport, name: str, seen: Observation) -> None:
    report.num_usable += 1
    report.sizes[seen.size] += 1
    report.ignored_pixels += seen.ignored
    for c in np.flatnonzero(seen.counts[:-1]).tolist():
        report.class_pixels[c] += int(seen.counts[c])
        report.class_images[c] += 1
        report.present_pixels[c] += seen.labeled
    if seen.is_turn_open:
        report.open_turns.append(name)
        if (seen.edges_turned or 0) > (seen.edges or 0):
            report.better_turned.append(name)
    if seen.highest is not None:
        report.num_16_bits += 1
        report.highest_of_16_bits = max(report.highest_of_16_bits, seen.highest)


def _faulty_file(dataset: SegmentationDataset, index: int, error: DataError) -> str:
    """The name of the file with the fault, the image or the label."""
    if isinstance(dataset, PairedDataset) and error.path is not None:
        return relative_name(error.path, dataset.root)
    return dataset.name(index)


def _empty_report(dataset: SegmentationDataset, split: str, num_pairs: int) -> DataReport:
    num_classes = len(dataset.classes)
    report = DataReport(
        root=type(dataset).__name__,
        split=split,
        layout="",
        classes=dataset.classes,
        num_pairs=num_pairs,
        is_whole=num_pairs == len(dataset),
        class_pixels=[0] * num_classes,
        class_images=[0] * num_classes,
        present_pixels=[0] * num_classes,
    )
    if isinstance(dataset, PairedDataset):
        report.root = str(dataset.root)
        report.layout = dataset.files.layout
        report.hidden = _names(dataset, dataset.files.hidden)
        report.notes = list(dataset.files.notes)
        report.notes += [] if dataset.label_map.note is None else [dataset.label_map.note]
        report.unmatched_images = _names(dataset, dataset.files.unmatched_images)
        report.unmatched_labels = _names(dataset, dataset.files.unmatched_labels)
        report.missing = _names(dataset, dataset.files.missing)
        report.unreadable = [
            Problem(relative_name(error.path or dataset.root, dataset.root), str(error))
            for error in dataset.files.unusable
        ]
    return report


def _names(dataset: PairedDataset, paths: tuple[Path, ...]) -> list[str]:
    return [relative_name(path, dataset.root) for path in paths]
