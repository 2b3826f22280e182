"""Labels of many files: images and videos in, files out; a bad file does not stop the others.

A file that already has the stamp it would get again (`ccnet.labeling.stamp`) is kept, so the same
command continues after a stop or a kill. Each of N processes takes every N-th file. They wait for
each other before the first prediction and after the last, and share nothing in between.

The limit: every process holds the list of all jobs and all lines of an existing manifest in memory,
about 2 KB per file. Beyond some ten million files, predict folder by folder.
"""

import hashlib
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ccnet.labeling.groups import Loaded, grouped
from ccnet.labeling.jobs import AS_NEEDED, LABELS_ONLY, Job, LargeImages, Products, is_same_file
from ccnet.labeling.manifest import Manifest
from ccnet.labeling.output import require_folder, require_own_folders
from ccnet.labeling.singles import write_single
from ccnet.labeling.sorting import limits_of, refusal, sort_out
from ccnet.labeling.writer import PictureWriter, Predicted, raise_if_stopped
from ccnet.prediction.predictor import LARGEST_WHOLE, Predictor
from ccnet.runtime.files import DataError
from ccnet.runtime.lock import locked
from ccnet.runtime.processes import (
    num_processes,
    objects_of_processes,
    rank,
    require_num_workers,
)
from ccnet.runtime.signals import StopSignals

Progress = Callable[[int, int], object]
Details = Callable[[str], AbstractContextManager[Progress | None]]
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Outcome:
    """How many label maps were written, how many were kept, and which files failed and why."""

    written: int = 0
    kept: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)

    @property
    def num_files(self) -> int:
        return self.written + self.kept + len(self.failures)


def predict_files(
    predictor: Predictor,
    jobs: Sequence[Job],
    output: Path,
    *,
    products: Products = LABELS_ONLY,
    large: LargeImages = AS_NEEDED,
    has_polygons: bool = False,
    overwrite: bool = False,
    num_workers: int = 1,
    progress: Progress | None = None,
    details: Details = lambda _: nullcontext(),
    stop: StopSignals | None = None,
) -> Outcome:
    """Write the labels of each image as an 8-bit PNG of class indices, at the size of the image.

    Images that are too large for the memory follow, window by window (`ccnet.labeling.large`), and
    then videos (`ccnet.labeling.clips`). Files that the same model made of the same file are kept.
    Of several processes, each does its share, and all return the outcome of all.

    Args:
        predictor: makes the labels.
        jobs: the images, and where their labels go; the same in all processes.
        output: folder of the labels, which also gets the manifest (`ccnet.labeling.manifest`).
        products: what else is written of each image.
        large: which images are too large, and what memory there is for them.
        has_polygons: whether polygons will be made of the label maps, for which they must be small.
        overwrite: also replace files that `ccnet predict` did not write.
        num_workers: number of threads that read images ahead. Each holds one more image in memory.
            With one or more, another thread encodes and writes the files of the image before.
        progress: called as `progress(done, total)`, counting the files of this process.
        details: makes such a function from the name of a large image or a video, for its tiles or
            frames.
        stop: looked at before each file, and within large images and videos.

    Raises:
        FileExistsError: a file that `ccnet predict` did not write, or that was changed since, would
            be replaced.
        ValueError: the model has no palette, something is asked for that large images or videos do
            not have, the processes see different files, another command writes to the folder, or it
            has a link or a file where a folder is needed.
        OSError: a label map cannot be written.
        KeyboardInterrupt: `stop` was requested.
    """
    require_num_workers(num_workers)
    require_same_jobs(jobs)
    require_folder(output)
    limits = limits_of(predictor, large, num_workers)
    share = sort_out(jobs[rank() :: num_processes()], limits)
    require_none_refused(share, products, has_polygons)
    require_own_folders(share, output)
    names = {job.labels.relative_to(output).as_posix() for job in share}
    output.mkdir(parents=True, exist_ok=True)
    with locked(output), Manifest(output, names, rank(), num_processes()) as manifest:
        writer = PictureWriter(predictor, manifest, products, limits)
        todo, foreign = writer.keep_finished(share, stop)
        require_none_foreign(foreign, overwrite)
        outcome = Outcome(kept=len(share) - len(todo))
        if progress is not None and outcome.kept:
            progress(outcome.kept, len(share))
        pictures = write_pictures(writer, todo, num_workers, stop)
        singles = write_singles(writer, todo, details, stop)
        with closing(pictures), closing(singles):
            for job, reason in itertools.chain(pictures, singles):
                if reason is None:
                    outcome.written += 1
                else:
                    outcome.failures.append((job.image, reason))
                if progress is not None:
                    progress(outcome.num_files, len(share))
        return outcome_of_processes(outcome)  # before the folder is free for others


