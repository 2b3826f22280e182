"""Label maps that are larger than memory as PNG, TIFF or GeoTIFF, and what they say of their maker.

Pillow needs all pixels for that, so a PNG is encoded here row by row; a TIFF is written by rasterio
(GDAL), an extra. Source: PNG specification (third edition, W3C), sections 5, 9 and 11.
"""

import hashlib
import struct
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from ccnet.classes import IGNORE_INDEX
from ccnet.images.windows import (
    GDAL_CACHE,
    TIFF_SUFFIXES,
    Georeference,
    import_rasterio,
    open_dataset,
)
from ccnet.runtime.disk import write_whole

KEY = "ccnet"
"""Name of the text in a file that holds its stamp."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
GRAY_8_BITS = struct.pack("!5B", 8, 0, 0, 0, 0)
MAX_CHUNK = 1 << 20
BLOCK = 256
"""Height and width of the tiles of a TIFF."""
WIDEST = 1 << 16
"""Pixels of a row that are written to a TIFF at once."""

ReadRows = Callable[[int, int, int, int], UInt8[np.ndarray, "h w"]]
"""Reads a window (top, left, height, width) of what is to be written."""


def write_labels(
    path: Path,
    read: ReadRows,
    size: tuple[int, int],
    stamp: str,
    georeference: Georeference | None = None,
    nodata: int = IGNORE_INDEX,
) -> None:
    """Write 8-bit pixels, window by window, as the PNG or the tiled TIFF that the suffix says.

    A TIFF gets the georeference, and a nodata value if the image had one or a mask.

    Args:
        path: of the file, which is replaced as a whole when it is complete.
        read: gives the pixels of a window.
        size: height and width.
        stamp: goes into the file as text, which `inspect_picture` and `read_tiff_stamp` find.
        georeference: of the image; PNG has none.
        nodata: what pixels have that hold no picture.

    Raises:
        ImportError: rasterio is needed and not installed.
        OSError: the file cannot be written.
        ValueError: another suffix.
    """
    require_suffix(path)
    if path.suffix.lower() == ".png":
        write_whole(path, lambda fresh: _write_png(fresh, read, size, stamp))
    else:
        ground = georeference or Georeference()
        try:
            write_whole(path, lambda fresh: _write_tiff(fresh, read, size, stamp, ground, nodata))
        except RuntimeError as error:
            raise OSError(f"{path} could not be written: {error}; is there room?") from error


def require_suffix(path: Path) -> None:
    """Raise what `write_labels` raises of the suffix, before any work."""
    if path.suffix.lower() in TIFF_SUFFIXES:
        import_rasterio(path)
    elif path.suffix.lower() != ".png":
        raise ValueError(f"{path}: labels are written as .png, .tif or .tiff")


def read_tiff_stamp(path: Path) -> str | None:
    """The stamp in a complete TIFF of `write_labels`; None for any other file, or none.

    Of its pixels, only the last are read.
    """
    if path.is_symlink() or not path.is_file():
        return None
    rasterio = import_rasterio(path)
    try:
        with open_dataset(rasterio, path) as dataset:
            row, column = dataset.height - 1, dataset.width - 1
            dataset.read(1, window=rasterio.windows.Window(column, row, 1, 1))
            return dataset.tags().get(KEY)
    except rasterio.errors.RasterioError:
        return None


def _write_png(path: Path, read: ReadRows, size: tuple[int, int], stamp: str) -> None:
    """Encode gray of 8 bits, one row after the other, without a filter: labels are constant.

    The digest in the text is that of all other bytes, and comes into its place at the end.
    """
    height, width = size
    compress, digest = zlib.compressobj(), hashlib.sha256()
    with path.open("wb") as file:

        def write(content: bytes) -> None:
            digest.update(content)
            file.write(content)

        write(SIGNATURE + png_chunk(b"IHDR", struct.pack("!2I", width, height) + GRAY_8_BITS))
        place = file.tell()
        file.write(stamp_chunk(stamp, digest))
        encoded = bytearray()
        for top in range(height):
            encoded += compress.compress(b"\0" + read(top, 0, 1, width).tobytes())
            if len(encoded) >= MAX_CHUNK // 2:
                write(png_chunk(b"IDAT", bytes(encoded)))
                encoded.clear()
        write(png_chunk(b"IDAT", bytes(encoded) + compress.flush()) + png_chunk(b"IEND", b""))
        file.seek(place)
        file.write(stamp_chunk(stamp, digest))


def png_chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(content, zlib.crc32(kind))
    return struct.pack("!I", len(content)) + kind + content + struct.pack("!I", checksum)


def stamp_chunk(stamp: str, digest: "hashlib._Hash") -> bytes:
    """As those of smaller label maps, which are encoded at once, of the same length always."""
    return png_chunk(b"tEXt", f"{KEY}\0{stamp} sha256={digest.hexdigest()}".encode("latin-1"))


def _write_tiff(
    path: Path,
    read: ReadRows,
    size: tuple[int, int],
    stamp: str,
    georeference: Georeference,
    nodata: int,
) -> None:
    """Write one band of deflated tiles, and read it again: GDAL may drop errors of its last part.

    Raises:
        RuntimeError: GDAL cannot write the file, or it does not hold what was written.
    """
    rasterio = import_rasterio(path)
    height, width = size
    options = {"dtype": "uint8", "count": 1, "height": height, "width": width}
    options |= {"tiled": True, "blockxsize": BLOCK, "blockysize": BLOCK, "compress": "deflate"}
    options |= {"bigtiff": "if_safer", **georeference.profile()}
    if georeference.has_absent:
        options["nodata"] = nodata
    windows = [
        (top, left, min(BLOCK, height - top), min(WIDEST, width - left))
        for top in range(0, height, BLOCK)
        for left in range(0, width, WIDEST)
    ]
    try:
        # PAM would write a second file beside this one
        with rasterio.Env(GDAL_CACHEMAX=GDAL_CACHE, GDAL_PAM_ENABLED=False):
            with open_dataset(rasterio, path, "w", **options) as dataset:
                dataset.update_tags(**{KEY: stamp})
                for top, left, high, wide in windows:
                    window = rasterio.windows.Window(left, top, wide, high)
                    dataset.write(read(top, left, high, wide), 1, window=window)
            with open_dataset(rasterio, path) as dataset:
                for top, left, high, wide in windows:
                    window = rasterio.windows.Window(left, top, wide, high)
                    written = dataset.read(1, window=window)
                    if not np.array_equal(written, read(top, left, high, wide)):
                        raise RuntimeError("it does not hold what was written")
    except (rasterio.errors.RasterioError, rasterio._err.CPLE_BaseError) as error:
        raise RuntimeError(str(error.__cause__ or error)) from error
