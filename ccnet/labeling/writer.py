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
from typing import Any

import numpy as np
import torch

from ccnet.classes import LABEL_IDS, PUBLISHED, VOC
from ccnet.images.colors import colorize, overlay
from ccnet.images.opening import SizeError
from ccnet.labeling.jobs import IdName, Job, Products
from ccnet.labeling.manifest import Manifest
from ccnet.labeling.sorting import Limits
from ccnet.labeling.stamp import encode_array, encode_png, fingerprint, inspect_file, stamp_of
from ccnet.prediction.batches import read_for
from ccnet.prediction.predictor import Predictor
from ccnet.prediction.protocol import Protocol
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


@dataclass(frozen=True)
class Predicted:
    """What was computed for an image."""

    image: LoadedImage
    labels: np.ndarray
    probabilities: torch.Tensor | None
    """(classes, H, W); None if nothing that is written needs them."""
    seconds: float


@dataclass
class PictureWriter:
    """Writes the pictures of one process, and its lines of the manifest.

    Raises:
        ValueError: the model has no palette for pictures in color, or not the classes whose ids are
            asked for.
    """

    predictor: Predictor
    manifest: Manifest
    products: Products
    limits: Limits
    maker: str = field(init=False)
    """The fingerprint of the model and of what else the files depend on."""

    def __post_init__(self) -> None:
        predictor, ids = self.predictor, self.products.ids
        if predictor.palette is None and (self.products.color or self.products.overlay):
            raise ValueError("the model has no palette to color labels with")
        options: dict[str, Any] = {}
        if predictor.is_protocol_given or predictor.protocol != Protocol():
            options["protocol"] = predictor.protocol.to_dict()
        if ids is not None:
            require_classes_of(ids, predictor.classes)
            options["ids"] = ids
        self.maker = fingerprint(predictor.model, predictor.dtype, **options)

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
            targets = job.targets(self.products)
            try:
                pictures = [inspect_file(path) for path in targets]
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
            stamp = self.stamp_of(job)
            are_current = stamp is not None and all(p.has_stamp(stamp) for p in present)
            if len(present) == len(pictures) and are_current:
                width, height = present[0].size
                self.manifest.add(job, "kept", stamp=stamp, width=width, height=height)
            else:
                todo.append(job)
        return todo, foreign

    def stamp_of(self, job: Job) -> str | None:
        """The stamp of what is made of a file that goes its way; None if there is no such file."""
        stamp = stamp_of(job.image, self.maker)
        if stamp is None or job.way != "windows":
            return stamp
        return f"{stamp} windows={self.limits.protocol.tile}/{self.limits.protocol.step}"

    def load(self, job: Job) -> LoadedImage | DataError:
        # the stamp first: if the file changes while it is read, the next call sees another stamp
        stamp = self.stamp_of(job)
        try:
            require_short_names(job, job.targets(self.products))
            model = self.predictor.model
            pixels = read_for(job.image, model.in_channels, model.bands, self.limits.max_pixels)
        except Exception as error:
            return DataError(reason_of(job, error), path=job.image)
        if stamp is None:
            return DataError(f"{job.image}: no such file when it was to be read.", path=job.image)
        return LoadedImage(pixels, stamp)

    def predict(
        self, group: Sequence[tuple[Job, LoadedImage | DataError]]
    ) -> list[tuple[Job, Predicted | DataError]]:
        """What the files of each image are made of; the error of those that cannot be predicted.

        If a group fails, its images are predicted one by one, since only one of them may be why.
        """
        start, found = time.monotonic(), []
        try:
            images = loaded_of(group)
            all_scores = self.predictor.score([image.pixels for image in images])
            for image, scores in zip(images, all_scores, strict=True):
                labels, probabilities = self.predictor.most_likely(scores), None
                if self.products.confidence or self.products.probabilities:
                    probabilities = self.predictor.as_probabilities(scores)
                found.append((image, labels, probabilities))
        except Exception as error:  # such as too little memory
            if len(group) > 1:
                return [one for item in group for one in self.predict([item])]
            ((job, _),) = group
            return [(job, DataError(reason_of(job, error), path=job.image))]
        seconds = (time.monotonic() - start) / len(group)
        return [
            (job, Predicted(image, labels, probabilities, seconds))
            for (job, _), (image, labels, probabilities) in zip(group, found, strict=True)
        ]

    def write(self, job: Job, predicted: Predicted | DataError) -> str | None:
        """Write the files of one image; the reason if that is not possible.

        Raises:
            OSError: a file cannot be written for a reason that the next one would have too.
        """
        start = time.monotonic()
        try:
            if isinstance(predicted, DataError):
                raise predicted
            contents = self.encode(job, predicted)
        except Exception as error:  # also of an encoder
            return self.skip(job, error)
        try:
            for path, content in contents.items():
                write_picture(path, content)
        except OSError as error:
            if error.errno not in NAME_ERRORS:
                raise
            return self.skip(job, error)
        height, width = predicted.labels.shape
        seconds = round(predicted.seconds + time.monotonic() - start, 3)
        stamp = predicted.image.stamp
        self.manifest.add(job, "written", stamp=stamp, width=width, height=height, seconds=seconds)
        return None

    def skip(self, job: Job, error: Exception) -> str:
        reason = reason_of(job, error)
        self.manifest.add(job, "failed", reason=reason)
        return reason

    def encode(self, job: Job, predicted: Predicted) -> dict[Path, bytes]:
        """The files of one image, the labels last."""
        labels, palette, stamp = predicted.labels, self.predictor.palette, predicted.image.stamp
        files = {}
        if self.products.color and palette is not None:
            files[job.color] = encode_png(colorize(labels, palette), stamp)
        if self.products.overlay and palette is not None:
            files[job.overlay] = encode_png(overlay(predicted.image.pixels, labels, palette), stamp)
        if predicted.probabilities is not None:
            if self.products.confidence:
                confidence = (predicted.probabilities.amax(0) * 255).round().to(torch.uint8)
                files[job.confidence] = encode_png(confidence.cpu().numpy(), stamp)
            if self.products.probabilities:
                numbers = predicted.probabilities.to(torch.float16).cpu().numpy()
                files[job.probabilities] = encode_array(numbers, stamp)
        files[job.labels] = encode_labels(labels, self.products.ids, stamp)
        return files


