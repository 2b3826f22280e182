"""Image and label files of a split: how they are found, paired and read as a data set."""

import io
import os
import stat
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
from jaxtyping import UInt8

from ccnet.classes import IGNORE_INDEX
from ccnet.datasets.dataset import SizeMismatchError
from ccnet.datasets.labels import LabelMap
from ccnet.images.opening import leads_to_folder, obstacle_to
from ccnet.images.reading import (
    IMAGE_SUFFIXES,
    image_files,
    orientation_of,
    read_image,
    stored_size,
    turned,
)
from ccnet.runtime.files import DataError, cause_of, read_text, require_folder, shown

DESCRIPTION = "dataset.yaml"
LABEL_SUFFIX = ".png"
LAYOUTS = (("{split}/images", "{split}/labels"), ("images/{split}", "labels/{split}"))
"""Folders of images and of labels, relative to the root of a data set."""
Orientation = Literal["exif", "stored"]
"""What labels were drawn on: photographs as their EXIF orientation shows them, or as stored."""
MAX_LIST = 1 << 28
"""Bytes of a list file; those of a million pairs have about a hundred million."""


@dataclass(frozen=True)
class Pairs:
    """The files of a split, sorted, and those without a partner."""

    layout: str
    """Where they were found, relative to the root: two folders, or a list file."""
    pairs: tuple[tuple[Path, Path], ...]
    """(image, label), both existing."""
    unmatched_images: tuple[Path, ...] = ()
    unmatched_labels: tuple[Path, ...] = ()
    missing: tuple[Path, ...] = ()
    """Files that a list file names but that do not exist."""
    unusable: tuple[DataError, ...] = ()
    """Why files cannot be opened: links without a target, FIFOs, folders without permission."""


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
            _refuse_unmatched(root, files)
        self.root = root
        self.files = files
        self.label_map = label_map
        self.orientation: Orientation = "exif" if orientation is None else orientation
        self.is_orientation_given = orientation is not None
        self.classes = label_map.classes
        self.palette = label_map.palette

    def __len__(self) -> int:
        return len(self.files.pairs)

    def __getitem__(
        self, index: int
    ) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
        image_path, label_path = self.files.pairs[index]
        image, label = read_image(image_path), self.read_label(index)
        if image.dtype != np.uint8:  # a picture of 16 bits has been scaled, an array has not
            raise DataError(
                f"{image_path}: holds {image.dtype}; save it as uint8, 0 to 255.", path=image_path
            )
        if image.shape[:2] != label.shape:
            raise SizeMismatchError(
                f"{image_path} is {_size(image)}, its label {label_path} is {_size(label)}. "
                + self._mismatch_advice(index, image, label),
                path=image_path,
            )
        return image, label

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
        image: UInt8[np.ndarray, "h w 3"],
        label: UInt8[np.ndarray, "label_h label_w"],
    ) -> str:
        image_path, label_path = self.files.pairs[index]
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


def find_pairs(
    root: Path, split: str, layouts: Sequence[tuple[str, str]] = LAYOUTS, use_list: bool = True
) -> Pairs:
    """Find the images of a split, and for each the label (.png) of the same path and stem.

    The first of `layouts` whose two folders both exist is used, with all their subfolders. Where
    there is none, the list file `<split>.txt` is read: one pair per line, "image label", relative
    to the root and separated by a comma, a tab or blanks. Empty lines and lines that begin with #
    are skipped. Files without a partner raise nothing; they are in the result.

    Args:
        root: Folder of the data set.
        split: Part of the data set, which takes the place of {split} in `layouts`.
        layouts: Pairs of folders, of images and of labels, relative to the root.
        use_list: Whether a list file may say the pairs.

    Raises:
        DataError: No layout and no list file is there, or a line of the list is not a pair.
    """
    require_folder(root)
    for images, labels in layouts:
        images, labels = images.format(split=split), labels.format(split=split)
        if _is_folder(root / images) and _is_folder(root / labels):
            return _pair_folders(root / images, root / labels, f"{images} + {labels}")
    listed = root / f"{split}.txt"
    if use_list and os.path.lexists(listed):
        return _read_list(root, listed)
    tried = [" + ".join(pattern.format(split=split) for pattern in pair) for pair in layouts]
    found = ", ".join(sorted(os.listdir(root))[:12])  # noqa: PTH208 - of names
    raise DataError(
        f"{root}: no split {split!r}. Looked for {'; '.join(tried + [listed.name] * use_list)}; "
        f"the folder holds: {found or 'nothing'}.",
        path=root,
    )


