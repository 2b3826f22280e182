"""What every reader of annotations returns, and the decisions that all of them share."""

import os
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64

from ccnet.annotations.drawing import Drawing, Overlap
from ccnet.classes import IGNORE_INDEX
from ccnet.images.reading import IMAGE_SUFFIXES
from ccnet.runtime.files import DataError, read_text, shown

Unlabeled = Literal["background", "ignored"]
"""What pixels in no shape are."""

NAME_FILES = ("class_names.txt", "classes.txt", "labels.txt")
"""Files that may name the classes, one a line."""
BACKGROUND = "background"
BACKGROUNDS = ("background", "_background_", "__background__")
IGNORED = ("ignore", "_ignore_", "__ignore__")
"""Names of classes, in lower case, that are none."""
MAX_ANNOTATIONS = 1_500_000_000
"""Bytes of an annotation file; those of COCO and of LVIS have up to 1.1 GB."""
LARGEST = 1e7
"""Pixels of the largest coordinate that can be meant."""
SPLITS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "dev": "val",
    "test": "test",
    "testing": "test",
}
"""Names of splits and ours for them."""


@dataclass(frozen=True)
class Options:
    """How annotations are understood."""

    overlap: Overlap = "later"
    unlabeled: Unlabeled | None = None
    """None: background."""


@dataclass(frozen=True)
class Sample:
    """An image and its label."""

    name: str
    """Path of the image for reports and for import, relative, with forward slashes."""
    image: Path
    label: Drawing | Path
    """What is drawn on it, or a label file that `Source.description` explains."""

    @property
    def label_path(self) -> Path:
        """The file that the label is in."""
        return self.label if isinstance(self.label, Path) else self.label.path


@dataclass
class Source:
    """Images and their annotations, by split."""

    kind: str
    """What it is, in words."""
    root: Path
    description: dict[str, Any]
    """The keys of a dataset.yaml: at least `classes`."""
    splits: dict[str, list[Sample]] = field(default_factory=dict)
    missing: dict[str, list[Path]] = field(default_factory=dict)
    """Images that are annotated but not there, by split."""
    notes: list[str] = field(default_factory=list)
    """What was decided and what was passed over, one line each."""

    @property
    def is_drawn(self) -> bool:
        """Whether the labels are shapes to draw, and no files of their own."""
        samples = (sample for part in self.splits.values() for sample in part)
        return any(isinstance(sample.label, Drawing) for sample in samples)


