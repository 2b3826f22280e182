"""NumPy's .npy files as images: the header first, and no more memory than the file has bytes.

Source: the description of the format in `numpy.lib.format`.
"""

import io
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped, UInt8

from ccnet.images.opening import MAX_PIXELS, RESTORE, require_pixels, require_size
from ccnet.runtime.files import DataError, shown

TYPES = ("uint8", "uint16", "int8", "int16", "int32", "uint32", "float16", "float32", "float64")
"""Types of the numbers in images; the first two are those of pictures."""
MAX_HEADER = 1 << 16
"""Bytes; that of an image has 128."""


def read_npy(
    path: Path, file: BinaryIO, channels: int | None, max_pixels: int = MAX_PIXELS
) -> Shaped[np.ndarray, "h w c"]:
    """The array in an open .npy file, in the byte order of this machine.

    Args:
        path: of the file, for messages.
        file: the file, open at its begin.
        channels: as in `read_npy_header`. An array (H, W) has one.
        max_pixels: height times width at most.

    Raises:
        DataError: another type or shape, too many pixels, or a truncated file.
    """
    array = read_npy_header(path, file, channels)
    return _pixels(path, file, array, max_pixels)


def read_exact_npy(
    path: Path, file: BinaryIO
) -> Shaped[np.ndarray, "h w"] | UInt8[np.ndarray, "h w 3"]:
    """The numbers (H, W) of any type or the colors (H, W, 3) of uint8 in an open .npy file.

    An array (H, W, 1) has numbers too.

    Raises:
        DataError: another type or shape, too many pixels, or a truncated file.
    """
    shape, is_fortran, dtype, start = _read_header(path, file)
    full = (*shape, 1) if len(shape) == 2 else shape
    is_label = len(full) == 3 and (full[2] == 1 or (full[2] == 3 and dtype == np.uint8))
    if not is_label or dtype.kind not in "biuf":
        raise DataError(
            f"{path}: an array {shown(shape)} of {str(dtype)[:80]}; save (H, W) of class numbers, "
            "or (H, W, 3) of colors as uint8.",
            path=path,
        )
    image = _pixels(path, file, StoredArray((full[0], full[1], full[2]), dtype, is_fortran, start))
    return np.ascontiguousarray(image[:, :, 0] if full[2] == 1 else image)


def read_npy_type(path: Path, file: BinaryIO) -> np.dtype:
    """The type of the numbers in an open .npy file; raises DataError for an unknown version."""
    return _read_header(path, file)[2]


def _pixels(
    path: Path, file: BinaryIO, array: "StoredArray", max_pixels: int = MAX_PIXELS
) -> Shaped[np.ndarray, "h w c"]:
    require_size(path, array.shape[1], array.shape[0], max_pixels)
    require_all_pixels(path, file, array)
    file.seek(array.start)
    image = np.fromfile(file, array.dtype, math.prod(array.shape))
    shape = array.shape
    image = image.reshape(shape[::-1]).T if array.is_fortran else image.reshape(shape)
    return in_native_order(image)


@dataclass(frozen=True)
class StoredArray:
    """Where and how the pixels of an image are in a .npy file."""

    shape: tuple[int, int, int]
    """Height, width and channels."""
    dtype: np.dtype
    is_fortran: bool
    """Whether the pixels of a column follow each other, and not those of a row."""
    start: int
    """Bytes before the first pixel."""


def read_npy_header(path: Path, file: BinaryIO, channels: int | None = None) -> StoredArray:
    """What an open .npy file says that it holds.

    Args:
        path: of the file, for messages.
        file: the file, open at its begin.
        channels: the number wanted, of uint8 or uint16. None: any number, of any type in `TYPES`.

    Raises:
        DataError: another type or shape.
    """
    shape, is_fortran, dtype, start = _read_header(path, file)
    full = (*shape, 1) if len(shape) == 2 else shape
    types = TYPES if channels is None else TYPES[:2]
    if len(full) != 3 or dtype.hasobject or dtype.newbyteorder("=").name not in types:
        raise DataError(
            f"{path}: an array {shown(shape)} of {str(dtype)[:80]}; "
            f"save (H, W, channels) of {', '.join(types[:-1])} or {types[-1]}.",
            path=path,
        )
    require_pixels(path, full[1], full[0])
    if channels is not None:
        require_channels(path, full[2], channels)
    return StoredArray(full, dtype, is_fortran, start)


def _read_header(path: Path, file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Shape, Fortran order, type, and the bytes before the first pixel."""
    head = io.BytesIO(file.read(MAX_HEADER))
    version = np.lib.format.read_magic(head)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise DataError(f"{path}: {version} is no version of .npy that images have.", path=path)
    return *readers[version](head), head.tell()


def require_all_pixels(path: Path, file: BinaryIO, array: StoredArray) -> None:
    """Raises DataError if the file is truncated."""
    num_bytes = math.prod(array.shape) * array.dtype.itemsize
    present = os.fstat(file.fileno()).st_size - array.start
    if present < num_bytes:
        raise DataError(
            f"{path}: {present} bytes of pixels where {num_bytes} should be; the file is "
            f"truncated. {RESTORE}",
            path=path,
        )


def require_channels(path: Path, found: int, wanted: int) -> None:
    """Raises DataError for an image of another number of channels than the network takes."""
    if found != wanted:
        raise DataError(
            f"{path}: {found} channels where {wanted} are wanted; give images like those that the "
            "model was trained on.",
            path=path,
        )


def in_native_order(array: np.ndarray) -> np.ndarray:
    """The same values in the byte order of this machine, the only one that PyTorch accepts."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)
