"""Windows of image files that may be larger than memory.

TIFFs and GeoTIFFs of any compression are read by rasterio (GDAL), an extra, and .npy files row by
row. All others are decoded as a whole, up to `MAX_PIXELS`, since their formats allow nothing else.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Bool, Shaped, UInt8, UInt16
from PIL import Image

from ccnet.images.arrays import StoredArray, in_native_order, read_npy_header, require_all_pixels
from ccnet.images.bands import Bands, cannot_choose, require_transparency
from ccnet.images.opening import MAX_PIXELS, SizeError, opened_image
from ccnet.images.reading import read_image
from ccnet.images.stored import GDAL_CACHE, import_rasterio, open_dataset, read_bands
from ccnet.images.tiff import HEIGHT, ORIENTATION, WIDTH, Tags
from ccnet.runtime.files import DataError, open_regular

TIFF_SUFFIXES = (".tif", ".tiff")
UPRIGHT = 1

Pixels = UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]


@dataclass(frozen=True)
class Georeference:
    """Where an image lies on the earth, as rasterio has it, for a file of its labels."""

    crs: Any = None
    transform: Any = None
    gcps: Any = None
    rpcs: Any = None
    has_absent: bool = False
    """Whether the file marks pixels that hold no picture."""

    def profile(self) -> dict[str, Any]:
        """As arguments of `rasterio.open`."""
        ground = {"crs": self.crs, "transform": self.transform, "rpcs": self.rpcs}
        if self.gcps and self.gcps[0]:  # with control points there is no transform
            ground |= {"gcps": self.gcps[0], "crs": self.gcps[1], "transform": None}
        return {name: value for name, value in ground.items() if value is not None}


class WindowedImage(ABC):
    """An image of which windows are read: what `read_image` gives of the whole, part by part."""

    path: Path
    height: int
    width: int
    channels: int
    dtype: np.dtype
    georeference: Georeference | None = None
    """None if the format has none."""
    held_bytes: int = 0
    """Memory that reading a window takes besides its pixels."""

    @abstractmethod
    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        """The pixels of a window that lies in the image.

        Raises:
            DataError: the file is damaged there.
        """

    def absent(
        self, top: int, left: int, height: int, width: int
    ) -> Bool[np.ndarray, "h w"] | None:
        """Which pixels of a window hold no picture, by the file's nodata value or mask.

        None if the file does not mark such pixels.
        """
        return None

    def close(self) -> None:  # noqa: B027 - most have nothing to close
        """Close the file."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_windows(
    path: Path | str,
    channels: int = 3,
    *,
    max_pixels: int = MAX_PIXELS,
    bands: Bands | None = None,
) -> WindowedImage:
    """Open an image file for reading windows of it.

    Args:
        path: of the file; its content decides about the format, not the suffix.
        channels: as in `read_image`.
        max_pixels: of an image that has to be decoded as a whole.
        bands: those of a network that takes chosen bands; `channels` does not count then.

    Raises:
        SizeError: a DataError of an image that has to be decoded as a whole and is too large.
        DataError: the file cannot be read, or has another data type or number of channels.
        ImportError: a TIFF is too large for that, and rasterio is not installed.
    """
    path = Path(path)
    stored = tags = None
    with opened_image(path) as (file, found):
        if found == "NPY":
            stored = read_npy_header(path, file, channels if bands is None else None)
            require_all_pixels(path, file, stored)
            if bands is not None:
                bands.require(path, stored.shape[2], stored.dtype)
        elif found == "TIFF":
            known = Tags(path, file)
            tags = (known.number(WIDTH), known.number(HEIGHT), known.number(ORIENTATION, UPRIGHT))
    if stored is not None and not stored.is_fortran:
        array = _ArrayInFile(path, stored)
        return array if bands is None else _Scaled(array, bands)
    tiff = None if tags is None else _open_tiff(path, tags, channels, max_pixels, bands)
    if tiff is not None and bands is not None:
        return _Scaled(tiff, bands.only_taken())
    if bands is not None:
        return _ArrayInMemory(path, read_bands(path, bands, max_pixels))
    return tiff or _ArrayInMemory(path, read_image(path, channels, max_pixels))


class _ArrayInMemory(WindowedImage):
    """An image that was decoded as a whole."""

    def __init__(self, path: Path, pixels: Pixels) -> None:
        self.path, self.pixels = path, pixels
        self.height, self.width, self.channels = pixels.shape
        self.dtype = pixels.dtype

    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        return self.pixels[top : top + height, left : left + width]