@dataclass
class PassedOver:
    """Counts of what a reader passes over or changes, by cause, each with its first place."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)

    def add(self, cause: str, place: object) -> None:
        self.counts[cause] += 1
        self.first.setdefault(cause, str(place))

    def notes(self) -> Iterator[str]:
        for cause, count in self.counts.items():
            yield f"{cause}: {count} (first: {self.first[cause]})"


def count_unnamed(found: Source, passed: PassedOver) -> None:
    """Count the images that lie beside those of the samples and are in no annotation."""
    samples = [sample for part in found.splits.values() for sample in part]
    used = {path for sample in samples for path in (sample.image, sample.label_path)}
    for folder in sorted({sample.image.parent for sample in samples}):
        for path in sorted(folder.iterdir()):
            is_image = path.suffix.lower() in IMAGE_SUFFIXES and not path.name.startswith(".")
            if is_image and path not in used:
                passed.add("images that no annotation names, passed over", path)


@dataclass(frozen=True)
class Meaning:
    """Which classes names stand for."""

    classes: tuple[str, ...]
    index_of: dict[str, int]
    """Class index of each name of the source, 255 where it is ignored."""
    unlabeled: int
    """The value of pixels in no shape."""
    notes: tuple[str, ...]


def decide_classes(path: Path, names: Sequence[str], unlabeled: Unlabeled | None) -> Meaning:
    """Classes from the names of a source, with one for pixels that nobody labeled.

    A name such as "_background_" is that class. Without one, "background" becomes class 0, unless
    unlabeled pixels are to be ignored. A class called "ignore" is none: its pixels become 255.

    Raises:
        DataError: there are no names, more than 255 classes, or a name twice.
    """
    repeated = [name for name, count in Counter(names).items() if count > 1]
    if repeated or not names:
        problem = f"the class {shown(repeated[0])} is there twice" if names else "it has no classes"
        raise DataError(f"{path}: {problem}.", path=path)
    ignored = [name for name in names if name.strip().lower() in IGNORED]
    kept = [name for name in names if name not in ignored]
    own = [name for name in kept if name.strip().lower() in BACKGROUNDS]
    notes = [f"pixels of {shown(name)} are ignored (255)" for name in ignored]
    if unlabeled == "ignored":
        classes, value = kept, IGNORE_INDEX
        notes.append("pixels that nobody labeled are ignored (255), as asked for")
    elif own:
        classes, value = kept, kept.index(own[0])
        notes.append(f"pixels that nobody labeled are of the class {shown(own[0])}")
    else:
        classes, value = [BACKGROUND, *kept], 0
        notes.append(f"pixels that nobody labeled are of the new class 0, {BACKGROUND!r}")
    if not 1 <= len(classes) <= IGNORE_INDEX:
        raise DataError(
            f"{path}: {len(classes)} classes with {BACKGROUND!r}; there may be 1 to 255.", path=path
        )
    index_of = {name: classes.index(name) for name in kept} | dict.fromkeys(ignored, IGNORE_INDEX)
    return Meaning(tuple(classes), index_of, value, tuple(notes))


def read_ring(
    values: object, size: tuple[int, int] | None, passed: PassedOver, place: object
) -> Float64[np.ndarray, "corners 2"] | None:
    """The corners of a polygon from numbers x, y, x, y, ... or from pairs of them.

    Args:
        values: a list.
        size: height and width of the image, if they are known; points outside are counted.
        passed: counts polygons of fewer than three points, for which None is returned.
        place: where the polygon is, for messages.

    Raises:
        ValueError: it is no list of finite numbers of a sensible size.
    """
    try:
        ring = np.array(values, np.float64)
    except (ValueError, TypeError, OverflowError):
        raise ValueError(f"no list of numbers: {shown(values)}") from None
    if not isinstance(values, list) or ring.size % 2 or (ring.ndim == 2 and ring.shape[1] != 2):
        raise ValueError(f"a polygon is x and y of each corner in turn, got {shown(values)}")
    if ring.ndim > 2 or (values and not _has_numbers(values)):
        raise ValueError(f"a polygon is a list of numbers, got {shown(values)}")
    ring = ring.reshape(-1, 2)
    if not (np.abs(ring) <= LARGEST).all():
        wrong = ring[~(np.abs(ring) <= LARGEST)][0]
        raise ValueError(f"a coordinate is {wrong:g}, which is in no image")
    if len(ring) < 3:
        passed.add("polygons of fewer than three points, passed over", place)
        return None
    count_outside(ring, size, passed, place)
    return ring


def _has_numbers(values: list[object]) -> bool:
    """Whether the items, or those of the lists in it, are numbers, not text or true."""
    flat = [item for part in values for item in (part if isinstance(part, list) else [part])]
    return all(type(item) in (int, float) for item in flat)


def count_outside(
    points: Float64[np.ndarray, "points 2"],
    size: tuple[int, int] | None,
    passed: PassedOver,
    place: object,
) -> None:
    """Count a shape that reaches outside its image."""
    if size is not None and ((points < 0) | (points > (size[1], size[0]))).any():
        passed.add("shapes that reach outside their image, clipped", place)


def path_text(name: object) -> str:
    """The path that an annotation gives, with forward slashes.

    Raises:
        ValueError: it is no text, or no file has such a name.
    """
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise ValueError(f"the name of the image must be text, got {shown(name)}")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        raise ValueError(f"no file has the name {shown(name)}") from None
    return name.replace("\\", "/")


def safe_name(name: object, folder: str = "") -> str:
    """The path that an annotation gives, relative to a folder of the source, with forward slashes.

    Args:
        name: as it is written, relative to `folder`; backslashes separate folders as well.
        folder: path of a folder inside of the source.

    Raises:
        ValueError: it is no text, is absolute or leads out of the source.
    """
    words = path_text(name)
    inside = posixpath.normpath(posixpath.join(folder, words))
    if words.startswith("/") or re.match("[A-Za-z]:", words) or inside.startswith(".."):
        raise ValueError(
            f"the image {shown(name)} may lie outside of the source; write a path inside of it"
        )
    return inside


def split_and_rest(name: str) -> tuple[str, str]:
    """The split whose folder a path begins with, or train, and the path without that folder."""
    word, _, rest = name.partition("/")
    split = SPLITS.get(word.lower()) if rest else None
    return ("train", name) if split is None else (split, rest)


def listed_names(root: Path) -> tuple[Path, list[str]] | None:
    """The names of classes, one a line, in a file of the folder; None if there is no such file."""
    path = next((root / name for name in NAME_FILES if (root / name).exists()), None)
    if path is None:
        return None
    return path, [line.strip() for line in read_text(path).splitlines() if line.strip()]


def require_image_name(name: str) -> None:
    """Raises ValueError for the name of a file that is not read as an image."""
    if Path(name).suffix.lower() not in IMAGE_SUFFIXES:
        raise ValueError(f"{shown(name)} is none of {', '.join(IMAGE_SUFFIXES)}")


def require_distinct(path: Path, names: Sequence[str]) -> None:
    """Raises DataError if an image is there twice, also by another Unicode form of its name."""
    normal = Counter(unicodedata.normalize("NFC", name) for name in names)
    repeated = [name for name, count in normal.items() if count > 1]
    if repeated:
        raise DataError(
            f"{path}: the image {shown(repeated[0])} is there twice"
            + (f", and so are {len(repeated) - 1} others" if repeated[1:] else "")
            + "; put its annotations together.",
            path=path,
        )


def split_in(words: str) -> str | None:
    """The split that a file's or folder's name speaks of: instances_val2017 → val."""
    parts = re.split(r"[^a-z]+", words.lower())
    return next((SPLITS[part] for part in parts if part in SPLITS), None)


def named_causes(path: Path, place: str, error: ValueError) -> DataError:
    """The error of a part of a file with the name of the file and of the place in it."""
    text = str(error).rstrip(".")
    return DataError(f"{path}, {place}: {text}.", path=path)


def stated_size(height: object, width: object) -> tuple[int, int] | None:
    """Height and width where both are stated.

    Raises:
        ValueError: they are no size of an image.
    """
    if height is None and width is None:
        return None
    if type(height) is int and type(width) is int and min(height, width) > 0:
        return height, width
    raise ValueError(f"height {shown(height)} and width {shown(width)} are no size of an image")
