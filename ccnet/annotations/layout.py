"""Images and label maps written as the folders that ccnet reads."""

import errno
import filecmp
import io
import os
import shutil
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import yaml
from jaxtyping import UInt8
from PIL import Image

from ccnet.runtime.disk import require_replaceable, write_whole
from ccnet.runtime.files import DataError, read_bytes

DESCRIPTION = "dataset.yaml"
MAX_LABEL = 1 << 28
"""Bytes of a label map."""


@dataclass(frozen=True)
class Entry:
    """An image and its label map, and where they go."""

    split: str
    name: str
    """Path of the image in its folder, with forward slashes."""
    image: Path
    read: Callable[[], UInt8[np.ndarray, "h w"]]
    """Makes the label map."""

    def image_path(self, folder: Path) -> Path:
        return folder / self.split / "images" / self.name

    def label_path(self, folder: Path) -> Path:
        return (folder / self.split / "labels" / self.name).with_suffix(".png")


def write_layout(
    folder: Path,
    entries: Sequence[Entry],
    description: Mapping[str, object],
    *,
    link: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> int:
    """Write images, label maps (8-bit PNGs of class indices) and, at the end, dataset.yaml.

    A file that is there and is what would be written is kept, so the same call goes on after a
    kill. Nothing that is there is replaced.

    Args:
        folder: where to write; new, empty, or left by an earlier call that was ended.
        entries: what to write.
        description: the content of dataset.yaml.
        link: give images a second name (hard link) instead of copying them.
        progress: called as `progress(done, total)` after each image.

    Returns:
        The number of files that were written.

    Raises:
        DataError: two images would have one label, or the folder holds another file.
        OSError: a file cannot be written, or not be linked.
    """
    described = yaml.safe_dump(dict(description), sort_keys=False, allow_unicode=True, width=100)
    targets = _targets(folder, entries)
    _require_own(folder, targets)
    written = 0
    for done, entry in enumerate(entries, start=1):
        written += _write(entry.label_path(folder), encoded(entry.read()))
        written += _transfer(entry.image, entry.image_path(folder), link)
        if progress is not None:
            progress(done, len(entries))
    return written + _write(folder / DESCRIPTION, described.encode())


def encoded(label: UInt8[np.ndarray, "h w"]) -> bytes:
    """A label map as a grayscale PNG."""
    buffer = io.BytesIO()
    Image.fromarray(label).save(buffer, format="PNG")
    return buffer.getvalue()


def _targets(folder: Path, entries: Sequence[Entry]) -> set[Path]:
    """The files that are to be there at the end."""
    targets = {folder / DESCRIPTION}
    labels: dict[str, Entry] = {}
    for entry in entries:
        label = entry.label_path(folder)
        key = unicodedata.normalize("NFC", label.as_posix())
        other = labels.setdefault(key, entry)
        if other is not entry:
            raise DataError(
                f"{entry.image}: its label would be the file {label}, as that of {other.image}; "
                "rename one of the images.",
                path=entry.image,
            )
        targets |= {label, entry.image_path(folder)}
    return targets


def _require_own(folder: Path, targets: set[Path]) -> None:
    """Raises DataError for a file in the folder that is no target and not left by a kill."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder}: it is a file; give the name of a new folder.", path=folder)
    parts = {path.relative_to(folder) for path in targets}
    folders = {parent for path in parts for parent in path.parents}
    for path in _content(folder):
        inside = path.relative_to(folder)
        name = PurePosixPath(inside)
        is_left = name.name.startswith(".") and name.name.endswith(".new")
        if path.is_dir() and not path.is_symlink():
            is_own = inside in folders
        else:
            is_own = inside in parts or is_left
        if not is_own:
            raise DataError(
                f"{path}: it is not of this import, which writes to a folder of its own; give the "
                "name of a new folder.",
                path=path,
            )


def _content(folder: Path) -> Iterator[Path]:
    """All that is in a folder, before what is below it."""
    for parent, folders, names in os.walk(folder):
        yield from (Path(parent, name) for name in sorted([*folders, *names]))


def _write(path: Path, content: bytes) -> int:
    """Write a file; 0 if it is there already. Raises DataError if another one is."""
    if not os.path.lexists(path):
        write_whole(
            path, lambda fresh: fresh.write_bytes(content), flush_to_disk=path.suffix == ".yaml"
        )
        return 1
    if read_bytes(path, MAX_LABEL) != content:
        raise _different(path)
    return 0


def _transfer(image: Path, path: Path, link: bool) -> int:
    """Copy or link an image; 0 if it is there already. Raises DataError if another one is."""
    if os.path.lexists(path):
        require_replaceable(path)
        if path.is_symlink() or not filecmp.cmp(image, path, shallow=False):
            raise _different(path)
        return 0
    if not link:
        write_whole(path, lambda fresh: shutil.copyfile(image, fresh), flush_to_disk=False)
        return 1
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(image.resolve(), path)
    except OSError as error:
        if error.errno not in (errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK):
            raise
        raise DataError(
            f"{path}: {image} cannot have a second name there ({error.strerror}); leave out "
            "--link, so that images are copied.",
            path=path,
        ) from error
    return 1


def _different(path: Path) -> DataError:
    return DataError(
        f"{path}: it is there, but is not what this import would write (another source or other "
        "flags, or it was edited); remove it, or give the name of a new folder.",
        path=path,
    )
