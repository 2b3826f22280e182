"""The pictures of one image after the other: what is kept, made or skipped, and their files.

An image that cannot be read or predicted is skipped, whatever the error. What cannot be written, as
on a full disk, is an error: the next file could not be written either.
"""

import errno
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ccnet.images.colors import colorize, overlay
from ccnet.images.reading import read_image
from ccnet.labeling.jobs import Job
from ccnet.labeling.manifest import Manifest
from ccnet.labeling.stamp import encode_png, fingerprint, inspect_picture, stamp_of
from ccnet.prediction.predictor import Predictor
from ccnet.runtime.disk import LONGEST_NAME, write_whole
from ccnet.runtime.files import DataError, shown
from ccnet.runtime.signals import StopSignals

NAME_ERRORS = {errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL}
"""Error numbers of names that a file system does not take; other files may have better ones."""


@dataclass(frozen=True)
class LoadedImage:
    """An image in memory, and the stamp that the pictures made from it get."""

    pixels: np.ndarray
    stamp: str


@dataclass
class PictureWriter:
    """Writes the pictures of one process, and its lines of the manifest.

    Raises:
        ValueError: the model has no palette for pictures in color.
    """

    predictor: Predictor
    manifest: Manifest
    color: bool
    overlays: bool
    maker: str = field(init=False)
    """The fingerprint of the model."""

    def __post_init__(self) -> None:
        if self.predictor.palette is None and (self.color or self.overlays):
            raise ValueError("the model has no palette to color labels with")
        self.maker = fingerprint(self.predictor.model, self.predictor.dtype)

    def keep_finished(
        self, jobs: Sequence[Job], stop: StopSignals | None
    ) -> tuple[list[Job], list[Path]]:
        """Jobs of which a picture is missing or outdated, and files that somebody else made.

        Args:
            jobs: the jobs of this process.
            stop: looked at before each job.

        Raises:
            FileExistsError: something that is no file is in the way.
        """
        todo, foreign = [], []
        for job in jobs:
            raise_if_stopped(stop)
            targets = job.targets(self.color, self.overlays)
            try:
                pictures = [inspect_picture(path) for path in targets]
            except OSError as error:
                if error.errno not in NAME_ERRORS:
                    raise
                todo.append(job)
                continue
            present = [picture for picture in pictures if picture is not None]
            for picture in present:
                if picture.stamp is None:
                    require_file(picture.path)
                    foreign.append(picture.path)
            stamp = stamp_of(job.image, self.maker)
            are_current = stamp is not None and all(p.has_stamp(stamp) for p in present)
            if len(present) == len(pictures) and are_current:
                width, height = present[0].size
                self.manifest.add(job, "kept", stamp=stamp, width=width, height=height)
            else:
                todo.append(job)
        return todo, foreign

    def load(self, job: Job) -> LoadedImage | DataError:
        # the stamp first: if the file changes while it is read, the next call sees another stamp
        stamp = stamp_of(job.image, self.maker)
        try:
            require_short_names(job, job.targets(self.color, self.overlays))
            pixels = read_image(job.image, self.predictor.model.in_channels)
        except Exception as error:
            return DataError(reason_of(job, error), path=job.image)
        if stamp is None:
            return DataError(f"{job.image}: no such file when it was to be read.", path=job.image)
        return LoadedImage(pixels, stamp)

    def predict(self, job: Job, image: LoadedImage | DataError) -> str | None:
        """Write the pictures of one image; the reason if that is not possible."""
        start = time.monotonic()
        try:
            if isinstance(image, DataError):
                raise image
            labels = self.predictor.predict(image.pixels)
            contents = self.encode(job, image, labels)
        except Exception as error:  # also of a decoder, or too little memory
            return self.skip(job, error)
        try:
            for path, content in contents.items():
                write_picture(path, content)
        except OSError as error:
            if error.errno not in NAME_ERRORS:
                raise
            return self.skip(job, error)
        height, width = labels.shape
        seconds = round(time.monotonic() - start, 3)
        self.manifest.add(
            job, "written", stamp=image.stamp, width=width, height=height, seconds=seconds
        )
        return None

    def skip(self, job: Job, error: Exception) -> str:
        reason = reason_of(job, error)
        self.manifest.add(job, "failed", reason=reason)
        return reason

    def encode(self, job: Job, image: LoadedImage, labels: np.ndarray) -> dict[Path, bytes]:
        """The files of one image, the labels last."""
        pictures, palette = {}, self.predictor.palette
        if self.color and palette is not None:
            pictures[job.color] = colorize(labels, palette)
        if self.overlays and palette is not None:
            pictures[job.overlay] = overlay(image.pixels, labels, palette)
        pictures[job.labels] = labels
        return {path: encode_png(picture, image.stamp) for path, picture in pictures.items()}


def write_picture(path: Path, content: bytes) -> None:
    """Write a file under another name first, which is then renamed.

    The file is not flushed to disk, which can take as long as encoding it (16 of 31 ms for 480×360
    pixels). A crash of the machine may thus leave an empty or damaged file; `inspect_picture`
    recognizes it, and the same command writes it again.
    """
    write_whole(path, lambda file: file.write_bytes(content), flush_to_disk=False)


def reason_of(job: Job, error: Exception) -> str:
    """Why an image is skipped, in one line that names it."""
    if isinstance(error, DataError):
        return str(error)
    reason = str(error).partition("\n")[0][:300]
    if not isinstance(error, RuntimeError | MemoryError | ArithmeticError | OSError) or not reason:
        reason = f"{type(error).__name__}: {reason}".removesuffix(": ")
    return f"{job.image}: {reason}"


def require_short_names(job: Job, targets: Sequence[Path]) -> None:
    for path in targets:
        if len(os.fsencode(path.name)) > LONGEST_NAME:
            raise DataError(
                f"{job.image}: {shown(path.name)} would be longer than {LONGEST_NAME} bytes, which "
                "no file system allows; rename the image",
                path=job.image,
            )


def require_file(path: Path) -> None:
    """Raises FileExistsError if not even --overwrite may replace what has the path of a picture."""
    if not (path.is_symlink() or path.is_file()):
        raise FileExistsError(
            f"{path} is in the way of a label map and is no regular file; move it away, or give "
            "another --output"
        )


def raise_if_stopped(stop: StopSignals | None) -> None:
    if stop is not None and stop.requested:
        raise KeyboardInterrupt
