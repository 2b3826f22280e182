"""Labels of a video's frames: as colors over the video, and as one PNG per frame."""

import typing
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ccnet.images.colors import overlay
from ccnet.images.opening import MAX_PIXELS
from ccnet.images.video import Video, VideoWriter
from ccnet.labeling.stamp import encode_png, inspect_picture
from ccnet.labeling.writer import write_picture
from ccnet.runtime.disk import write_whole
from ccnet.runtime.signals import StopSignals


class Labeler(typing.Protocol):
    """What labels images, such as `Predictor`."""

    @property
    def palette(self) -> Sequence[Sequence[int]] | None: ...

    def predict(self, image: np.ndarray, /) -> np.ndarray: ...


@dataclass(frozen=True)
class ClipOutcome:
    """How many frames a video had, and of how many the decoder had to invent a part."""

    num_frames: int
    num_damaged: int
    size: tuple[int, int]
    """Height and width of the last frame."""


def predict_clip(
    predictor: Labeler,
    path: Path,
    output: Path,
    *,
    stamp: str,
    labels: Path | None = None,
    opacity: float = 0.5,
    max_pixels: int = MAX_PIXELS,
    progress: Callable[[int, int], object] | None = None,
    stop: StopSignals | None = None,
) -> ClipOutcome:
    """Write a video with the colors of the labels over its frames, at their times, without sound.

    Frames are read, labeled and written one after the other, so the memory does not grow with the
    length of the video. After a kill there is no half video, and the next call begins with the
    first frame.

    Args:
        predictor: labels frames (H, W, 3).
        path: the video.
        output: an .mp4.
        stamp: all that the labels depend on, as text for the files.
        labels: folder that also gets the labels of each frame, at its own size, as 000000.png,
            000001.png, ...; label maps of a longer video in it are removed.
        opacity: of the colors, 0 to 1.
        max_pixels: of a frame.
        progress: called as `progress(done, total)`, counting frames. Files that do not say how
            many frames they have give a total that may be wrong.
        stop: looked at before each frame.

    Raises:
        ValueError: the model has no palette, or the suffix of `output` is another.
        DataError: the video is no video, damaged, or shorter than it says.
        ImportError: PyAV is not installed.
        OSError: a file cannot be written.
        KeyboardInterrupt: `stop` was requested.
    """
    palette = predictor.palette
    if palette is None:
        raise ValueError("the model has no palette to color labels with")
    if output.suffix.lower() != ".mp4":
        raise ValueError(f"{output}: videos are written as .mp4")
    count, size = [0, 0], (0, 0)

    def write(fresh: Path) -> None:
        nonlocal size
        writer = VideoWriter(fresh, video, stamp)
        try:
            for number, frame in enumerate(video.frames()):
                if stop is not None and stop.requested:
                    raise KeyboardInterrupt
                found = predictor.predict(frame.pixels)
                writer.write(overlay(frame.pixels, found, palette, opacity), frame.place)
                if labels is not None:
                    write_picture(frame_path(labels, number), encode_png(found, stamp))
                size = found.shape
                count[0], count[1] = number + 1, count[1] + frame.is_damaged
                if progress is not None:
                    progress(count[0], max(count[0], video.num_frames))
        finally:
            writer.close()

    with Video(path, max_pixels) as video:
        write_whole(output, write)
    if labels is not None:
        remove_later_frames(labels, count[0])
    return ClipOutcome(count[0], count[1], size)


def frame_path(folder: Path, number: int) -> Path:
    return folder / f"{number:06d}.png"


def remove_later_frames(folder: Path, number: int) -> None:
    """Remove the label maps that an earlier call made of frames from this number on."""
    while (picture := inspect_picture(frame_path(folder, number))) is not None:
        if picture.stamp is None:
            break
        picture.path.unlink()
        number += 1