class _Scaled(WindowedImage):
    """An image as its file stores it, of which a network takes some bands, in a range.

    Args:
        stored: the image.
        bands: those that are taken of it.
    """

    def __init__(self, stored: "_ArrayInFile | _Tiff", bands: Bands) -> None:
        self.stored, self.bands, self.path = stored, bands, stored.path
        self.height, self.width, self.channels = stored.height, stored.width, len(bands.numbers)
        self.dtype, self.georeference = bands.result_dtype, stored.georeference
        self.held_bytes = stored.held_bytes

    def read(self, top: int, left: int, height: int, width: int) -> Pixels:
        pixels = self.stored.read(top, left, height, width)
        absent = self.absent(top, left, height, width)
        if absent is not None and not self.bands.as_stored:  # it may be nan
            for number, (low, _) in zip(self.bands.numbers, self.bands.ranges, strict=True):
                pixels[absent, number - 1] = low
        return self.bands.read(self.path, pixels)

    def absent(
        self, top: int, left: int, height: int, width: int
    ) -> Bool[np.ndarray, "h w"] | None:
        return self.stored.absent(top, left, height, width)

    def close(self) -> None:
        self.stored.close()


class _ArrayInFile(WindowedImage):
    """The array of a .npy file, read by rows: pages of a mapped file would stay in memory."""

    def __init__(self, path: Path, array: StoredArray) -> None:
        self.path, self.stored, self.start = path, array.dtype, array.start
        self.height, self.width, self.channels = array.shape
        self.dtype = self.stored.newbyteorder("=")
        self.file = open_regular(path)

    def read(self, top: int, left: int, height: int, width: int) -> Shaped[np.ndarray, "h w c"]:
        pixels = np.empty((height, width, self.channels), self.stored)
        size = self.channels * self.stored.itemsize
        for row in range(top, top + height):
            self.file.seek(self.start + (row * self.width + left) * size)
            content = self.file.read(width * size)
            if len(content) < width * size:
                raise DataError(f"{self.path}: the file became shorter meanwhile.", path=self.path)
            pixels[row - top] = np.frombuffer(content, self.stored).reshape(width, -1)
        return in_native_order(pixels)

    def close(self) -> None:
        self.file.close()


def _open_tiff(
    path: Path,
    tags: tuple[int, int, int],
    channels: int,
    max_pixels: int,
    taken: Bands | None,
) -> "_Tiff | None":
    """A TIFF by rasterio; None if it may be decoded as a whole and can or has to be.

    Args:
        path: of the file.
        tags: width, height and orientation.
        channels, max_pixels: as in `open_windows`.
        taken: the bands of a network that takes chosen ones.

    Raises:
        DataError: it is damaged, or has other bands or another type than `taken`, or bands that
            are neither gray, RGB nor transparency.
    """
    width, height, orientation = tags
    is_large = width * height > max_pixels
    if not is_large and find_spec("rasterio") is None:
        return None
    rasterio = import_rasterio(path)
    try:
        dataset = open_dataset(rasterio, path)
    except rasterio.errors.RasterioError as error:
        raise DataError(f"{path}: cannot be read as a TIFF ({error}).", path=path) from error
    try:
        if taken is not None:
            taken.require(path, dataset.count, dataset.dtypes[0])
        bands = _choose_bands(path, dataset, channels, taken) if orientation == UPRIGHT else None
    except DataError:
        dataset.close()
        raise
    if bands is not None:
        return _Tiff(path, dataset, len(bands.numbers) if bands.is_raw else channels, bands)
    dataset.close()
    if is_large:
        raise SizeError(
            path,
            f"{width}×{height} pixels of a kind that cannot be read in windows as {channels} "
            "channels: of another number of bands or data type, turned by a tag, or with colors of "
            "a palette, inverted or as ink",
            width * height,
            "convert it to gray or RGB of 8 or 16 bits, such as by gdal_translate -expand rgb",
        )
    return None


