"""Image and label files of a split: finding them, pairing them, reading them as a data set."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ccnet.classes import IGNORE_INDEX
from ccnet.datasets.dataset import SizeMismatchError
from ccnet.datasets.labels import LabelMap
from ccnet.images.reading import IMAGE_SUFFIXES, DataError, read_image

LABEL_SUFFIX = ".png"
LAYOUTS = (("{split}/images", "{split}/labels"), ("images/{split}", "labels/{split}"))


@dataclass(frozen=True)
class Pairs:
    """The files of a split, sorted, and those that have no partner."""

    layout: str
    """Where they were found, relative to the root: two folders, or a list file."""
    pairs: tuple[tuple[Path, Path], ...]
    """(image, label), both existing."""
    unmatched_images: tuple[Path, ...] = ()
    unmatched_labels: tuple[Path, ...] = ()
    missing: tuple[Path, ...] = ()
    """Files that a list names and that don't exist."""


class PairedDataset(ABC):
    """A data set of image and label files; a subclass says which files, and what labels mean.

    Image and label are both turned upright by their own EXIF orientation, so a label must be drawn
    on the photograph as it is viewed. With `strict=False` files without a partner are left out
    instead of raising DataError; `files` lists them.
    """

    ignore_index = IGNORE_INDEX

    @abstractmethod
    def __init__(self, root: Path, files: Pairs, label_map: LabelMap, strict: bool = True):
        if strict:
            _refuse_unmatched(root, files)
        self.root = root
        self.files = files
        self.label_map = label_map
        self.classes = label_map.classes
        self.palette = label_map.palette

    def __len__(self) -> int:
        return len(self.files.pairs)

    def __getitem__(
        self, index: int
    ) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
        image_path, label_path = self.files.pairs[index]
        image, label = read_image(image_path), self.label_map.read(label_path)
        if image.shape[:2] != label.shape:
            raise SizeMismatchError(
                f"{image_path} is {_size(image)}, its label {label_path} is {_size(label)}. "
                + _mismatch_advice(image_path, label),
                path=image_path,
            )
        return image, label

    def name(self, index: int) -> str:
        """The image's path, relative to the root where it lies below it."""
        return relative_name(self.files.pairs[index][0], self.root)


def find_pairs(
    root: Path, split: str, layouts: Sequence[tuple[str, str]] = LAYOUTS, use_list: bool = True
) -> Pairs:
    """Pairs images (.jpg .jpeg .png .bmp .webp .tif .tiff) with labels (.png) of the same stem.

    The first of `layouts` whose two folders exist is taken, sub-folders and all; hidden files are
    skipped. If there is none, and `use_list`, the list file `<split>.txt`: lines "image label",
    relative to the root, separated by a comma, a tab or blanks; blank and # lines are skipped.
    Raises DataError where nothing of these exists or a line can't be read, never for files without
    a partner: those are returned.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder.", path=root)
    for images, labels in layouts:
        images, labels = images.format(split=split), labels.format(split=split)
        if (root / images).is_dir() and (root / labels).is_dir():
            return _pair_folders(root / images, root / labels, f"{images} + {labels}")
    listed = root / f"{split}.txt"
    if use_list and listed.is_file():
        return _read_list(root, listed)
    tried = [" + ".join(pattern.format(split=split) for pattern in pair) for pair in layouts]
    found = ", ".join(sorted(path.name for path in root.iterdir())[:12])
    raise DataError(
        f"{root}: no split {split!r}. Looked for {'; '.join(tried + [listed.name] * use_list)}; "
        f"the folder holds: {found or 'nothing'}.",
        path=root,
    )


def _pair_folders(images: Path, labels: Path, layout: str) -> Pairs:
    image_of, spare_images = _by_stem(images, IMAGE_SUFFIXES)
    label_of, spare_labels = _by_stem(labels, (LABEL_SUFFIX,))
    spare_images += [path for stem, path in image_of.items() if stem not in label_of]
    spare_labels += [path for stem, path in label_of.items() if stem not in image_of]
    return Pairs(
        layout=layout,
        pairs=tuple((path, label_of[stem]) for stem, path in image_of.items() if stem in label_of),
        unmatched_images=tuple(sorted(spare_images)),
        unmatched_labels=tuple(sorted(spare_labels)),
    )


def _by_stem(folder: Path, suffixes: tuple[str, ...]) -> tuple[dict[Path, Path], list[Path]]:
    """The files by their relative path without suffix, and those that can't have a partner."""
    files: dict[Path, Path] = {}
    spare = []
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or path.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        stem = path.relative_to(folder).with_suffix("")
        if path.suffix.lower() not in suffixes or stem in files:
            spare.append(path)
        else:
            files[stem] = path
    return files, spare


def _read_list(root: Path, listed: Path) -> Pairs:
    pairs, images, labels, missing = [], [], [], []
    # a name in another encoding then shows up as a missing file
    text = listed.read_text(encoding="utf-8-sig", errors="replace")
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        separator = next((mark for mark in (",", "\t") if mark in line), None)
        names = [name.strip() for name in line.split(separator)]
        if len(names) != 2:
            raise DataError(
                f"{listed}, line {number}: wants two paths, image and label, got {line!r}. "
                "Separate paths that contain blanks by a comma or a tab.",
                path=listed,
            )
        image, label = (root / name for name in names)
        missing += [path for path in (image, label) if not path.is_file()]
        if image.is_file() and label.is_file():
            pairs.append((image, label))
        elif image.is_file():
            images.append(image)
        elif label.is_file():
            labels.append(label)
    return Pairs(listed.name, tuple(pairs), tuple(images), tuple(labels), tuple(missing))


def _refuse_unmatched(root: Path, files: Pairs) -> None:
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
            f"{root} ({files.layout}): {'; '.join(problems)}. An image and its label have the same "
            "name, one of each, the label ending in .png; `ccnet check-data` lists all that don't.",
            path=root,
        )
    if not files.pairs:
        raise DataError(f"{root} ({files.layout}): no images in there.", path=root)


def _mismatch_advice(image_path: Path, label: UInt8[np.ndarray, "h w"]) -> str:
    with Image.open(image_path) as stored:
        if (stored.height, stored.width) == label.shape:
            return (
                "The label fits the photograph as stored, not as its EXIF orientation shows it: "
                "turn the label, or remove the orientation from the image."
            )
    return "Resize the label to the image's size by nearest neighbour, or find the right file."


def _size(array: np.ndarray) -> str:
    return f"{array.shape[1]}×{array.shape[0]}"


def relative_name(path: Path, root: Path) -> str:
    """The path below the root with forward slashes; elsewhere the path as it is."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()
