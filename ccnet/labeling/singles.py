"""Files that are predicted one at a time, part by part: images in windows, and videos.

Both are written as they are computed. What a stop or a kill leaves of an image goes on with the
same command; a video begins again.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from ccnet.classes import IGNORE_INDEX, LABEL_IDS
from ccnet.images.windows import open_windows
from ccnet.labeling.clips import predict_clip
from ccnet.labeling.jobs import IdName, Job
from ccnet.labeling.large import predict_large
from ccnet.labeling.writer import NAME_ERRORS, PictureWriter, require_short_names
from ccnet.prediction.predictor import Predictor
from ccnet.runtime.files import DataError, printable
from ccnet.runtime.signals import StopSignals

LOG = logging.getLogger(__name__)
VOID = {"cityscapes": 0, "ade20k": 0}
"""Values of pixels that belong to no class, in the files of data sets that have others than 255."""

Progress = Callable[[int, int], object]


@dataclass(frozen=True)
class PredictorScorer:
    """The network of a predictor, as `ccnet.labeling.sweep` needs it."""

    predictor: Predictor

    def normalize(self, images: Tensor) -> Tensor:
        return self.predictor.model.normalize(self.predictor.to_device(images))

    def network(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes h w"]:
        return self.predictor.run_network(images)


def write_single(
    writer: PictureWriter, job: Job, progress: Progress | None, stop: StopSignals | None
) -> str | None:
    """Predict one file and write what is made of it; the reason if that is not possible.

    Raises:
        OSError: a file cannot be written for a reason that the next one would have too.
        KeyboardInterrupt: `stop` was requested.
    """
    stamp, start = writer.stamp_of(job), time.monotonic()
    write = write_windows if job.way == "windows" else write_video
    try:
        require_short_names(job, job.targets(writer.products))
        if stamp is None:
            raise DataError(f"{job.image}: no such file when it was to be read.", path=job.image)
        height, width = write(writer, job, stamp, progress, stop)
    except OSError as error:
        if error.errno not in NAME_ERRORS:
            raise
        return writer.skip(job, error)
    except Exception as error:  # such as a package that is missing, or too little memory
        return writer.skip(job, error)
    seconds = round(time.monotonic() - start, 3)
    writer.manifest.add(job, "written", stamp=stamp, width=width, height=height, seconds=seconds)
    return None


def write_windows(
    writer: PictureWriter,
    job: Job,
    stamp: str,
    progress: Progress | None,
    stop: StopSignals | None,
) -> tuple[int, int]:
    """Write the labels of an image, window by window; its height and width."""
    predictor, products, limits = writer.predictor, writer.products, writer.limits
    model = predictor.model
    options = {"max_pixels": limits.max_pixels, "bands": model.bands}
    with open_windows(job.image, model.in_channels, **options) as image:
        LOG.warning(
            "%s: %d×%d pixels, predicted window by window: %s",
            printable(job.image),
            image.width,
            image.height,
            limits.protocol,
        )
        make_folder(job.labels)
        predict_large(
            PredictorScorer(predictor),
            image,
            job.labels,
            limits.protocol,
            stamp=stamp,
            memory=limits.memory,
            batch_size=predictor.batch_size,
            confidence=job.confidence if products.confidence else None,
            values=values_of(products.ids),
            progress=progress,
            stop=stop,
        )
        return image.height, image.width


def write_video(
    writer: PictureWriter,
    job: Job,
    stamp: str,
    progress: Progress | None,
    stop: StopSignals | None,
) -> tuple[int, int]:
    """Write the video with the colors of its labels; height and width of its frames."""
    make_folder(job.labels)
    outcome = predict_clip(
        writer.predictor,
        job.image,
        job.labels,
        stamp=stamp,
        max_pixels=writer.limits.max_pixels,
        progress=progress,
        stop=stop,
    )
    if outcome.num_damaged:
        LOG.warning(
            "%s: %d of %d frames are damaged, and a part of them was invented by the decoder",
            printable(job.image),
            outcome.num_damaged,
            outcome.num_frames,
        )
    return outcome.size


def make_folder(labels: Path) -> None:
    labels.parent.mkdir(parents=True, exist_ok=True)


def values_of(ids: IdName | None) -> UInt8[np.ndarray, "256"]:
    """What is written for each class and, as the last one, for pixels without a picture."""
    if ids is None:
        return np.arange(256, dtype=np.uint8)
    values = np.full(256, VOID.get(ids, IGNORE_INDEX), np.uint8)
    values[: len(LABEL_IDS[ids])] = LABEL_IDS[ids]
    return values
