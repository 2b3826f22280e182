"""Image files: which files are images, and how one is read into an array."""

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from ccnet.images.arrays import read_npy, require_channels
from ccnet.images.opening import MAX_PIXELS, Format, open_header, opened_image
from ccnet.images.tiff import has_plain_16_bit_planes, read_tiff, require_decodable
from ccnet.runtime.files import DataError, cause_of

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".npy")
ORIENTATION = 0x0112
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what turns the stored picture upright."""


def open_picture(path: Path) -> Image.Image:
    """Decode a picture in its own mode and turn it upright by its EXIF orientation.

    Raises:
        DataError: the file is missing, truncated, corrupt, too large or no picture.
    """
    with opened_image(path) as (file, found):
        return decode_picture(path, file, found)


def stored_size(path: Path) -> tuple[int, int] | None:
    """Height and width of a picture as it is stored, before any turn; None for an array.

    Raises as `open_picture`.
    """
    with opened_image(path) as (file, found):
        if found == "NPY":
            return None
        picture = open_header(path, file, found)
        return picture.height, picture.width


def decode_picture(
    path: Path, file: BinaryIO, found: Format, max_pixels: int = MAX_PIXELS
) -> Image.Image:
    """The picture in a file that `opened_image` opened, upright. Raises as `open_picture`."""
    if found == "TIFF":
        require_decodable(path, file, max_pixels)
    picture = open_header(path, file, found, max_pixels)
    if has_plain_16_bit_planes(picture):
        return _upright(_from_planes(path, max_pixels), _orientation(picture))
    picture.load()
    return _upright(picture, _orientation(picture))


def _orientation(picture: Image.Image) -> object:
    """The EXIF orientation; 1, upright, if the EXIF data are damaged, as viewers take it."""
    try:
        return picture.getexif().get(ORIENTATION, 1)
    except Exception:  # of corrupt data Pillow raises far more than OSError
        return 1


def _upright(picture: Image.Image, orientation: object) -> Image.Image:
    """The picture turned; as it is for orientations that do not exist."""
    turn = TURNS.get(orientation) if isinstance(orientation, int) else None
    return picture if turn is None else picture.transpose(turn)


def _from_planes(path: Path, max_pixels: int) -> Image.Image:
    """The colors of a TIFF that stores 16-bit channels in separate planes, scaled to 8 bits.

    Pillow scales the other 16-bit TIFFs in the same way.
    """
    planes = np.moveaxis(read_tiff(path, None, max_pixels)[:, :, :3], 2, 0)
    return Image.fromarray(np.stack([_in_8_bits(plane) for plane in planes], axis=2))


def _in_8_bits(plane: UInt16[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w"]:
    return np.rint(plane.astype(np.float32) / 257).astype(np.uint8)


def read_image(
    path: Path | str, channels: int = 3, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]:
    """Read an image file into an array (H, W, channels).

    The content decides about the format, not the suffix. Of a file of several pictures the first
    is read.

    Args:
        path: a picture, which is turned upright by its EXIF orientation, or a .npy file.
        channels: 3 gives RGB of 8 bits: gray is repeated, alpha is dropped, and 16 bits are scaled
            (65535 becomes 255). 1 gives grayscale, in which 16 bits are kept. Other numbers are for
            .npy files (H, W, channels) and TIFFs, of 8 or 16 bits.
        max_pixels: height times width at most.

    Raises:
        SizeError: a DataError of an image of more pixels.
        DataError: the file cannot be read, is no image, or has another data type or another number
            of channels.
    """
    path = Path(path)
    with opened_image(path) as (file, found):
        if found == "NPY":
            return read_npy(path, file, channels, max_pixels)
        if found == "TIFF" and channels not in (1, 3):
            return read_tiff(path, channels, max_pixels)
        picture = decode_picture(path, file, found, max_pixels)
        if channels not in (1, 3):
            require_channels(path, len(picture.getbands()), channels)
            return np.array(picture).reshape(picture.height, picture.width, -1)
        try:
            return to_rgb(picture) if channels == 3 else to_gray(picture)
        except ValueError as error:
            raise DataError(f"{path}: {error}", path=path) from error


def to_gray(
    picture: Image.Image,
) -> UInt8[np.ndarray, "h w 1"] | UInt16[np.ndarray, "h w 1"]:
    """A decoded picture as one channel, of 16 bits if the picture has them, else of 8.

    Raises:
        ValueError: the pixels are floats or 32-bit integers.
    """
    if picture.mode.startswith("I;16"):
        return np.array(picture).astype(np.uint16)[:, :, None]
    _require_known_range(picture)
    return np.array(picture.convert("L"))[:, :, None]


def to_rgb(picture: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """A decoded picture of any mode as RGB, 0 to 255. Its EXIF orientation is not applied.

    Raises:
        ValueError: the pixels are floats or 32-bit integers.
    """
    if picture.mode.startswith("I;16"):
        gray = _in_8_bits(np.asarray(picture).astype(np.uint16))
        return np.repeat(gray[:, :, None], 3, axis=2)
    _require_known_range(picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _require_known_range(picture: Image.Image) -> None:
    if picture.mode in ("I", "F"):
        raise ValueError(
            f"an image of mode {picture.mode!r} has no known range; "
            "save it with 8 or 16 bits per channel."
        )


def image_files(folder: Path, suffixes: Sequence[str] = IMAGE_SUFFIXES) -> Iterator[Path]:
    """The image files in a folder and in all folders below it, sorted by path.

    The suffix decides what is an image. Hidden files are left out, and links to
    folders are not followed. What looks like images but cannot be read is there too: links without
    a target, FIFOs, and the folders that cannot be opened. Reading these gives the cause.

    Raises:
        DataError: there is no such folder, or it cannot be opened.
    """
    failures: list[OSError] = []
    found = [
        Path(parent, name)
        for parent, _, names in os.walk(folder, onerror=failures.append)
        for name in names
        if is_image_name(name, suffixes)
    ]
    closed = [Path(error.filename) for error in failures]
    if folder in closed:
        raise DataError(f"{folder}: {cause_of(failures[closed.index(folder)])}.", path=folder)
    return iter(sorted(found + closed))


def is_image_name(name: str, suffixes: Sequence[str]) -> bool:
    """Whether a file's name has one of the suffixes and does not make it a hidden file."""
    return not name.startswith(".") and Path(name).suffix.lower() in suffixes