def _choose_bands(path: Path, dataset: Any, channels: int, taken: Bands | None) -> "_Bands | None":
    """The bands of a file that make an image of so many channels; None if there are no such."""
    kinds = {np.dtype(kind) for kind in dataset.dtypes}
    structure = dataset.tags(ns="IMAGE_STRUCTURE")
    is_plain = not {"MINISWHITE", "SOURCE_COLOR_SPACE", "NBITS"} & {
        name
        for name, value in structure.items()
        if (name, value) != ("SOURCE_COLOR_SPACE", "YCbCr")
    }
    colors = [color.name for color in dataset.colorinterp]
    if len(kinds) != 1 or not is_plain or {"palette", "cyan"} & set(colors):
        return None
    alpha = "alpha" in colors
    if taken is not None:
        drops_alpha = alpha and colors.index("alpha") + 1 not in taken.numbers
        return _Bands(list(taken.numbers), drops_alpha=drops_alpha, is_raw=True)
    if kinds.pop() not in (np.uint8, np.uint16):
        return None
    if dataset.count == channels:
        return _Bands(list(range(1, channels + 1)))
    if channels == 3 and colors[:1] == ["gray"] and len(colors) == 1 + alpha:
        return _Bands([1], repeat=True, drops_alpha=alpha)
    if channels == 1 and colors == ["gray", "alpha"]:
        return _Bands([1], drops_alpha=True)
    if channels in (1, 3) and colors[:3] == ["red", "green", "blue"]:
        if len(colors) > 3 + alpha:
            raise DataError(f"{path}: {cannot_choose(len(colors))}", path=path)
        return _Bands([1, 2, 3], to_gray=channels == 1, drops_alpha=alpha)
    return None


@dataclass(frozen=True)
class _Bands:
    """Which bands are read, and how they become the channels that are wanted."""

    numbers: list[int]
    repeat: bool = False
    to_gray: bool = False
    drops_alpha: bool = False
    is_raw: bool = False
    """Whether they are given as they are stored, whatever their type is."""


class _Tiff(WindowedImage):
    """A TIFF that rasterio has opened."""

    def __init__(self, path: Path, dataset: Any, channels: int, bands: _Bands) -> None:
        self.path, self.dataset, self.bands, self.channels = path, dataset, bands, channels
        self.height, self.width = dataset.height, dataset.width
        stored = np.dtype(dataset.dtypes[0])
        self.scales = stored == np.uint16 and (channels == 3 or bands.to_gray) and not bands.is_raw
        self.dtype = np.dtype(np.uint8) if self.scales else stored
        rows, columns = np.max(dataset.block_shapes, axis=0)
        self.held_bytes = GDAL_CACHE + 2 * int(rows * columns) * dataset.count * stored.itemsize
        flags = {flag.name for flag in dataset.mask_flag_enums[bands.numbers[0] - 1]}
        # a band that the network takes is no mask, even where the file calls it alpha
        is_mask = "alpha" not in flags or bands.drops_alpha
        self.has_absent = "all_valid" not in flags and is_mask
        self.georeference = Georeference(
            crs=dataset.crs,
            transform=None if dataset.transform.is_identity else dataset.transform,
            gcps=dataset.gcps,
            rpcs=dataset.rpcs,
            has_absent=self.has_absent,
        )

    def read(self, top: int, left: int, height: int, width: int) -> Shaped[np.ndarray, "h w c"]:
        numbers = self.bands.numbers
        pixels = np.empty((height, width, len(numbers)), self.dataset.dtypes[0])
        at = (top, left, height, width)
        self._decode("read", numbers, out=pixels.transpose(2, 0, 1), at=at)
        if self.bands.drops_alpha and not self.bands.is_raw:
            self._require_transparency(at)
        if self.scales:
            pixels = np.rint(pixels / np.float32(257)).astype(np.uint8)
        if self.bands.to_gray:
            return np.array(Image.fromarray(pixels).convert("L"))[:, :, None]
        return np.repeat(pixels, 3, axis=2) if self.bands.repeat else pixels

    def _require_transparency(self, at: tuple[int, ...]) -> None:
        number = [color.name for color in self.dataset.colorinterp].index("alpha") + 1
        alpha = self._decode("read", number, at=at)
        if alpha.dtype == np.uint16:
            alpha = np.rint(alpha / np.float32(257)).astype(np.uint8)
        require_transparency(self.path, alpha, self.dataset.count)

    def absent(
        self, top: int, left: int, height: int, width: int
    ) -> Bool[np.ndarray, "h w"] | None:
        if not self.has_absent:
            return None
        return self._decode("dataset_mask", at=(top, left, height, width)) == 0

    def _decode(self, method: str, *arguments: Any, at: tuple[int, ...], **options: Any) -> Any:
        rasterio = import_rasterio(self.path)
        top, left, height, width = at
        window = rasterio.windows.Window(left, top, width, height)
        try:
            with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE):
                return getattr(self.dataset, method)(*arguments, window=window, **options)
        except rasterio.errors.RasterioError as error:
            reason = error.__cause__ or error
            raise DataError(
                f"{self.path}: damaged between rows {top} and {top + height} ({reason}); "
                "restore the file.",
                path=self.path,
            ) from error

    def close(self) -> None:
        self.dataset.close()
