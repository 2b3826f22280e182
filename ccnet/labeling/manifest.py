"""What became of every image of a prediction: OUTPUT/manifest.jsonl, one line per image.

It serves programs that process the label maps further without opening all of them: from which image
and by which model each was made, its size, what failed and why, and how long it took.

Each of several processes writes a file of its own, such as manifest.0003.jsonl for process 3. Lines
are only added, and only if they say something new: a command that is started again adds none for
label maps that it keeps. `read_manifests` merges the files; of several lines about the same labels,
the last one written counts. A file of this name that is none of ours, such as a link, is an error,
and is left as it is.

    image, labels      the paths; that of the labels is relative to OUTPUT
    status             "written"; "kept", if no line said before that they are there; or "failed"
    reason             why it failed
    stamp              of the labels: fingerprint of the model, size and time of change of the image
    width, height      in pixels
    seconds            for predicting and writing
    process, finished  number of the process; date and time in UTC
"""

import json
import math
import os
import re
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal, NoReturn, Self, get_args

from ccnet.labeling.jobs import Job
from ccnet.runtime.disk import named_if_full
from ccnet.runtime.files import MAX_TEXT, DataError, cause_of, open_regular, shown

Status = Literal["written", "kept", "failed"]
NAME = re.compile(r"manifest(\.\d{4,})?\.jsonl")
OPENING, MIDDLE = b'{"image": "', b'", "labels": "'
"""What stands before and after the path of the image in a line."""

FIELDS = {
    **dict.fromkeys(("image", "labels", "status", "finished"), (str,)),
    **dict.fromkeys(("reason", "stamp"), (str, type(None))),
    **dict.fromkeys(("width", "height"), (int, type(None))),
    "seconds": (int, float, type(None)),
    "process": (int,),
}
"""Fields of a line, and the types that each may have."""


@dataclass(frozen=True)
class Entry:
    """One line of a manifest."""

    image: str
    labels: str
    status: Status
    reason: str | None = None
    stamp: str | None = None
    width: int | None = None
    height: int | None = None
    seconds: float | None = None
    process: int = 0
    finished: str = ""

    @property
    def result(self) -> tuple[bool, str | None, str | None]:
        """What makes a line about the same labels a new one: success, reason and stamp."""
        return self.status != "failed", self.reason, self.stamp

    @classmethod
    def from_line(cls, line: bytes) -> Self:
        """The entry of a line of a manifest; ValueError if it is none."""
        content = json.loads(line.decode("utf-8"), parse_constant=_refuse)
        if not isinstance(content, dict):
            raise ValueError("no mapping")
        if missing := {"image", "labels", "status"} - content.keys():
            raise ValueError(f"without {', '.join(sorted(missing))}")
        for name, value in content.items():
            if name not in FIELDS:
                raise ValueError(f"unknown field {shown(name)}")
            if type(value) not in FIELDS[name] or (type(value) is float and math.isinf(value)):
                raise ValueError(f"{name} is {shown(value)}")
        if content["status"] not in get_args(Status):
            raise ValueError(f"status is {shown(content['status'])}")
        return cls(**content)


class Manifest:
    """The file to which one process of a prediction adds its lines.

    Args:
        folder: folder of the label maps.
        labels: paths, relative to the folder, of the label maps that this process is to write.
        process, num_processes: number of this process, and of all processes.

    Raises:
        DataError: a manifest in the folder is none of ours.
    """

    def __init__(
        self, folder: Path, labels: set[str], process: int = 0, num_processes: int = 1
    ) -> None:
        name = "manifest.jsonl" if num_processes == 1 else f"manifest.{process:04d}.jsonl"
        self.folder = folder
        self.path = folder / name
        self.process = process
        entries = read_manifests(folder)
        self.known = {name: entries[name].result for name in labels & entries.keys()}
        self.file: BinaryIO | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.file is not None:
            self.file.close()

    def add(
        self,
        job: Job,
        status: Status,
        *,
        reason: str | None = None,
        stamp: str | None = None,
        width: int | None = None,
        height: int | None = None,
        seconds: float | None = None,
    ) -> None:
        """Add a line, unless the last line about the same labels says the same."""
        entry = Entry(
            image=str(job.image),
            labels=job.labels.relative_to(self.folder).as_posix(),
            status=status,
            reason=reason,
            stamp=stamp,
            width=width,
            height=height,
            seconds=seconds,
            process=self.process,
            finished=datetime.now(UTC).isoformat(timespec="microseconds"),
        )
        if self.known.get(entry.labels) == entry.result:
            return
        if self.file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = open_to_append(self.path)
        # ASCII preserves file names that are not valid UTF-8
        line = json.dumps(asdict(entry)).encode("ascii") + b"\n"
        try:
            while line:  # a disk that becomes full takes a part of it first
                line = line[self.file.write(line) :]
        except OSError as error:
            raise named_if_full(error, self.path) from error
        self.known[entry.labels] = entry.result


