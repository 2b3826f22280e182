"""Label maps as pictures: in the colors of their classes, alone or over the image."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8, UInt16

from ccnet.classes import IGNORE_INDEX

IGNORED_COLOR = (255, 255, 255)
Palette = Sequence[Sequence[int]]


def colorize(labels: UInt8[np.ndarray, "h w"], palette: Palette) -> UInt8[np.ndarray, "h w 3"]:
    """A label map in the colors of its classes; ignored pixels are white."""
    table = np.tile(np.array(IGNORED_COLOR, np.uint8), (256, 1))
    table[: len(palette)] = palette
    table[IGNORE_INDEX] = IGNORED_COLOR
    return table[labels]


def overlay(
    image: UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"],
    labels: UInt8[np.ndarray, "h w"],
    palette: Palette,
    opacity: float = 0.5,
) -> UInt8[np.ndarray, "h w 3"]:
    """The colors of a label map over its image.

    Args:
        image: RGB, 8 or 16 bits per channel.
        labels: the class of each pixel.
        palette: one RGB color per class.
        opacity: of the colors, 0 to 1.

    Raises:
        ValueError: the image does not have three channels.
    """
    if image.shape[2] != 3:
        raise ValueError(f"an overlay needs an RGB image; this one has {image.shape[2]} channels")
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    mixed = (1 - opacity) * image + opacity * colorize(labels, palette)
    return mixed.round().astype(np.uint8)
