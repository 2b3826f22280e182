"""Label maps of many image files: files in, PNG files out, one bad file doesn't stop the rest.

What is there already and bears the stamp it would get again (`prediction.stamp`) is kept, so the
same command goes on after a stop or a kill. Of N processes each takes every N-th file; they meet
before the first prediction and after the last, and share nothing between.

What doesn't scale: every process has the list of all jobs in memory and reads all lines of a
manifest that is there, about 2 KB a file. Beyond some ten million files, predict folder by folder.
"""

import hashlib
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from ccnet.datasets import DataError
from ccnet.images.colors import colorize, overlay
from ccnet.images.reading import read_image
from ccnet.prediction.jobs import Job
from ccnet.prediction.manifest import Manifest
from ccnet.prediction.predictor import Predictor
from ccnet.prediction.stamp import Picture, fingerprint, read_picture, stamp_of, write_png
from ccnet.runtime.processes import num_processes, objects_of_processes, rank
from ccnet.runtime.signals import StopSignals

T = TypeVar("T")
S = TypeVar("S")


@dataclass
class Outcome:
    """How many label maps were written, how many kept, and which files failed and why."""

    written: int = 0
    kept: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)


@dataclass(frozen=True)
class Source:
    """An image in memory, and the stamp that what is made of it gets."""

    image: np.ndarray
    stamp: str


def predict_files(
    predictor: Predictor,
    jobs: Sequence[Job],
    output: Path,
    *,
    color: bool = False,
    overlays: bool = False,
    overwrite: bool = False,
    num_workers: int = 0,
    progress: Callable[[int, int], object] | None = None,
    stop: StopSignals | None = None,
) -> Outcome:
    """Write the labels of each image as an 8-bit PNG of class indices, at the image's own size.

    What the same model made of the same file is kept. Of several processes each does its share and
    all return what all did; `progress(done, total)` counts this process's share.

    Args:
        output: folder of the jobs' labels; the manifest (`ccnet.prediction.manifest`) goes there.
        color, overlays: also write NAME.color.png and NAME.overlay.png.
        overwrite: also write over files that are none of ours.
        num_workers: threads that read ahead; each holds an image more in memory.
        stop: looked at before each file.

    Raises:
        FileExistsError: something that is none of ours would be written over.
        ValueError: the model has no palette to colour with, or the processes see other files.
        KeyboardInterrupt: `stop` was requested.
    """
    if predictor.palette is None and (color or overlays):
        raise ValueError("the model has no palette to colour labels with")
    if num_workers < 0:
        raise ValueError(f"num_workers must be ≥ 0, got {num_workers}")
    require_same_jobs(jobs)
    share = jobs[rank() :: num_processes()]
    maker = fingerprint(predictor.model, **options(predictor))
    outcome = Outcome()
    names = {job.labels.relative_to(output).as_posix() for job in share}
    with Manifest(output, names, rank(), num_processes()) as manifest:
        todo, foreign = [], []
        for job in share:
            stop_where_requested(stop)
            pictures = [read_picture(path) for path in job.targets(color, overlays)]
            foreign += [p.path for p in pictures if p is not None and p.stamp is None]
            stamp = stamp_of(job.image, maker)
            if stamp is None or not all(bears(picture, stamp) for picture in pictures):
                todo.append(job)
                continue
            outcome.kept += 1
            labels = pictures[0]
            assert labels is not None
            width, height = labels.size
            manifest.add(job, "kept", stamp=stamp, width=width, height=height)
        require_none_foreign(foreign, overwrite)
        if progress is not None and outcome.kept:
            progress(outcome.kept, len(share))

        def read(job: Job) -> Source | DataError:
            return load(job.image, maker, predictor.model.in_channels)

        with closing(ahead(read, todo, num_workers)) as sources:
            for done, (job, source) in enumerate(sources, start=outcome.kept + 1):
                stop_where_requested(stop)
                start = time.monotonic()
                try:
                    if isinstance(source, DataError):
                        raise source
                    labels = predictor.predict(source.image)
                except (DataError, RuntimeError) as error:
                    # a DataError names its file; others are such as out of memory, for a huge image
                    reason = str(error) if isinstance(error, DataError) else f"{job.image}: {error}"
                    outcome.failures.append((job.image, reason))
                    manifest.add(job, "failed", reason=reason)
                else:
                    write_pictures(predictor, job, source, labels, color=color, overlays=overlays)
                    outcome.written += 1
                    height, width = labels.shape
                    manifest.add(
                        job,
                        "written",
                        stamp=source.stamp,
                        width=width,
                        height=height,
                        seconds=round(time.monotonic() - start, 3),
                    )
                if progress is not None:
                    progress(done, len(share))
    outcomes = objects_of_processes(outcome)
    return Outcome(
        sum(o.written for o in outcomes),
        sum(o.kept for o in outcomes),
        sorted(failure for o in outcomes for failure in o.failures),
    )


