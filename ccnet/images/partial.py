"""Arrays that are written to disk in parts, and of which a kill loses only the part in hand.

Beside a file NAME that is to be made there is a folder .NAME.part with

    layers       one file per array, such as "labels": H × W bytes, row by row
    journal      a line with the settings, and one line per finished part with its digest

A part's pixels are on the disk itself before its line is written. So a part with a line is whole,
except where something else has changed the file, which its digest tells.
"""

import functools
import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import UInt8

from ccnet.runtime.disk import flush, flush_folder, named_if_full, partial_path, remove

JOURNAL = "journal"
Window = tuple[int, int, int, int]
"""Top, left, height and width."""


class PartialArrays:
    """The arrays of a file that is being made; those that were made by the same settings are kept.

    Args:
        path: of the file.
        settings: all that the arrays depend on, as JSON has it; what others left is removed.
        size: height and width of the arrays.
        parts: the windows in which the arrays will be written, in this order.
        layers: names of the arrays.

    Raises:
        OSError: the folder cannot be written.
    """

    def __init__(
        self,
        path: Path,
        settings: Mapping[str, Any],
        size: tuple[int, int],
        parts: Sequence[Window],
        layers: Sequence[str],
    ) -> None:
        self.folder = partial_path(path)
        self.path, self.parts, self.width = path, parts, size[1]
        lines = _read_journal(self.folder)
        if not lines or lines[0] != settings:
            self._start(settings, size, layers)
            lines = [settings]
        self.files = {name: (self.folder / name).open("rb+") for name in layers}
        self.num_finished = self._count_finished(lines[1:])
        self.journal = (self.folder / JOURNAL).open("rb+", buffering=0)
        lines = lines[: 1 + self.num_finished]
        self.journal.truncate(sum(map(len, map(_line, lines))))
        self.journal.seek(0, os.SEEK_END)

    def _start(
        self, settings: Mapping[str, Any], size: tuple[int, int], layers: Sequence[str]
    ) -> None:
        remove(self.folder)
        self.folder.mkdir(parents=True)
        for name in layers:
            with (self.folder / name).open("xb") as file:
                file.truncate(size[0] * size[1])
        with (self.folder / JOURNAL).open("xb") as file:
            file.write(_line(settings))
        flush(self.folder / JOURNAL)
        flush_folder(self.folder)
        flush_folder(self.folder.parent)

    def _count_finished(self, lines: Sequence[Any]) -> int:
        """How many of the first parts have a line and still hold what it says."""
        for number, (part, line) in enumerate(zip(self.parts, lines, strict=False)):
            if line != self._entry(part):
                return number
        return min(len(self.parts), len(lines))

    def _entry(self, part: Window) -> dict[str, Any]:
        digest = hashlib.sha256()
        top, left, height, width = part
        for name in self.files:
            for row in range(top, top + height):
                digest.update(self.read(name, row, left, 1, width).data)
        return {"part": list(part), "sha256": digest.hexdigest()}

    def add(self, arrays: Mapping[str, UInt8[np.ndarray, "h w"]]) -> None:
        """Write the next part of each array; when this returns, it survives a kill."""
        part = self.parts[self.num_finished]
        top, left = part[:2]
        digest = hashlib.sha256()
        try:
            for name, file in self.files.items():
                pixels = np.ascontiguousarray(arrays[name])
                digest.update(pixels.data)
                for row, line in enumerate(pixels, start=top):
                    file.seek(row * self.width + left)
                    file.write(line.data)
                file.flush()
                os.fsync(file.fileno())
            self.journal.write(_line({"part": list(part), "sha256": digest.hexdigest()}))
            os.fsync(self.journal.fileno())
        except OSError as error:
            raise named_if_full(error, self.path) from error
        self.num_finished += 1

    def read(
        self, name: str, top: int, left: int, height: int, width: int
    ) -> UInt8[np.ndarray, "h w"]:
        """A window of an array. Where nothing was written it is 0."""
        pixels = np.zeros((height, width), np.uint8)
        file = self.files[name]
        for row, line in enumerate(pixels, start=top):
            file.seek(row * self.width + left)
            file.readinto(line.data)
        return pixels

    def reader(self, name: str) -> Callable[[int, int, int, int], UInt8[np.ndarray, "h w"]]:
        """Reads windows of one array."""
        return functools.partial(self.read, name)

    def remove(self) -> None:
        """Remove the folder, when the file is there."""
        self.close()
        remove(self.folder)

    def close(self) -> None:
        for file in (*self.files.values(), self.journal):
            file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def kept_settings(path: Path) -> dict[str, Any] | None:
    """The settings of what an earlier process left of the arrays for a file; None if nothing."""
    lines = _read_journal(partial_path(path))
    return lines[0] if lines and isinstance(lines[0], dict) else None


def remove_partial(path: Path) -> None:
    """Remove what an earlier process left of the arrays for a file."""
    remove(partial_path(path))


def _read_journal(folder: Path) -> list[Any]:
    """The values in the complete lines of a journal, up to the first that is damaged."""
    try:
        content = (folder / JOURNAL).read_bytes()
    except FileNotFoundError:
        return []
    values = []
    for line in content.splitlines(keepends=True):
        try:
            value = json.loads(line)
        except ValueError:
            break
        if line != _line(value):
            break
        values.append(value)
    return values


def _line(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode("ascii") + b"\n"
