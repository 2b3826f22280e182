"""The files of a split: pairs of image and label, and what has no partner or was passed over."""

import os
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccnet.runtime.files import DataError


@dataclass(frozen=True)
class Pairs:
    """The files of a split, sorted, and those without a partner."""

    layout: str
    """Where they were found, relative to the root: two folders, one folder, or a list file."""
    pairs: tuple[tuple[Path, Path], ...]
    """(image, label), both existing."""
    unmatched_images: tuple[Path, ...] = ()
    unmatched_labels: tuple[Path, ...] = ()
    missing: tuple[Path, ...] = ()
    """Files that a list file names but that do not exist."""
    unusable: tuple[DataError, ...] = ()
    """Why files cannot be opened: links without a target, FIFOs, folders without permission."""
    hidden: tuple[Path, ...] = ()
    """Hidden files and folders that were left out."""
    notes: tuple[str, ...] = ()
    """What was chosen and what was passed over, one line each."""
    naming: str = "one label of the same name that ends in .png"
    """Which label an image needs, for messages."""


def relative_name(path: Path, root: Path) -> str:
    """The path relative to the root, with forward slashes; a path elsewhere is unchanged."""
    return (path.relative_to(root) if path.is_relative_to(root) else path).as_posix()


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC), in which names are compared.

    File systems and archives of macOS have decomposed names (NFD), which look the same.
    """
    return unicodedata.normalize("NFC", name)


def existing(root: Path, name: str) -> Path:
    """The file of a name as it is written, composed or decomposed, whichever is there."""
    paths = [root / name, *(root / unicodedata.normalize(form, name) for form in ("NFC", "NFD"))]
    return next((path for path in paths if os.path.lexists(path)), paths[0])


def refuse_unmatched(root: Path, files: Pairs) -> None:
    """Raise DataError, with examples, for files that are missing or have no partner."""
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
        f"{kind} ({len(paths)}): {named(paths, root)}" for kind, paths in kinds.items() if paths
    ]
    if problems:
        raise DataError(
            f"{root} ({files.layout}): {'; '.join(problems)}. Each image needs {files.naming}; "
            "`ccnet check-data` lists all files without a partner.",
            path=root,
        )
    if not files.pairs:
        raise DataError(f"{root} ({files.layout}): there are no images.", path=root)


def named(paths: Sequence[Path], root: Path, most: int = 5) -> str:
    """The first of some paths, for a message."""
    return ", ".join(relative_name(path, root) for path in paths[:most]) + ", ..." * bool(
        paths[most:]
    )


def notes_on_others(others: Iterable[tuple[str, int]]) -> list[str]:
    """A line on annotation files that were found beside images, by suffix and number."""
    counts = [(suffix, count) for suffix, count in others if suffix in ANNOTATIONS and count]
    if not counts:
        return []
    found = " and ".join(f"{count} {suffix}" for suffix, count in sorted(counts))
    number = sum(count for _, count in counts)
    is_one = number == 1
    return [
        f"there {'is' if is_one else 'are'} {found} {'file' if is_one else 'files'} beside the "
        "images, which were not read, since label files are there"
    ]


ANNOTATIONS = (".json", ".xml")
"""Suffixes of the annotations of tools, such as LabelMe and VOC."""
