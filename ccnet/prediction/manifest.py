"""What became of every image of a prediction: OUTPUT/manifest.jsonl, one line a file.

It is for whoever works on with the label maps without opening a hundred thousand of them: which
image each was made from, by which model, its size, what failed and why, what took long.

Several processes write one each, manifest.0003.jsonl for process 3. Lines are only ever added, and
only where they say something new, so a run that was started again adds none for what was there.
`read_manifests` merges the files: of several lines about the same labels, the last written counts.

    image, labels      the paths, labels below OUTPUT
    status             written; kept: there already, and no line said so; or failed
    reason             of a failure
    stamp              of the labels: fingerprint of the model, size and time of change of the image
    width, height      in pixels
    seconds            for the prediction and the writing
    process, finished  number of the process; date and time, UTC
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
    """A line."""

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
    def news(self) -> tuple[bool, str | None, str | None]:
        """What it says; a line that says the same of the same labels would be no news."""
        return self.status != "failed", self.reason, self.stamp


class Manifest:
    """The file that one process of a prediction adds its lines to.

    Args:
        folder: of the label maps.
        labels: those that this process will write about, by path below the folder.
        process, num_processes: which of how many.
    """

    def __init__(
        self, folder: Path, labels: set[str], process: int = 0, num_processes: int = 1
    ) -> None:
        name = "manifest.jsonl" if num_processes == 1 else f"manifest.{process:04d}.jsonl"
        self.folder = folder
        self.path = folder / name
        self.process = process
        entries = read_manifests(folder)
        self.known = {name: entries[name].news for name in labels & entries.keys()}
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
        """A line, unless it says nothing new."""
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
        if self.known.get(entry.labels) == entry.news:
            return
        if self.file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            self.file = self.path.open("ab", buffering=0)
            remove_torn_line(self.path)
        # ASCII, so that file names that are no UTF-8 come back as they were
        self.file.write(json.dumps(asdict(entry)).encode("ascii") + b"\n")
        self.known[entry.labels] = entry.news


def read_manifests(folder: Path) -> dict[str, Entry]:
    """The last line about each label map, by its path below the folder.

    Holds them all in memory. Raises ValueError for a line that is none of ours; a torn
    last line, left by a kill, is passed over.
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
                        f"{path}, line {number}: no line of a manifest ({error}); without the file "
                        "the same command would write a new one, and keep the label maps"
                    ) from None
                before = latest.get(entry.labels)
                if before is None or before.finished <= entry.finished:
                    latest[entry.labels] = entry
    return latest


def remove_torn_line(path: Path) -> None:
    """Cut what follows the last line's end."""
    with path.open("rb+") as file:
        end = file.seek(0, os.SEEK_END)
        tail = b""
        while end > 0 and b"\n" not in tail:
            start = max(0, end - 4096)
            file.seek(start)
            tail = file.read(end - start)
            end = start
        file.truncate(end + tail.rfind(b"\n") + 1)
