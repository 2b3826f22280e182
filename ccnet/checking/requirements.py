"""What a training run requires of its data, seen before the first step."""

import sys
from collections.abc import Sequence

from ccnet.checking.check import check_dataset
from ccnet.checking.findings import DataReport
from ccnet.datasets.dataset import SegmentationDataset
from ccnet.datasets.pairs import PairedDataset
from ccnet.datasets.scenes import Scenes
from ccnet.images.bands import Bands
from ccnet.images.exact import require_bright
from ccnet.runtime.files import DataError
from ccnet.runtime.processes import rank
from ccnet.runtime.progress import counting

MOST_TRAINING_PAIRS = 200
"""Pairs of the training data that are read before the first step."""
MOST_DIM = 16
"""Images of an evaluation that are looked at for the bits that they use."""
MOST_VALIDATION_PAIRS = 1000
"""Pairs of the validation data that are read before the first step."""


def require_usable(training: SegmentationDataset, validation: SegmentationDataset) -> None:
    """Read training and validation data before a run, and refuse what it would end badly with.

    Refused are files that cannot be read, labels that have values of no class or another size than
    their image, splits without a labeled pixel or with one class only, images that use a small
    part of 16 bits, and two splits whose labels are read in different ways. Warnings, such as
    about classes that never occur, go to standard error. Of larger splits some pairs are read, at
    equal distances (`MOST_TRAINING_PAIRS`, `MOST_VALIDATION_PAIRS`); the others are found when the
    run reads them. The cost is that of reading these images, in threads: 0.01 s for one of
    480×360, 0.1 s for one of 2048×1024, divided by the number of processors. The embedded scenes
    are not checked. All processes call it, read the same and raise the same.

    Raises:
        DataError: The data cannot be used.
    """
    if isinstance(training, Scenes) or isinstance(validation, Scenes):
        return
    reports = [
        check_split(training, "train", MOST_TRAINING_PAIRS),
        check_split(validation, "val", MOST_VALIDATION_PAIRS),
    ]
    require_same_meaning(training, validation)
    if rank() == 0:
        for report in reports:
            for warning in report.warnings:
                print(f"warning: {report.split} data: {warning}", file=sys.stderr)


def require_same_meaning(training: SegmentationDataset, validation: SegmentationDataset) -> None:
    """Raises DataError if label files of the two splits stand for different classes."""
    maps = [getattr(dataset, "label_map", None) for dataset in (training, validation)]
    notes = [label_map.note for label_map in maps if label_map is not None]
    if len(notes) == 2 and notes[0] != notes[1]:
        found = next(note for note in notes if note is not None)
        which = "training" if notes[0] is not None else "validation"
        raise DataError(
            f"{getattr(training, 'root', 'the data')}: in the {which} labels {found}; the labels "
            "of the other split say nothing of the kind. Write in dataset.yaml what is meant."
        )


def require_bright_images(
    dataset: SegmentationDataset, bands: Sequence[Bands | None] = (None,)
) -> None:
    """Raises DataError if images are 12 bits in files of 16, of which RGB of 8 bits keeps nothing.

    Some images are looked at, and all of them have to be such: one may have been taken at night.

    Args:
        dataset: is evaluated.
        bands: that the models take; None: RGB.
    """
    if not isinstance(dataset, PairedDataset) or None not in bands:
        return
    found = None
    for index in evenly_spread(len(dataset), MOST_DIM):
        try:
            require_bright(dataset.files.pairs[index][0], dataset.read_image(index))
        except DataError as error:
            found = error
        else:
            return
    if found is not None:
        raise found


def check_split(dataset: SegmentationDataset, split: str, most: int) -> DataReport:
    """Read up to `most` pairs of a split; raises DataError if it is unfit."""
    indices = evenly_spread(len(dataset), most)
    with counting(f"checking {split} data") as progress:
        report = check_dataset(dataset, split, indices=indices, progress=progress)
    if report.fit:
        return report
    what = f"{report.root} ({report.layout})" if report.layout else report.root
    first = next(iter(report.errors.values()), None)
    if first is None:
        raise DataError(f"{what}, the {split} data: {'; '.join(report.problems)}.")
    if len(report.errors) > 1:
        raise DataError(
            f"{first} There are {len(report.errors)} faulty pairs among {len(indices)} of the "
            f"{split} data; `ccnet check-data` lists all."
        )
    raise DataError(first)


def evenly_spread(total: int, most: int) -> Sequence[int]:
    """Up to `most` numbers below `total`, at equal distances."""
    return range(0, total, max(1, -(-total // most)))
