"""Images as their files store them: all bands, any type of numbers.

TIFFs that are uncompressed or deflated are read here (`ccnet.images.tiff`), others by rasterio, an
extra. Pictures of other formats have gray or RGB; their transparency is left out.
"""

import warnings
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from jaxtyping import Shaped

from ccnet.images.arrays import TYPES, read_npy, read_npy_header
from ccnet.images.bands import BandImage, Bands, counted
from ccnet.images.opening import MAX_PIXELS, open_header, opened_image
from ccnet.images.reading import decode_picture, to_gray, to_rgb, turned_array
from ccnet.images.tiff import (
    ALPHA,
    COMPRESSION,
    DEFLATE,
    EXTRA_SAMPLES,
    GRAY,
    OLD_DEFLATE,
    ORIENTATION,
    PHOTOMETRIC,
    PLAIN,
    RGB,
    SAMPLES,
    WHITE_IS_ZERO,
    YCBCR,
    Grid,
    Tags,
    read_stored_tiff,
    stored_type,
)
from ccnet.runtime.files import DataError

GDAL_CACHE = 32 << 20
"""Bytes of decoded blocks that GDAL keeps, in the whole process."""


@dataclass(frozen=True)
class Kind:
    """What the header of an image says about its pixels."""

    bands: int
    dtype: str
    """The type of the numbers, as NumPy names it."""
    has_alpha: bool = False
    """Whether the last of 2 or 4 bands is called transparency, as GDAL calls any fourth band."""
    is_known: bool = True
    """Whether the file calls its other bands gray or RGB."""

    @property
    def is_photograph(self) -> bool:
        """Whether it is gray or RGB of 8 bits, which needs no choice."""
        return self.is_known and self.bands in (1, 3) and self.dtype == "uint8"

    def __str__(self) -> str:
        return f"{counted(self.bands)} of {self.dtype}"


@dataclass(frozen=True)
class StoredImage:
    """An image as its file stores it, upright."""

    pixels: Shaped[np.ndarray, "h w n"]
    nodata: float | None
    """The value of pixels that hold nothing; None if the file names none."""


def stored_kind(path: Path) -> Kind:
    """What the header says; raises DataError for a file that cannot be read as an image."""
    with opened_image(path) as (file, found):
        if found == "NPY":
            array = read_npy_header(path, file)
            return Kind(array.shape[2], array.dtype.newbyteorder("=").name)
        if found == "TIFF":
            tags = Tags(path, file)
            num, meaning = tags.number(SAMPLES, 1), tags.number(PHOTOMETRIC, GRAY)
            if meaning not in (WHITE_IS_ZERO, GRAY, RGB):  # ink, a palette or the like
                return Kind(3, "uint8")
            alpha = num in (2, 4) and int(tags.numbers(EXTRA_SAMPLES, [0])[-1]) in ALPHA
            is_known = num - alpha == (3 if meaning == RGB else 1)
            return Kind(num, stored_type(tags).name, has_alpha=alpha, is_known=is_known)
        mode = open_header(path, file, found).mode
    if mode.startswith("I;16"):
        return Kind(1, "uint16")
    return Kind(1 if mode in ("1", "L", "LA") else 3, "uint8")


def read_stored(path: Path, max_pixels: int = MAX_PIXELS) -> StoredImage:
    """Read all bands of an image.

    Args:
        path: a TIFF, a .npy array (H, W) or (H, W, bands), or a picture. It is turned upright by
            its orientation.
        max_pixels: height times width at most.

    Raises:
        SizeError: a DataError of an image of more pixels.
        DataError: the file cannot be read, or holds another type of numbers.
    """
    with opened_image(path) as (file, found):
        if found == "NPY":
            return StoredImage(read_npy(path, file, None, max_pixels), None)
        if found == "TIFF":
            return _read_tiff(path, file, max_pixels)
        picture = decode_picture(path, file, found, max_pixels)
        is_gray = picture.mode in ("1", "L", "LA") or picture.mode.startswith("I")
        return StoredImage(to_gray(picture) if is_gray else to_rgb(picture), None)


def read_bands(path: Path | str, bands: Bands, max_pixels: int = MAX_PIXELS) -> BandImage:
    """The image that a network gets: some bands, scaled; raises as `read_stored`, `Bands.read`."""
    path = Path(path)
    stored = read_stored(path, max_pixels)
    return bands.read(path, stored.pixels, stored.nodata)


def _read_tiff(path: Path, file: BinaryIO, max_pixels: int) -> StoredImage:
    tags = Tags(path, file)
    Grid(tags, max_pixels)
    compression, meaning = tags.number(COMPRESSION, PLAIN), tags.number(PHOTOMETRIC, GRAY)
    if meaning not in (GRAY, RGB, YCBCR):
        raise tags.wrong(
            f"a TIFF of photometric interpretation {meaning} has other bands than it stores; save "
            "gray, RGB or plain bands"
        )
    nodata, orientation = tags.nodata(), tags.number(ORIENTATION, 1)
    if compression in (PLAIN, DEFLATE, OLD_DEFLATE) and meaning != YCBCR:
        file.seek(0)
        pixels = read_stored_tiff(path, file, max_pixels)
    elif find_spec("rasterio") is not None:
        stored_type(tags)
        pixels = _read_by_gdal(path)
    else:
        raise tags.wrong(
            f"compression {compression} needs rasterio: pip install 'criss-cross[geo]'; or save it "
            "uncompressed or with deflate"
        )
    return StoredImage(turned_array(pixels, orientation), nodata)


def _read_by_gdal(path: Path) -> Shaped[np.ndarray, "h w n"]:
    rasterio = import_rasterio(path)
    try:
        with open_dataset(rasterio, path) as dataset:
            if dataset.dtypes[0] not in TYPES:
                raise DataError(f"{path}: numbers of the type {dataset.dtypes[0]}.", path=path)
            return np.ascontiguousarray(np.moveaxis(dataset.read(), 0, 2))
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{path}: cannot be read as a TIFF ({error}).", path=path) from error


def import_rasterio(path: Path) -> Any:
    """The package rasterio; raises ImportError with what would work, if it is not there."""
    try:
        return import_module("rasterio")
    except ImportError as error:
        raise ImportError(
            f"{path}: TIFFs of any size need rasterio, which cannot be imported here ({error}): "
            "pip install 'criss-cross[geo]'"
        ) from error


def open_dataset(rasterio: Any, path: Path, mode: str = "r", **options: Any) -> Any:
    """A TIFF as a dataset of rasterio, without a warning if it has no georeference.

    No other driver: some of GDAL's formats name further files and hosts to read.
    """
    with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE), warnings.catch_warnings():
        warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
        return rasterio.open(path.absolute(), mode, driver="GTiff", **options)
