"""Label maps of many image files: files in, PNG files out; a bad file does not stop the others.

A file that already has the stamp it would get again (`ccnet.labeling.stamp`) is kept, so the same
command continues after a stop or a kill. Each of N processes takes every N-th file. They wait for
each other before the first prediction and after the last, and share nothing in between.

The limit: every process holds the list of all jobs and all lines of an existing manifest in memory,
about 2 KB per file. Beyond some ten million files, predict folder by folder.
"""

import hashlib
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from ccnet.labeling.jobs import LABELS_ONLY, Job, Products
from ccnet.labeling.manifest import Manifest
from ccnet.labeling.output import require_folder, require_own_folders
from ccnet.labeling.writer import LoadedImage, PictureWriter, Predicted, raise_if_stopped
from ccnet.prediction.predictor import Predictor
from ccnet.runtime.files import DataError
from ccnet.runtime.lock import locked
from ccnet.runtime.processes import (
    num_processes,
    objects_of_processes,
    rank,
    require_num_workers,
)
from ccnet.runtime.signals import StopSignals

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass
class Outcome:
    """How many label maps were written, how many were kept, and which files failed and why."""

    written: int = 0
    kept: int = 0
    failures: list[tuple[Path, str]] = field(default_factory=list)


def predict_files(
    predictor: Predictor,
    jobs: Sequence[Job],
    output: Path,
    *,
    products: Products = LABELS_ONLY,
    overwrite: bool = False,
    num_workers: int = 1,
    progress: Callable[[int, int], object] | None = None,
    stop: StopSignals | None = None,
) -> Outcome:
    """Write the labels of each image as an 8-bit PNG of class indices, at the size of the image.

    Label maps that the same model made of the same file are kept. Of several processes, each does
    its share, and all return the outcome of all.

    Args:
        predictor: makes the labels.
        jobs: the images, and where their labels go; the same in all processes.
        output: folder of the labels, which also gets the manifest (`ccnet.labeling.manifest`).
        products: what else is written of each image.
        overwrite: also replace files that `ccnet predict` did not write.
        num_workers: number of threads that read images ahead. Each holds one more image in memory.
            With one or more, another thread encodes and writes the files of the image before.
        progress: called as `progress(done, total)`, counting the files of this process.
        stop: looked at before each file.

    Raises:
        FileExistsError: a file that `ccnet predict` did not write, or that was changed since, would
            be replaced.
        ValueError: the model has no palette, the processes see different files, another command
            writes to the folder, or it has a link or a file where a folder is needed.
        OSError: a label map cannot be written.
        KeyboardInterrupt: `stop` was requested.
    """
    require_num_workers(num_workers)
    require_same_jobs(jobs)
    require_folder(output)
    share = jobs[rank() :: num_processes()]
    require_own_folders(share, output)
    names = {job.labels.relative_to(output).as_posix() for job in share}
    output.mkdir(parents=True, exist_ok=True)
    with locked(output), Manifest(output, names, rank(), num_processes()) as manifest:
        writer = PictureWriter(predictor, manifest, products)
        todo, foreign = writer.keep_finished(share, stop)
        require_none_foreign(foreign, overwrite)
        outcome = Outcome(kept=len(share) - len(todo))
        if progress is not None and outcome.kept:
            progress(outcome.kept, len(share))
        images = map_ahead(writer.load, todo, num_workers)
        predicted = ((job, predict_one(writer, job, image, stop)) for job, image in images)
        written = map_ahead(lambda pair: writer.write(*pair), predicted, min(1, num_workers))
        with closing(images), closing(predicted), closing(written):
            for done, ((job, _), reason) in enumerate(written, start=outcome.kept + 1):
                if reason is None:
                    outcome.written += 1
                else:
                    outcome.failures.append((job.image, reason))
                if progress is not None:
                    progress(done, len(share))
        return outcome_of_processes(outcome)  # before the folder is free for others


def predict_one(
    writer: PictureWriter, job: Job, image: LoadedImage | DataError, stop: StopSignals | None
) -> Predicted | DataError:
    raise_if_stopped(stop)
    return writer.predict(job, image)


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
