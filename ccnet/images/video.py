"""Videos frame by frame, in constant memory, by PyAV (FFmpeg), an extra.

Only the usual containers are opened: others of FFmpeg's formats are lists of further files and
addresses to read.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import UInt8

from ccnet.images.opening import MAX_PIXELS, SizeError, in_millions
from ccnet.runtime.files import DataError, cause_of, require_regular

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mpg", ".mpeg")
CONTAINERS = "mov,matroska,webm,avi,mpegts,mpeg"
ENCODERS = ("libx264", "libopenh264", "mpeg4")
"""H.264 where this build of FFmpeg has it; the last one is in every build."""
TOLERANCE = 0.5
"""Seconds by which a video may be shorter than its file says, for rounded durations."""
STAMP = "comment"


@dataclass(frozen=True)
class Frame:
    """One picture of a video."""

    pixels: UInt8[np.ndarray, "h w 3"]
    """RGB, upright."""
    place: int
    """When it is shown, in units of the video's `time_base`."""
    is_damaged: bool
    """Whether the decoder had to invent a part of it."""


class Video:
    """The frames of the first video stream in a file, upright and in the order they are shown.

    Args:
        path: of the file.
        max_pixels: of a frame that is decoded.

    Raises:
        SizeError: a DataError of larger frames.
        DataError: it is no video of a usual kind.
        ImportError: PyAV is not installed.
    """

    def __init__(self, path: Path, max_pixels: int = MAX_PIXELS) -> None:
        self.path, self.max_pixels = path, max_pixels
        self.av = import_av(path)
        try:
            require_regular(path)
            self.container = self.av.open(
                str(path.absolute()),
                metadata_errors="replace",
                options={"max_pixels": str(max_pixels)},
                container_options={"format_whitelist": CONTAINERS, "protocol_whitelist": "file"},
            )
        except DataError:
            raise
        except FileNotFoundError:
            raise DataError(f"{path}: no such file.", path=path) from None
        except PermissionError as error:
            raise DataError(f"{path}: {cause_of(error)}.", path=path) from error
        except Exception as error:  # of hostile files PyAV raises more than its own errors
            raise self.error(f"cannot be read as a video ({reason_of(error)})") from error
        if not self.container.streams.video:
            self.container.close()
            raise self.error("there is no video in it")
        self.stream = self.container.streams.video[0]
        # a file with a size beyond any limit, or none, fails before a frame is decoded
        width, height = self.stream.width, self.stream.height
        if not 0 < width * height <= max_pixels:
            self.container.close()
            cause = f"frames of {width}×{height} pixels, where 1 to "
            cause += f"{in_millions(max_pixels)} million are read"
            raise SizeError(path, cause, width * height, "scale it down")
        self.rate = Fraction(self.stream.average_rate or self.stream.base_rate or 25)
        self.time_base = Fraction(self.stream.time_base or 1 / self.rate)
        self.aspect = self.stream.sample_aspect_ratio or Fraction(1)

    @property
    def num_frames(self) -> int:
        """As the file says or as follows from its length; 0 if it does not say."""
        return self.stream.frames or round((self.stated_seconds() or 0) * self.rate)

    def frames(self) -> Iterator[Frame]:
        """All frames.

        Raises:
            DataError: the file is damaged, or shorter than it says.
        """
        number = end = 0
        first: int | None = None
        place = -1
        self.stream.codec_context.options = {"max_pixels": str(self.max_pixels)}
        try:
            for frame in self.container.decode(self.stream):
                stated = frame.pts if frame.pts is not None else round(number * self.step)
                place = stated if first is None else max(stated, place + 1)
                first = place if first is None else first
                end = place + (frame.duration or round(self.step))
                yield Frame(upright(frame), place, bool(frame.is_corrupt))
                number += 1
        except self.av.FFmpegError as error:
            cause = f"cannot be decoded after frame {number} ({reason_of(error)})"
            raise self.error(cause) from error
        if first is None:
            raise self.error("there is no frame in it")
        self.require_length(float((end - first) * self.time_base))

    @property
    def step(self) -> Fraction:
        """From one frame to the next, in units of `time_base`."""
        return 1 / self.rate / self.time_base

    def require_length(self, seconds: float) -> None:
        """Raises DataError if the file says that it is longer."""
        stated = self.stated_seconds()
        if stated is not None and seconds < stated - max(TOLERANCE, float(3 / self.rate)):
            raise self.error(f"ends after {seconds:.1f} of {stated:.1f} seconds")

    def stated_seconds(self) -> float | None:
        """The length of the video by the file; None if it does not say."""
        found = []
        if self.stream.duration:
            found.append(float(self.stream.duration * self.time_base))
        if tag := re.fullmatch(r"(\d+):(\d+):([\d.]+)", self.stream.metadata.get("DURATION", "")):
            found.append(int(tag[1]) * 3600 + int(tag[2]) * 60 + float(tag[3]))
        if self.container.duration and (found or len(self.container.streams) == 1):
            found.append(self.container.duration / 1e6)  # that of the longest stream
        return min(found, default=None)

    def error(self, cause: str) -> DataError:
        return DataError(
            f"{self.path}: {cause}; restore the file, or convert it, such as by ffmpeg, to H.264 "
            "in .mp4.",
            path=self.path,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.container.close()


@dataclass(frozen=True)
class Timing:
    """How a video that has no source is shown: frames per second, unit of time, shape of pixels."""

    rate: Fraction
    time_base: Fraction
    aspect: Fraction = Fraction(1)


class VideoWriter:
    """Writes frames as H.264 (MPEG-4 part 2 in a build without it) into an .mp4, without sound.

    The first frame gives the size; later ones of another size are scaled to it. An odd height or
    width gets one more row or column, a copy of the last, which these encoders need.

    Args:
        path: of the file.
        source: whose rate, times and shape of pixels the file gets.
        stamp: goes into the file as its comment; `read_video_stamp` finds it.
    """

    def __init__(self, path: Path, source: Video | Timing, stamp: str) -> None:
        self.av, self.source = import_av(path), source
        self.container = self.av.open(str(path.absolute()), "w", format="mp4")
        self.container.metadata[STAMP] = stamp
        self.stream: Any = None

    def write(self, pixels: UInt8[np.ndarray, "h w 3"], place: int) -> None:
        """Add a frame that is shown at a place in units of the source's `time_base`."""
        odd = [(0, side % 2) for side in pixels.shape[:2]]
        pixels = np.pad(pixels, (*odd, (0, 0)), mode="edge")
        frame = self.av.VideoFrame.from_ndarray(pixels, format="rgb24")
        if self.stream is None:
            self.stream = self.start(frame.width, frame.height)
        context = self.stream.codec_context
        frame = frame.reformat(context.width, context.height, format="yuv420p")
        frame.pts, frame.time_base = place, self.source.time_base
        self.container.mux(self.stream.encode(frame))

    def start(self, width: int, height: int) -> Any:
        encoder = next(name for name in ENCODERS if name in self.av.codecs_available)
        stream = self.container.add_stream(encoder, rate=self.source.rate)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.time_base = self.source.time_base
        stream.codec_context.sample_aspect_ratio = self.source.aspect
        return stream

    def close(self) -> None:
        """Write what the encoder still holds."""
        if self.stream is not None:
            self.container.mux(self.stream.encode())
        self.container.close()


def read_video_stamp(path: Path) -> str | None:
    """The stamp in a file of `VideoWriter`; None for any other file, or none."""
    if not path.is_file():
        return None
    try:
        with Video(path) as video:
            return video.container.metadata.get(STAMP)
    except DataError:
        return None


def upright(frame: Any) -> UInt8[np.ndarray, "h w 3"]:
    """The pixels of a decoded frame, turned as the file says that it is shown."""
    pixels = frame.to_ndarray(format="rgb24")
    return np.ascontiguousarray(np.rot90(pixels, round(frame.rotation / 90)))


def reason_of(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__


def import_av(path: Path) -> Any:
    """The package av; raises ImportError with what would work, if it is not there."""
    try:
        return import_module("av")
    except ImportError as error:
        raise ImportError(
            f"{path}: videos need PyAV, which cannot be imported here ({error}): "
            "pip install 'criss-cross[video]'"
        ) from error
