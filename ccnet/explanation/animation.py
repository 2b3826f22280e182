"""A short animation: how far a pixel looks, from one pass of attention to the next."""

import io
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from PIL import Image, ImageDraw, ImageFont

from ccnet.explanation.explaining import Explanation
from ccnet.explanation.overlay import DOT, WEIGHTS, luminance, scale_of, with_ring
from ccnet.explanation.panels import OPACITY, Picture
from ccnet.images.video import Timing, VideoWriter
from ccnet.runtime.disk import write_whole

AnimationFormat = Literal["gif", "mp4", "none"]
STEPS = 14
"""Frames in which what a pass adds is uncovered."""
STEP_SECONDS, HOLD_SECONDS = 0.1, 1.8
SIDE = 520
"""Pixels of the longer side of a frame, without the text."""
STRIP = 46
"""Pixels of the text's height."""
NUM_COLORS = 256
RATE = Fraction(10)
"""Frames of a video in a second."""


def frames(image: Picture, explanation: Explanation) -> Iterator[tuple[Picture, float]]:
    """The frames, and for how many seconds each is shown.

    First only the pixel is there. Each pass is uncovered from the pixel outwards: the first along
    its row and column, the later ones from these to all other places.
    """
    canvas = Canvas(image, explanation)
    height, width = explanation.influence.shape
    colors = np.zeros((height, width, 4))
    yield canvas.frame(colors, ("Where does the pixel in the ring look?",)), HOLD_SECONDS
    row, column = explanation.cell
    down, across = abs(np.arange(height)[:, None] - row), abs(np.arange(width) - column)
    for count, map in enumerate(explanation.reach, start=1):
        distance = down + across if count == 1 else np.minimum(down, across)
        farthest, scale = distance[map != 0].max(), scale_of(map)
        target = np.dstack([scale.rgb(map) / 255, OPACITY * (map != 0)])
        text = text_of(count)
        for step in range(1, STEPS + 1):
            is_uncovered = distance <= farthest * step / STEPS
            shown = np.where(is_uncovered[..., None], target, colors)
            yield canvas.frame(shown, text), STEP_SECONDS
        colors = target
        yield canvas.frame(colors, text), HOLD_SECONDS


def text_of(count: int) -> tuple[str, ...]:
    if count == 1:
        return ("One pass of attention:", "it sees its row and its column. Bright: it looks there.")
    if count == 2:
        return ("Two passes:", "it also sees what those have seen, the whole image.")
    return (f"{count} passes:", "the shares change, nothing new comes into sight.")


class Canvas:
    """The image in gray at the size of the animation, on which colors and the ring are drawn.

    Args:
        image: the whole image; only what the network sees of it at once is shown.
        explanation: whose pixel and grid are shown.
    """

    def __init__(self, image: Picture, explanation: Explanation) -> None:
        rows, columns = explanation.grid.rows.indices(), explanation.grid.columns.indices()
        inside = np.ix_(np.flatnonzero(rows >= 0), np.flatnonzero(columns >= 0))
        seen = image[inside]
        scale = SIDE / max(seen.shape[:2])
        self.size = tuple(max(1, round(scale * side)) for side in seen.shape[:2])
        places = [
            (np.arange(new) * old // new).astype(int)
            for new, old in zip(self.size, seen.shape[:2], strict=True)
        ]
        self.gray = luminance(seen[np.ix_(*places)]).astype(float)
        self.cells = np.ix_(rows[rows >= 0][places[0]], columns[columns >= 0][places[1]])
        x, y = explanation.point
        left, top = inside[1].min(), inside[0].min()
        self.point = (round((x - left + 0.5) * scale - 0.5), round((y - top + 0.5) * scale - 0.5))
        self.font = ImageFont.load_default(size=15)

    def frame(self, colors: Float[np.ndarray, "rows columns 4"], text: tuple[str, ...]) -> Picture:
        """The colors of all features, of which the last channel is the opacity, and text above."""
        shown = colors[self.cells]
        mixed = (1 - shown[..., 3:]) * self.gray + shown[..., 3:] * 255 * shown[..., :3]
        picture = with_ring(mixed.round().astype(np.uint8), self.point)
        strip = Image.new("RGB", (picture.shape[1], STRIP), "white")
        ImageDraw.Draw(strip).multiline_text((6, 4), "\n".join(text), "black", self.font)
        return np.concatenate([np.asarray(strip), picture])


def save_animation(path: Path, image: UInt8[np.ndarray, "h w 3"], explanation: Explanation) -> None:
    """Write the animation as .gif, or as .mp4, which needs the extra `video`.

    Raises:
        ImportError: PyAV is not installed; the message says how to install it.
        ValueError: another suffix.
    """
    shown = list(frames(image, explanation))
    if path.suffix == ".gif":
        pictures = [Image.fromarray(picture) for picture, _ in shown]
        palette = common_palette([shown[place][0] for place in (0, 1 + STEPS, -1)])
        first, *others = (p.quantize(palette=palette, dither=Image.Dither.NONE) for p in pictures)
        durations = [round(1000 * seconds) for _, seconds in shown]
        buffer = io.BytesIO()
        options = {"save_all": True, "append_images": others, "duration": durations, "loop": 0}
        first.save(buffer, "GIF", **options)
        write_whole(path, lambda file: file.write_bytes(buffer.getbuffer()))
    elif path.suffix == ".mp4":
        write_whole(path, lambda file: write_video(file, shown))
    else:
        raise ValueError(f"{path}: an animation is written as .gif or .mp4")


def common_palette(pictures: list[Picture]) -> Image.Image:
    """One palette for all frames, which would flicker if each had its own.

    Args:
        pictures: frames with all grays, with the cross and with all colors between them.
    """
    width = pictures[0].shape[1]
    scale = colormaps[WEIGHTS](np.linspace(0, 1, width), bytes=True)[:, :3]
    bars = np.repeat(np.stack([scale, np.tile(np.array(DOT, np.uint8), (width, 1))]), 12, axis=0)
    return Image.fromarray(np.concatenate([*pictures, bars])).quantize(NUM_COLORS)


def write_video(path: Path, shown: list[tuple[Picture, float]]) -> None:
    writer = VideoWriter(path, Timing(RATE, 1 / RATE), stamp="")
    place = 0
    try:
        for picture, seconds in shown:
            for _ in range(round(seconds * RATE)):
                writer.write(picture, place)
                place += 1
    finally:
        writer.close()