def encode_labels(labels: np.ndarray, ids: IdName | None, stamp: str) -> bytes:
    """The label map as a PNG of class indices, or of the values that a data set has for them."""
    if ids is None:
        return encode_png(labels, stamp)
    values = np.array(LABEL_IDS[ids], np.uint8)
    return encode_png(values[labels], stamp, [*VOC.values()] if ids == "voc" else None)


def require_classes_of(ids: IdName, classes: Sequence[str]) -> None:
    """Raises ValueError unless a model has the classes of a data set, in its order."""
    wanted = tuple(PUBLISHED[len(LABEL_IDS[ids])])
    if tuple(classes) != wanted:
        raise ValueError(
            f"the ids of {ids} are for its {len(wanted)} classes, {wanted[0]} to {wanted[-1]}; the "
            f"model has {len(classes)}, {shown(classes[0])} to {shown(classes[-1])}"
        )


def write_picture(path: Path, content: bytes) -> None:
    """Write a file under another name first, which is then renamed.

    The file is not flushed to disk, which can take as long as encoding it (16 of 31 ms for 480×360
    pixels). A crash of the machine may thus leave an empty or damaged file; `inspect_picture`
    recognizes it, and the same command writes it again.
    """
    write_whole(path, lambda file: file.write_bytes(content), flush_to_disk=False)


def loaded_of(group: Sequence[tuple[Job, LoadedImage | DataError]]) -> list[LoadedImage]:
    """The images of a group; raises the error of one that could not be read."""
    images = []
    for _, image in group:
        if isinstance(image, DataError):
            raise image
        images.append(image)
    return images


def reason_of(job: Job, error: Exception) -> str:
    """Why an image is skipped, in one line that names it."""
    if isinstance(error, SizeError):
        return (
            f"{job.image}: {error.cause}; the file is fine, and --max-pixels {error.needed} reads "
            "it, if you trust its source"
        )
    if isinstance(error, DataError):
        return str(error)
    reason = str(error).partition("\n")[0][:300]
    if reason.startswith((f"{job.image}:", f"{job.labels}:")):
        return reason
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