def read_manifests(folder: Path) -> dict[str, Entry]:
    """The last line about each label map, by the path of the label map relative to the folder.

    All lines are held in memory. An incomplete last line, which a kill may leave, is skipped.

    Raises:
        DataError: another line is not one of a manifest, or a manifest is no regular file.
    """
    latest: dict[str, Entry] = {}
    for path in sorted(folder.glob("manifest*.jsonl")):
        if not NAME.fullmatch(path.name):
            continue
        for entry in _entries(path):
            earlier = latest.get(entry.labels)
            if earlier is None or earlier.finished <= entry.finished:
                latest[entry.labels] = entry
    return latest


def _entries(path: Path) -> Iterator[Entry]:
    if path.is_symlink():
        _refuse_link(path)
    try:
        with open_regular(path) as file:
            number = 0
            while line := file.readline(MAX_TEXT):
                number += 1
                if not line.endswith(b"\n") and _may_be_torn(line, is_only=number == 1):
                    return
                try:
                    entry = Entry.from_line(line)
                except (ValueError, RecursionError) as error:
                    reason = str(error) if isinstance(error, ValueError) else "too many levels"
                    raise DataError(
                        f"{path}, line {number}: no line of a manifest ({reason}); after the file "
                        "is removed, the same command writes a new one and keeps the label maps",
                        path=path,
                    ) from None
                yield entry
    except OSError as error:
        raise DataError(f"{path}: {cause_of(error)}.", path=path) from error


def _may_be_torn(line: bytes, *, is_only: bool) -> bool:
    """Whether a last line without an end is what a kill or a crash left of a line of ours.

    After whole lines of ours that may be anything. An only line must begin as ours do: otherwise it
    is the file of somebody else, which must not be cut.
    """
    if len(line) == MAX_TEXT:
        return False
    if not is_only:
        return True
    after_image = re.match(rb'(?:[^"\\]|\\.)*\\?', line[len(OPENING) :], re.DOTALL)
    assert after_image is not None  # it matches nothing as well
    rest = line[len(OPENING) + after_image.end() :][: len(MIDDLE)]
    return OPENING.startswith(line[: len(OPENING)]) and MIDDLE.startswith(rest)


def open_to_append(path: Path) -> BinaryIO:
    """Open a manifest without a buffer, and remove what follows the end of its last whole line.

    Raises:
        DataError: it is a link or no regular file, or its only line is none of ours.
    """
    flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | getattr(os, "O_NONBLOCK", 0)
    flags |= getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    if path.is_symlink():
        _refuse_link(path)
    try:
        descriptor = os.open(path, flags, 0o666)
    except OSError as error:
        raise DataError(f"{path}: {cause_of(error)}.", path=path) from error
    file = os.fdopen(descriptor, "rb+", buffering=0)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise DataError(f"{path}: no regular file; move it away.", path=path)
        _remove_torn_line(file, path)
    except BaseException:
        file.close()
        raise
    return file


def _remove_torn_line(file: BinaryIO, path: Path) -> None:
    end = file.seek(0, os.SEEK_END)
    start = max(0, end - MAX_TEXT)
    file.seek(start)
    tail = file.read(end - start)
    torn = tail[tail.rfind(b"\n") + 1 :]
    if torn and not _may_be_torn(torn, is_only=len(torn) == end):
        raise DataError(f"{path}: no manifest of ccnet predict; move it away.", path=path)
    file.truncate(end - len(torn))


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is no number of JSON")


def _refuse_link(path: Path) -> NoReturn:
    raise DataError(
        f"{path}: a symbolic link, which is not written through; remove it or move it away.",
        path=path,
    )
