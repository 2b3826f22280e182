"""What a published data set is, and how the files of its splits are found."""

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from ccnet.layouts.files import Pairs, relative_name
from ccnet.layouts.lists import read_list
from ccnet.layouts.pairing import pair_folders
from ccnet.layouts.rules import SAME_NAME, Rule
from ccnet.layouts.search import content_of, is_folder, list_of_that_name
from ccnet.runtime.files import DataError, require_folder, shown


@dataclass(frozen=True)
class Storage:
    """How label files store the classes."""

    values: Mapping[Any, int]
    """Stored number, or color → class index, or 255 where it is ignored. No other occurs."""
    end: str = ""
    """End of the names of such files, without their suffix."""


class Split(Protocol):
    """A split as it is published."""

    @property
    def number(self) -> int:
        """Images that it has."""
        ...

    @property
    def layout(self) -> str:
        """The files and folders that it needs, relative to the root, for messages."""
        ...

    def is_in(self, root: Path) -> bool:
        """Whether these are in a folder."""
        ...

    def find(self, root: Path) -> Pairs:
        """Its files in a folder that `is_in` has agreed to; raises DataError as `find_pairs`."""
        ...


@dataclass(frozen=True)
class FolderSplit:
    """A split that has folders of images and of labels of its own."""

    number: int
    images: tuple[str, ...]
    """Where the folder of images may be, relative to the root: the first that is there counts."""
    labels: tuple[str, ...]
    """The same of the labels."""
    rules: tuple[Rule, ...] = (SAME_NAME,)
    """How a label is named, the first by preference."""

    @property
    def layout(self) -> str:
        return f"{self.images[0]} and {self.labels[0]}"

    def is_in(self, root: Path) -> bool:
        return all(_first_folder(root, names) is not None for names in (self.images, self.labels))

    def find(self, root: Path) -> Pairs:
        images, labels = (_first_folder(root, names) for names in (self.images, self.labels))
        assert images is not None
        assert labels is not None
        files = pair_folders(root, images, labels, self.rules)
        if self.rules == (SAME_NAME,):
            return files
        return replace(files, naming=f"one label: {' or '.join(map(str, self.rules))}.png")


@dataclass(frozen=True)
class NamedData:
    """A published data set."""

    title: str
    """Its name in messages."""
    classes: tuple[str, ...]
    """In the order of their indices."""
    palette: tuple[tuple[int, int, int], ...] | None
    """Its published colors. None: it has none."""
    storages: tuple[Storage, ...]
    """How label files may store the classes; the first whose `end` fits the name of a file."""
    splits: Mapping[str, Split]
    homes: tuple[str, ...] = ()
    """Folders that its archives unpack to, below the root that a user may give."""

    def is_in(self, root: Path) -> bool:
        """Whether any of its splits is in a folder."""
        return any(self._home(root, split) is not None for split in self.splits.values())

    def find(self, root: Path, split: str) -> Pairs:
        """The files of a split, of several joined by + (train+val), or of a list (a .txt file).

        Files without a partner raise nothing; they are in the result.

        Raises:
            DataError: there is no such split or list, or it is not in the root; the message says
                what is there and what should be.
        """
        require_folder(root)
        if _is_list(root, split):
            return self._find_part(root, split)
        parts = [self._find_part(root, part) for part in split.split("+")]
        if len(parts) == 1:
            return parts[0]
        _refuse_repeated(root, split, parts)
        return Pairs(
            layout=" and ".join(part.layout for part in parts),
            pairs=tuple(pair for part in parts for pair in part.pairs),
            unmatched_images=tuple(path for part in parts for path in part.unmatched_images),
            unmatched_labels=tuple(path for part in parts for path in part.unmatched_labels),
            missing=tuple(path for part in parts for path in part.missing),
            unusable=tuple(error for part in parts for error in part.unusable),
            hidden=tuple(path for part in parts for path in part.hidden),
            notes=tuple(note for part in parts for note in part.notes),
            naming=parts[0].naming,
        )

    def storage_of(self, root: Path, files: Pairs) -> Storage:
        """How the label files of a split store the classes.

        Raises:
            DataError: their names fit none of the ways, or several.
        """
        first: dict[int, Path] = {}
        for _, label in files.pairs:
            fitting = (n for n, way in enumerate(self.storages) if label.stem.endswith(way.end))
            number = next(fitting, None)
            if number is None:
                ends = " or ".join(way.end for way in self.storages)
                raise DataError(
                    f"{label}: the name of a label of {self.title} ends in {ends}.", path=label
                )
            first.setdefault(number, label)
        if len(first) > 1:
            names = " and ".join(relative_name(label, root) for label in first.values())
            raise DataError(
                f"{root}: the labels are of several kinds, such as {names}, whose values differ; "
                "keep one kind.",
                path=root,
            )
        return self.storages[next(iter(first), 0)]

    def _find_part(self, root: Path, name: str) -> Pairs:
        if _is_list(root, name):
            return read_list(root, list_of_that_name(root, name), name, lambda: self._all(root))
        if name not in self.splits:
            raise DataError(
                f"{root}: {self.title} has no split {shown(name)}, but {', '.join(self.splits)}, "
                "several of them with + between, and lists (.txt).",
                path=root,
            )
        split = self.splits[name]
        home = self._home(root, split)
        if home is None:
            raise DataError(
                f"{root}: the split {name} of {self.title} needs {split.layout} in this folder, "
                f"which holds: {content_of(root)}. {_advice(root, split)}",
                path=root,
            )
        files = split.find(home)
        if len(files.pairs) == split.number:
            return files
        note = f"{name} has {len(files.pairs)} images; {split.number} were published"
        return replace(files, notes=(*files.notes, note))

    def _home(self, root: Path, split: Split) -> Path | None:
        homes = (root, *(root / name for name in self.homes))
        return next((home for home in homes if split.is_in(home)), None)

    def _all(self, root: Path) -> Iterator[tuple[Path, Path]]:
        """The pairs of all splits that are there."""
        for split in self.splits.values():
            home = self._home(root, split)
            if home is not None:
                yield from split.find(home).pairs


def folder_names(*patterns: str, split: str) -> tuple[str, ...]:
    """Where a folder of a split may be, from patterns with {split} in the place of its name."""
    return tuple(pattern.format(split=split) for pattern in patterns)


def _first_folder(root: Path, names: Sequence[str]) -> Path | None:
    return next((root / name for name in names if is_folder(root / name)), None)


def _is_list(root: Path, split: str) -> bool:
    return split.endswith(".txt") and os.path.lexists(list_of_that_name(root, split))


def _refuse_repeated(root: Path, split: str, parts: Sequence[Pairs]) -> None:
    seen: set[Path] = set()
    for image in (image for part in parts for image, _ in part.pairs):
        if image in seen:
            raise DataError(
                f"{root}: {relative_name(image, root)} is in several of the splits {split}; leave "
                "out the one that is part of another.",
                path=root,
            )
        seen.add(image)


def _advice(root: Path, split: Split) -> str:
    """Where the split is instead, if it is near."""
    folder = root.resolve()
    below = (path for path in sorted(root.iterdir()) if is_folder(path))
    for other in (*folder.parents[:2], *below):
        if split.is_in(other):
            return f"They are in {other}: give that folder."
    return "Give the folder that these lie in."
