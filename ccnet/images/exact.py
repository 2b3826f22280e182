"""Pictures whose numbers or colors count exactly as they are stored: label files."""

import struct
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ccnet.images.arrays import read_exact_npy, read_npy_type
from ccnet.images.opening import Format, open_header, opened_image
from ccnet.images.reading import decode_picture
from ccnet.images.tiff import (
    BITS,
    COMPRESSION,
    EXTRA_SAMPLES,
    GRAY,
    JPEG,
    OLD_JPEG,
    PALETTE,
    PHOTOMETRIC,
    RGB,
    Tags,
)  # fmt: skip
from ccnet.runtime.files import DataError

WIDE_MODES = ("I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Pillow's modes of more than 8 bits per channel."""
DIM = 32
"""Value of 8 bits that the brightest pixel of a usable image of 16 bits has at least."""
REMEDY = "make the label again as a PNG, of numbers or of colors."


def open_exact(path: Path, *, upright: bool = True) -> tuple[Image.Image, int]:
    """A decoded picture, upright, and the bits per channel that its file stores.

    Of a GIF it is the colors of the first picture, or its grays where all are gray: the numbers of
    its palette are changed by programs that write GIFs, so they stand for no class.

    Args:
        path: The file: a picture, or a .npy array (H, W) of whole numbers or floats, or
            (H, W, 3) of uint8.
        upright: Turn the picture by its EXIF orientation.

    Raises:
        DataError: as `open_picture`, or Pillow's numbers or colors are not those that were stored:
            lossy compression, 16 bits per color, other colors than RGB, inverted numbers, or a
            GIF that its first picture does not fill.
    """
    with opened_image(path, gif=True) as (file, found):
        if found == "NPY":
            return _open_array(path, file)
        bits, obstacle = _storage(path, file, found)
        if obstacle is not None:
            raise DataError(f"{path}: {obstacle}; {REMEDY}", path=path)
        file.seek(0)
        picture = decode_picture(path, file, found, upright=upright)
    if found == "GIF":
        picture = picture.convert("RGB")
        red, green, blue = picture.split()
        picture = red if red == green == blue else picture
    if bits > 8 and picture.mode not in WIDE_MODES:
        raise DataError(f"{path}: its colors have {bits} bits per channel; save 8.", path=path)
    return picture, bits


def stored_bits(path: Path) -> int:
    """The bits per channel of a picture that can be read as an image; of an array, its type's."""
    with opened_image(path) as (file, found):
        if found == "NPY":
            return 8 * read_npy_type(path, file).itemsize
        return _storage(path, file, found)[0]


def require_bright(path: Path, image: UInt8[np.ndarray, "h w 3"]) -> None:
    """Raises DataError for an image of 16 bits that has fewer than 32 gray values of 8 bits.

    These are 12 bits in a file of 16, of which scaling leaves next to nothing. Black images pass.

    Args:
        path: of the file.
        image: what was made of it.
    """
    if not 0 < image.max() < DIM or stored_bits(path) != 16:
        return
    raise DataError(
        f"{path}: 16 bits of which only the lowest {100 * (int(image.max()) + 1) // 256 + 1} % are "
        "used, such as 12 bits in a file of 16; the model takes all 16. Scale it to 0–65535, or "
        "train with the values that count, --data.value_range.",
        path=path,
    )


def _open_array(path: Path, file: BinaryIO) -> tuple[Image.Image, int]:
    """A .npy file as a picture of the same numbers or colors."""
    array = read_exact_npy(path, file)
    if array.dtype == bool:
        array = array.astype(np.uint8)
    if array.dtype in (np.uint8, np.uint16):
        return Image.fromarray(array), 8 * array.dtype.itemsize
    if array.dtype.kind == "f":
        return Image.fromarray(array.astype(np.float32)), 32
    wide = array.astype(np.int32)
    if not np.array_equal(wide, array):
        raise DataError(f"{path}: its {array.dtype} numbers are too large; {REMEDY}", path=path)
    return Image.fromarray(wide), 32


def _storage(path: Path, file: BinaryIO, found: Format) -> tuple[int, str | None]:
    """Bits per channel, and what keeps Pillow from giving the values that are stored."""
    if found == "PNG":
        return file.read(26)[24], None
    if found == "JPEG" or (found == "WebP" and _is_lossy_webp(file)):
        return 8, f"the lossy compression of a {found} changes numbers and colors"
    if found == "GIF":
        return 8, None if _is_filled_gif(path, file) else "its first picture does not fill it"
    if found != "TIFF":
        return 8, None
    tags = Tags(path, file)
    bits = max(tags.distinct(BITS))
    if tags.number(COMPRESSION, 1) in (OLD_JPEG, JPEG):
        return bits, "the lossy compression of a JPEG in a TIFF changes numbers and colors"
    if (meaning := tags.number(PHOTOMETRIC, GRAY)) not in (GRAY, RGB, PALETTE):
        return bits, f"a TIFF of photometric interpretation {meaning} has other numbers than stored"
    if 1 in tags.distinct(EXTRA_SAMPLES, default=0):
        return bits, "its colors are multiplied by their alpha"
    return bits, None


def _is_filled_gif(path: Path, file: BinaryIO) -> bool:
    """Whether the first picture has all pixels; others would be of no stored number."""
    picture = open_header(path, file, "GIF")
    return picture.tile[0][1] == (0, 0, *picture.size)


def _is_lossy_webp(file: BinaryIO) -> bool:
    """Whether the pixels of the first picture are in a chunk of the lossy kind."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        kind, length = struct.unpack("<4sI", head)
        if kind in (b"VP8 ", b"VP8L"):
            return kind == b"VP8 "
        # the first frame of an animation has such a chunk within
        file.seek(16 if kind == b"ANMF" else length + length % 2, 1)
    return False
