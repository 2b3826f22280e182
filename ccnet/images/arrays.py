"""NumPy's .npy files as images: the header first, and no more memory than the file has bytes.

Source: the description of the format in `numpy.lib.format`.
"""

import io
import math
import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import UInt8, UInt16

from ccnet.images.opening import RESTORE, require_size
from ccnet.runtime.files import DataError, shown

MAX_HEADER = 1 << 16
"""Bytes; that of an image has 128."""


def read_npy(
    path: Path, file: BinaryIO, channels: int
) -> UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]:
    """The array in an open .npy file, in the byte order of this machine.

    Args:
        path: of the file, for messages.
        file: the file, open at its begin.
        channels: the number wanted. An array (H, W) has one.

    Raises:
        DataError: another type or shape, too many pixels, or a truncated file.
    """
    head = io.BytesIO(file.read(MAX_HEADER))
    version = np.lib.format.read_magic(head)
    readers = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    if version not in readers:
        raise DataError(f"{path}: {version} is no version of .npy that images have.", path=path)
    shape, is_fortran, dtype = readers[version](head)
    full = (*shape, 1) if len(shape) == 2 else shape
    if len(full) != 3 or dtype.hasobject or dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise DataError(
            f"{path}: an array {shown(shape)} of {str(dtype)[:80]}; "
            "save (H, W, channels) of uint8 or uint16.",
            path=path,
        )
    require_size(path, full[1], full[0])
    require_channels(path, full[2], channels)
    start, num_bytes = head.tell(), math.prod(shape) * dtype.itemsize
    present = os.fstat(file.fileno()).st_size - start
    if present < num_bytes:
        raise DataError(
            f"{path}: {present} bytes of pixels where {num_bytes} should be; the file is "
            f"truncated. {RESTORE}",
            path=path,
        )
    file.seek(start)
    image = np.fromfile(file, dtype, math.prod(shape))
    image = image.reshape(shape[::-1]).T if is_fortran else image.reshape(shape)
    return in_native_order(image.reshape(full))


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