def write_pictures(
    writer: PictureWriter, todo: Sequence[Job], num_workers: int, stop: StopSignals | None
) -> Generator[tuple[Job, str | None], None, None]:
    """Read, predict and write the images in memory; gives each with the reason if that failed."""
    todo = [job for job in todo if job.way == "memory"]
    largest = min(LARGEST_WHOLE, writer.limits.largest)
    images = map_ahead(writer.load, todo, num_workers)
    predicted = predict_groups(writer, grouped(images, writer.predictor, largest), stop)
    written = map_ahead(lambda pair: writer.write(*pair), predicted, min(1, num_workers))
    with closing(images), closing(predicted), closing(written):
        for (job, _), reason in written:
            yield job, reason


def predict_groups(
    writer: PictureWriter, groups: Iterable[list[Loaded]], stop: StopSignals | None
) -> Generator[tuple[Job, Predicted | DataError], None, None]:
    for group in groups:
        raise_if_stopped(stop)
        yield from writer.predict(group)


def write_singles(
    writer: PictureWriter, todo: Sequence[Job], details: Details, stop: StopSignals | None
) -> Generator[tuple[Job, str | None], None, None]:
    """Predict and write what is not predicted in memory, one file after the other."""
    for way in ("windows", "video"):
        for job in todo:
            if job.way == way:
                raise_if_stopped(stop)
                with details(job.image.name) as progress:
                    reason = write_single(writer, job, progress, stop)
                yield job, reason


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
            f"the processes see different images ({counts} of them); they must share one file "
            "system, in which no image appears or disappears meanwhile"
        )


def require_none_refused(jobs: Sequence[Job], products: Products, has_polygons: bool) -> None:
    """Raises ValueError, in all processes, if one cannot make what is asked for of a file."""
    found = [refusal(job, products, has_polygons=has_polygons) for job in jobs]
    found += [
        f"the labels of {job.image} would be written over it"
        for job in jobs
        if is_same_file(job.labels, job.image)
    ]
    for reasons in objects_of_processes([reason for reason in found if reason is not None][:1]):
        for reason in reasons:
            raise ValueError(reason)


def require_none_foreign(foreign: Sequence[Path], overwrite: bool) -> None:
    """Raises FileExistsError, in all processes, if one would replace what somebody else made."""
    found = [path for paths in objects_of_processes(foreign[:1]) for path in paths]
    if found and not overwrite:
        raise FileExistsError(
            f"{found[0]} was not written by ccnet predict, or was changed since; --overwrite "
            "replaces such files, another --output keeps them"
        )


def outcome_of_processes(outcome: Outcome) -> Outcome:
    """The outcomes of all processes together."""
    outcomes = objects_of_processes(outcome)
    return Outcome(
        sum(one.written for one in outcomes),
        sum(one.kept for one in outcomes),
        sorted(failure for one in outcomes for failure in one.failures),
    )


def map_ahead(
    function: Callable[[Item], Result], items: Iterable[Item], num_workers: int
) -> Generator[tuple[Item, Result], None, None]:
    """Pairs (item, function(item)) in order, while threads already work on the next `num_workers`.

    Threads are enough for images, since Pillow releases Python's lock while it decodes and encodes.
    """
    if num_workers == 0:
        yield from ((item, function(item)) for item in items)
        return
    pool = ThreadPoolExecutor(num_workers)
    pending: deque[tuple[Item, Future[Result]]] = deque()
    try:
        for item in items:
            pending.append((item, pool.submit(function, item)))
            if len(pending) > num_workers:
                first, result = pending.popleft()
                yield first, result.result()
        while pending:
            first, result = pending.popleft()
            yield first, result.result()
    finally:
        pool.shutdown(cancel_futures=True)
