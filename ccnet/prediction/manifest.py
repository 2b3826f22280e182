"""What became of every image of a prediction: OUTPUT/manifest.jsonl, one line per image.

It serves programs that process the label maps further without opening all of them: from which image
and by which model each was made, its size, what failed and why, and how long it took.

Each of several processes writes a file of its own, such as manifest.0003.jsonl for process 3. Lines
are only added, and only if they say something new: a command that is started again adds none for
label maps that it keeps. `read_manifests` merges the files; of several lines about the same labels,
the last one written counts.

    image, labels      the paths; that of the labels is relative to OUTPUT
    status             "written"; "kept", if no line said before that they are there; or "failed"
    reason             why it failed
    stamp              of the labels: fingerprint of the model, size and time of change of the image
    width, height      in pixels
    seconds            for predicting and writing
    process, finished  number of the process; date and time in UTC
"""

import json
import os
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO, Literal, Self

from ccnet.prediction.jobs import Job

Status = Literal["written", "kept", "failed"]
PATTERN = "manifest*.jsonl"


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


class Manifest:
    """The file to which one process of a prediction adds its lines.

    Args:
        folder: folder of the label maps.
        labels: paths, relative to the folder, of the label maps that this process is to write.
        process, num_processes: number of this process, and of all processes.
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
            self.file = self.path.open("ab", buffering=0)
            remove_incomplete_line(self.path)
        # ASCII preserves file names that are not valid UTF-8
        self.file.write(json.dumps(asdict(entry)).encode("ascii") + b"\n")
        self.known[entry.labels] = entry.result


def read_manifests(folder: Path) -> dict[str, Entry]:
    """The last line about each label map, by the path of the label map relative to the folder.

    All lines are held in memory. An incomplete last line, which a kill may leave, is skipped.

    Raises:
        ValueError: another line is not one of a manifest.
    """
    latest: dict[str, Entry] = {}
    for path in sorted(folder.glob(PATTERN)):
        with path.open("rb") as file:
            for number, line in enumerate(file, start=1):
                if not line.endswith(b"\n"):
                    break
                try:
                    entry = Entry(**json.loads(line))
                except (ValueError, TypeError) as error:
                    raise ValueError(
                        f"{path}, line {number}: no line of a manifest ({error}); after the file "
                        "is removed, the same command writes a new one and keeps the label maps"
                    ) from None
                earlier = latest.get(entry.labels)
                if earlier is None or earlier.finished <= entry.finished:
                    latest[entry.labels] = entry
    return latest


def remove_incomplete_line(path: Path) -> None:
    """Remove what follows the end of the last complete line."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        tail = b""
        while end > 0 and b"\n" not in tail:
            start = max(0, end - 4096)
            file.seek(start)
            tail = file.read(end - start)
            end = start
        file.truncate(end + tail.rfind(b"\n") + 1)
