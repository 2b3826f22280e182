"""Pairs of image and label files, read as a data set."""

import copy
import sys
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

import numpy as np
from jaxtyping import UInt8, UInt16

from ccnet.classes import IGNORE_INDEX
from ccnet.datasets.dataset import SizeMismatchError
from ccnet.datasets.labels import LabelMap
from ccnet.images.bands import BandImage, Bands
from ccnet.images.reading import orientation_of, read_image, stored_size, turned
from ccnet.images.stored import read_bands
from ccnet.layouts.files import Pairs, named, refuse_unmatched, relative_name
from ccnet.layouts.lists import write_list
from ccnet.runtime.files import DataError, printable, shown

DESCRIPTION = "dataset.yaml"
Orientation = Literal["exif", "stored"]
"""What labels were drawn on: photographs as their EXIF orientation shows them, or as stored."""


class PairedDataset(ABC):
    """A data set of image and label files; a subclass finds the files and says what labels mean.

    The image is turned upright by its EXIF orientation.

    Args:
        root: Folder of the data set.
        files: The files of one split.
        label_map: What the values in the label files stand for.
        strict: Raise DataError for files without a partner. With False they are left out, and
            `files` lists them.
        orientation: "exif" if labels were drawn on the photographs as viewers show them: a label is
            then turned by its own orientation only, if it has one. "stored" if they were drawn on
            the pixels as stored: a label is then turned together with its image. None: "exif", of
            which the data check warns where it matters.
    """

    ignore_index = IGNORE_INDEX
    is_drawn = False
    """Whether labels are drawn from shapes, and are no label files."""
    bands: Bands | None = None
    """How images are read that are no photographs; None: as RGB of 8 bits."""

    @abstractmethod
    def __init__(
        self,
        root: Path,
        files: Pairs,
        label_map: LabelMap,
        strict: bool = True,
        orientation: Orientation | None = None,
    ):
        if strict:
            refuse_unmatched(root, files)
        self.root = root
        self.files = files
        self.label_map = label_map
        self.orientation: Orientation = "exif" if orientation is None else orientation
        self.is_orientation_given = orientation is not None
        self.classes = label_map.classes
        self.palette = label_map.palette

    @property
    def notes(self) -> list[str]:
        """What was chosen and passed over in finding the files, and how label values are read."""
        of_labels = [] if self.label_map.note is None else [self.label_map.note]
        return [*self.files.notes, *of_labels]

    def __len__(self) -> int:
        return len(self.files.pairs)

    def with_bands(self, bands: Bands | None) -> Self:
        """The same data, of whose images other bands are read."""
        other = copy.copy(self)
        other.bands = bands
        return other

    def __getitem__(
        self, index: int
    ) -> tuple[UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"], UInt8[np.ndarray, "h w"]]:
        image_path, label_path = self.files.pairs[index]
        image, label = self.read_image(index), self.read_label(index)
        if image.shape[:2] != label.shape:
            raise SizeMismatchError(
                f"{image_path} is {_size(image)}, its label {label_path} is {_size(label)}. "
                + self._mismatch_advice(index, image, label),
                path=image_path,
            )
        return image, label

    def read_image(self, index: int) -> BandImage:
        """The image of a pair alone; raises as the pair does."""
        path = self.files.pairs[index][0]
        if self.bands is not None:
            return read_bands(path, self.bands)
        image = read_image(path)
        if image.dtype != np.uint8:  # a picture of 16 bits has been scaled, an array has not
            raise DataError(
                f"{path}: holds {image.dtype}; save it as uint8, 0 to 255, or give the values that "
                "count, --data.value_range.",
                path=path,
            )
        return image

    def read_label(self, index: int) -> UInt8[np.ndarray, "h w"]:
        """The label of a pair alone, as it lies on the upright image; raises as the pair does."""
        image_path, label_path = self.files.pairs[index]
        label = self.label_map.read(label_path, upright=self.orientation == "exif")
        if self.orientation == "exif":
            return label
        return turned(label, orientation_of(image_path))

    def _mismatch_advice(
        self,
        index: int,
        image: BandImage,
        label: UInt8[np.ndarray, "label_h label_w"],
    ) -> str:
        image_path, label_path = self.files.pairs[index]
        if (image.shape[1], image.shape[2]) == label.shape:
            return "Is the array (bands, H, W)? Save it as (H, W, bands)."
        if label.shape == image.shape[1::-1]:
            if self.orientation == "stored" and stored_size(label_path) == image.shape[:2]:
                return (
                    "The label fits the photograph as its EXIF orientation shows it; "
                    f"{DESCRIPTION} says `orientation: stored`, which is wrong for this label."
                )
            if self.orientation == "exif" and stored_size(image_path) == label.shape:
                return (
                    "The label fits the photograph as it is stored, not as its EXIF orientation "
                    "shows it: turn the label, or write `orientation: stored` in "
                    f"{DESCRIPTION} if all labels were drawn so."
                )
            if stored_size(label_path) == image.shape[:2]:
                return "The label file has an EXIF orientation of its own: remove it."
        return (
            "Resize the label to the size of the image by nearest neighbor, or find the right file."
        )

    def name(self, index: int) -> str:
        """The image's path, relative to the root where it lies below it."""
        return relative_name(self.files.pairs[index][0], self.root)


def read_orientation(value: Any) -> Orientation | None:
    """The key `orientation` of dataset.yaml; raises ValueError for what it cannot be."""
    if value not in (None, *get_args(Orientation)):
        raise ValueError(f"`orientation` is {shown(value)}; it can be exif or stored")
    return cast(Orientation | None, value)


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"


def write_lists(folder: Path, **data: object) -> None:
    """Write the pairs of data sets of label files, each as the list NAME.txt, which can be a split.

    Names are relative to the root of the data set. Labels that are drawn from annotations have no
    files to list.
    """
    for name, part in data.items():
        if isinstance(part, PairedDataset) and not part.is_drawn:
            comment = f"# {part.files.layout}"
            write_list(folder / f"{name}.txt", part.files.pairs, part.root, comment)


def say_notes(*data: object) -> None:
    """Print what was chosen in finding and reading the files, each line once, on standard error."""
    parts = [part for part in data if isinstance(part, PairedDataset)]
    lines = [f"note: {part.root}: {note}" for part in parts for note in part.notes]
    for line in dict.fromkeys(lines):
        print(printable(line), file=sys.stderr)


def warn_of_shared(training: object, validation: object) -> None:
    """Print a warning if images are both learned from and validated on."""
    if not isinstance(training, PairedDataset) or not isinstance(validation, PairedDataset):
        return
    known = {image for image, _ in training.files.pairs}
    shared = [image for image, _ in validation.files.pairs if image in known]
    if shared:
        print(
            f"warning: {printable(validation.root)}: {len(shared)} of {len(validation)} validation "
            f"images are learned from too ({printable(named(shared, validation.root, 3))}), so the "
            "scores say nothing about other images",
            file=sys.stderr,
        )