def _is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise DataError(f"{path}: {cause_of(error)}.", path=path) from error


def _pair_folders(images: Path, labels: Path, layout: str) -> Pairs:
    unusable: dict[Path, DataError] = {}
    image_of, spare_images = _by_stem(images, IMAGE_SUFFIXES, unusable)
    label_of, spare_labels = _by_stem(labels, (LABEL_SUFFIX,), unusable)
    spare_images += [path for stem, path in image_of.items() if stem not in label_of]
    spare_labels += [path for stem, path in label_of.items() if stem not in image_of]
    pairs = [(path, label_of[stem]) for stem, path in image_of.items() if stem in label_of]
    return Pairs(
        layout=layout,
        pairs=tuple(pair for pair in pairs if unusable.keys().isdisjoint(pair)),
        unmatched_images=tuple(sorted(spare_images)),
        unmatched_labels=tuple(sorted(spare_labels)),
        unusable=tuple(unusable.values()),
    )


def _by_stem(
    folder: Path, suffixes: tuple[str, ...], unusable: dict[Path, DataError]
) -> tuple[dict[Path, Path], list[Path]]:
    """The files by their relative path without suffix, and those that cannot have a partner.

    Those that cannot be opened are also added to `unusable`, with the reason.
    """
    files: dict[Path, Path] = {}
    spare = []
    for path in image_files(folder):
        obstacle = obstacle_to(path)
        if obstacle is not None:
            unusable[path] = obstacle
        if leads_to_folder(path):  # one that may not be searched
            continue
        stem = path.relative_to(folder).with_suffix("")
        if path.suffix.lower() not in suffixes or stem in files:
            spare.append(path)
        else:
            files[stem] = path
    return files, spare


def _read_list(root: Path, listed: Path) -> Pairs:
    pairs, images, labels, missing, unusable = [], [], [], [], []
    lines = io.StringIO(read_text(listed, MAX_LIST), newline=None)
    for number, line in enumerate(lines, start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        separator = next((mark for mark in (",", "\t") if mark in line), None)
        names = [name.strip() for name in line.split(separator)]
        if len(names) != 2 or not all(names) or "\0" in line:
            raise DataError(
                f"{listed}, line {number}: must hold two paths, image and label, got "
                f"{shown(line.rstrip())}. Use a comma or a tab between paths that contain blanks.",
                path=listed,
            )
        image, label = (root / name for name in names)
        obstacles = [obstacle_to(path) for path in (image, label)]
        for path, obstacle in zip((image, label), obstacles, strict=True):
            if obstacle is not None and os.path.lexists(path):
                unusable.append(obstacle)
            elif obstacle is not None:
                missing.append(path)
        if obstacles == [None, None]:
            pairs.append((image, label))
        elif obstacles[0] is None:
            images.append(image)
        elif obstacles[1] is None:
            labels.append(label)
    unmatched = (tuple(images), tuple(labels))
    return Pairs(listed.name, tuple(pairs), *unmatched, tuple(missing), tuple(unusable))


def _refuse_unmatched(root: Path, files: Pairs) -> None:
    for error in files.unusable[:1]:
        count = (
            f"There are {len(files.unusable)} such files" if files.unusable[1:] else "Restore it"
        )
        raise DataError(f"{error} {count}; `ccnet check-data` lists all.", path=error.path)
    kinds = {
        "listed but missing": files.missing,
        "images without a label": files.unmatched_images,
        "labels without an image": files.unmatched_labels,
    }
    problems = [
        f"{kind} ({len(paths)}): {', '.join(relative_name(path, root) for path in paths[:5])}"
        + (", ..." if len(paths) > 5 else "")
        for kind, paths in kinds.items()
        if paths
    ]
    if problems:
        raise DataError(
            f"{root} ({files.layout}): {'; '.join(problems)}. Each image needs one label of the "
            "same name that ends in .png; `ccnet check-data` lists all files without a partner.",
            path=root,
        )
    if not files.pairs:
        raise DataError(f"{root} ({files.layout}): there are no images.", path=root)


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"


def relative_name(path: Path, root: Path) -> str:
    """The path relative to the root, with forward slashes; a path elsewhere is unchanged."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