def options(predictor: Predictor) -> dict[str, str]:
    """All that labels depend on beside model and image; where it runs is none of it."""
    others = {name: str(value) for name, value in vars(predictor).items()}
    return {name: value for name, value in others.items() if name not in ("model", "device")}


def require_same_jobs(jobs: Sequence[Job]) -> None:
    """Raises ValueError where the processes, perhaps on several machines, see different files."""
    if num_processes() == 1:
        return
    digest = hashlib.sha256()
    for job in jobs:
        digest.update(f"{job.image}\0{job.labels}\0".encode(errors="surrogateescape"))
    lists = objects_of_processes((len(jobs), digest.digest()))
    if len(set(lists)) > 1:
        counts = ", ".join(str(count) for count, _ in lists)
        raise ValueError(
            f"the processes see different images ({counts} of them by process); they must share "
            "one file system, on which no image comes or goes meanwhile"
        )


def require_none_foreign(foreign: Sequence[Path], overwrite: bool) -> None:
    """Raises FileExistsError, in all processes, where any would write over what is none of ours."""
    found = [path for paths in objects_of_processes(foreign[:1]) for path in paths]
    if found and not overwrite:
        raise FileExistsError(
            f"{found[0]} wasn't written by ccnet predict; --overwrite replaces such files, another "
            "--output leaves them"
        )


def stop_where_requested(stop: StopSignals | None) -> None:
    if stop is not None and stop.requested:
        raise KeyboardInterrupt


def bears(picture: Picture | None, stamp: str) -> bool:
    return picture is not None and picture.whole and picture.stamp == stamp


def load(image: Path, maker: str, channels: int) -> Source | DataError:
    stamp = stamp_of(image, maker)  # before reading: a file that changes meanwhile is made anew
    try:
        picture = read_image(image, channels)
    except DataError as error:
        return error
    if stamp is None:
        return DataError(f"{image}: no such file when it was to be read.", path=image)
    return Source(picture, stamp)


def ahead(
    function: Callable[[S], T], items: Iterable[S], num_workers: int
) -> Generator[tuple[S, T], None, None]:
    """(item, function(item)) in order, while `num_workers` threads make the next ones.

    Threads do because Pillow decodes outside Python's lock.
    """
    if num_workers == 0:
        yield from ((item, function(item)) for item in items)
        return
    pool = ThreadPoolExecutor(num_workers)
    coming: deque[tuple[S, Future[T]]] = deque()
    try:
        for item in items:
            coming.append((item, pool.submit(function, item)))
            if len(coming) > num_workers:
                first, result = coming.popleft()
                yield first, result.result()
        while coming:
            first, result = coming.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)


def write_pictures(
    predictor: Predictor,
    job: Job,
    source: Source,
    labels: np.ndarray,
    *,
    color: bool,
    overlays: bool,
) -> None:
    palette = predictor.palette
    if color and palette is not None:
        write_png(job.color, colorize(labels, palette), source.stamp)
    if overlays and palette is not None:
        write_png(job.overlay, overlay(source.image, labels, palette), source.stamp)
    write_png(job.labels, labels, source.stamp)
