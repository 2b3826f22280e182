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


def as_rgb(
    image: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"],
) -> UInt8[np.ndarray, "h w 3"]:
    """An image of any number of channels to look at: the first three, or the first one as gray."""
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    if image.shape[2] < 3:
        image = image[..., :1].repeat(3, 2)
    return np.ascontiguousarray(image[..., :3])


def overlay(
    image: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"],
    labels: UInt8[np.ndarray, "h w"],
    palette: Palette,
    opacity: float = 0.5,
) -> UInt8[np.ndarray, "h w 3"]:
    """The colors of a label map over its image.

    Args:
        image: of 8 or 16 bits, of which `as_rgb` is shown.
        labels: the class of each pixel.
        palette: one RGB color per class.
        opacity: of the colors, 0 to 1.
    """
    mixed = (1 - opacity) * as_rgb(image) + opacity * colorize(labels, palette)
    return mixed.round().astype(np.uint8)
