"""Labels as colors."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import UInt8, UInt16

from ccnet.classes import IGNORE_INDEX

IGNORED_COLOR = (255, 255, 255)
Palette = Sequence[Sequence[int]]


def colorize(labels: UInt8[np.ndarray, "h w"], palette: Palette) -> UInt8[np.ndarray, "h w 3"]:
    """Labels in their classes' colors; ignored pixels are white."""
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
    """The labels' colors over an RGB image of 8 or 16 bits; ValueError for other channels."""
    if image.shape[2] != 3:
        raise ValueError(
            f"an overlay lies over an RGB image; this one has {image.shape[2]} channels"
        )
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    mixed = (1 - opacity) * image + opacity * colorize(labels, palette)
    return mixed.round().astype(np.uint8)
