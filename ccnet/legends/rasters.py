"""The numbers or the colors of a decoded label picture, exactly as its file stores them."""

from pathlib import Path

import numpy as np
from jaxtyping import Integer, Real
from PIL import Image

from ccnet.runtime.files import DataError

Color = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""

NUMBER_MODES = ("1", "L", "LA", "P", "PA", "I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Pillow's modes of pictures that hold one number per pixel."""
COLOR_MODES = ("RGB", "RGBA", "RGBX", "1", "L", "LA", "P", "PA")
"""Pillow's modes of pictures whose pixels have exact RGB colors of 8 bits."""
PALETTE_MODES = ("P", "PA")
GRAY_MODES = ("1", "L", "LA")
GRAY_STEPS = {1: 255, 2: 85, 4: 17}
"""Bits per pixel → the gray value of the number 1."""


def number_raster(picture: Image.Image, bits: int, path: Path) -> Real[np.ndarray, "h w"]:
    """The number of each pixel; `bits` are those that the file stores.

    Raises:
        DataError: The picture has colors.
    """
    raw = np.asarray(picture)
    if picture.mode not in NUMBER_MODES:
        if not is_gray(picture):
            raise DataError(
                f"{path}: `labels: index` needs one number per pixel, but this file has "
                "colors. Use `labels: rgb` with a `palette`.",
                path=path,
            )
        return raw[:, :, 0]
    if picture.mode in ("LA", "PA"):
        raw = raw[:, :, 0]
    if picture.mode == "L":  # Pillow multiplies the numbers of 2 or 4 bits
        return raw // GRAY_STEPS.get(bits, 1)
    return raw.astype(np.uint8) if picture.mode == "1" else raw


def color_raster(picture: Image.Image) -> Integer[np.ndarray, "h w"]:
    """The color of each pixel as one number, 0xbbggrr."""
    if picture.mode == "PA":
        picture = picture.convert("RGBA")
    # one 32-bit word per pixel, 0x00bbggrr, without arithmetic
    return np.asarray(picture.convert("RGBX")).view("<u4")[:, :, 0].astype(np.int32) & 0xFFFFFF


def own_colors(picture: Image.Image, bits: int) -> dict[int, Color]:
    """The color that each number of a palette or gray picture of up to 8 bits is shown in."""
    if picture.mode in PALETTE_MODES:
        flat = picture.getpalette("RGB") or []
        return {i: (flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]) for i in range(len(flat) // 3)}
    if picture.mode not in GRAY_MODES:
        return {}
    step = GRAY_STEPS.get(1 if picture.mode == "1" else bits, 1)
    levels = range(0, 256, step)
    return {number: (level, level, level) for number, level in enumerate(levels)}


def is_gray(picture: Image.Image) -> bool:
    """Whether the three color channels of a picture that has them are equal."""
    raw = np.asarray(picture)
    return raw.ndim == 3 and bool((raw[:, :, :3] == raw[:, :, :1]).all())


def color_code(color: Color) -> int:
    """A color as one number, 0xbbggrr."""
    return color[0] | color[1] << 8 | color[2] << 16
