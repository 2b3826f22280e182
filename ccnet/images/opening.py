"""Opening image files of strangers: known formats only, by their content, and of bounded size.

A file's first bytes say what it is, its suffix does not. Pillow is given the open file and only
decodes JPEG, PNG, BMP, WebP and TIFF, and GIF of label files: others of its formats start programs
(PostScript) or are hardly ever used. The size that the header states is checked before anything is
decoded.
"""

import os
import struct
import threading
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Literal

from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ccnet.runtime.files import DataError, cause_of, open_regular, require_regular, shown

MAX_PIXELS = 50_000_000
"""Pixels of an image or a label that is read unless more are asked for, such as 10,000×5,000."""
BYTES_PER_PIXEL = 10
"""Of a picture file at most; uncompressed pixels have up to eight each."""
MAX_SCANS = 100
"""Scans of a progressive JPEG, each of which takes as long as decoding it; encoders write ten."""

Format = Literal["JPEG", "PNG", "BMP", "WebP", "TIFF", "GIF", "NPY"]
PICTURES: dict[Format, Callable[[BinaryIO], ImageFile]] = {
    "JPEG": JpegImageFile,  # of a phone's file of several pictures (MPO), the first one
    "PNG": PngImageFile,
    "BMP": BmpImageFile,
    "WebP": WebPImageFile,
    "TIFF": TiffImageFile,
    "GIF": GifImageFile,
}
FIRST_BYTES: dict[bytes, Format] = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"BM": "BMP",
    b"II*\0": "TIFF",
    b"MM\0*": "TIFF",
    b"II+\0": "TIFF",
    b"MM\0+": "TIFF",
    b"\x93NUMPY": "NPY",
}
GIF = b"GIF8"
SAVE = "save it as JPEG, PNG, BMP, WebP or TIFF"
DOWNLOAD = "download the image itself"
FOREIGN = {
    b"%!PS": ("PostScript", SAVE),
    b"\xc5\xd0\xd3\xc6": ("PostScript", SAVE),
    b"%PDF": ("a PDF", SAVE),
    GIF: ("a GIF", SAVE),
    b"8BPS": ("a Photoshop file", SAVE),
    b"\0\0\0\x0cjP  ": ("JPEG 2000", SAVE),
    b"\xff\x4f\xff\x51": ("JPEG 2000", SAVE),
    b"PK\x03\x04": ("a zip archive", "unpack it"),
    b"\x1f\x8b": ("a gzip archive", "unpack it"),
    b"\x89HDF": ("an HDF5 file", "save its array as .npy"),
    b"version https://git-lfs": ("a Git LFS pointer", "`git lfs pull` fetches the image"),
    b"<!doctype html": ("an HTML page", DOWNLOAD),
    b"<html": ("an HTML page", DOWNLOAD),
    b"<?xml": ("an XML text, perhaps an SVG", SAVE),
    b"<svg": ("an SVG", SAVE),
}
"""First bytes in lower case, where they are letters → what it is and what would work."""
RESTORE = "Restore the file, or remove it; in a data set, together with its label or image."


class SizeError(DataError):
    """An image beyond the limit; nothing else is known to be wrong with it.

    Attributes:
        cause: how large it is.
        needed: the limit with which it would be read.
    """

    def __init__(self, path: Path, cause: str, needed: int, remedy: str) -> None:
        super().__init__(f"{path}: {cause}; {remedy}.", path=path)
        self.cause, self.needed = cause, needed


@contextmanager
def opened_image(path: Path, *, gif: bool = False) -> Iterator[tuple[BinaryIO, Format]]:
    """An image file, open at its begin, and its format; a GIF only if `gif`.

    What is raised while it is open, by whatever decodes it, becomes a DataError that names it.

    Raises:
        DataError: it cannot be opened, is no regular file, has another format or is damaged.
    """
    with named_causes(path):
        opened = open_regular(path)
    try:
        with without_warnings(), opened as file:
            head = file.read(64)
            found = "GIF" if gif and head.startswith(GIF) else format_of(path, head)
            file.seek(0)
            yield file, found
    except DataError:
        raise
    except Exception as error:  # Pillow's decoders raise far more than OSError on corrupt files
        reason = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise DataError(
            f"{path}: cannot be read as an image ({reason}). {RESTORE}", path=path
        ) from error


def obstacle_to(path: Path) -> DataError | None:
    """Why a file that was found cannot be opened: it is a link without a target, a FIFO, ...

    None if its kind is no obstacle; whether it may be read is only seen by opening it.
    """
    try:
        with named_causes(path):
            require_regular(path)
    except DataError as error:
        return error
    return None


@contextmanager
def named_causes(path: Path) -> Iterator[None]:
    """Make a DataError, with the cause in words, of the error that a file cannot be opened."""
    try:
        yield
    except DataError:
        closed = listing_error(path) if leads_to_folder(path) else None
        if closed is not None:
            raise DataError(f"{path}: {cause_of(closed)}.", path=path) from closed
        raise
    except FileNotFoundError as error:
        cause = cause_of(error)
        if path.is_symlink():
            target = os.readlink(path)  # noqa: PTH115 - as it is written
            cause = f"it is a link to {target}, which does not exist"
        raise DataError(f"{path}: {cause}.", path=path) from None
    except OSError as error:
        raise DataError(f"{path}: {cause_of(error)}.", path=path) from error
    except ValueError as error:
        raise DataError(f"{shown(str(path))}: no file has such a name: {error}.") from error


def leads_to_folder(path: Path) -> bool:
    """Whether it is a folder or a link to one; False also where that may not be known."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises PermissionError


def listing_error(folder: Path) -> OSError | None:
    """Why a folder cannot be opened."""
    try:
        os.scandir(folder).close()
    except OSError as error:
        return error
    return None


def format_of(path: Path, head: bytes) -> Format:
    """The format of a file that begins with `head`, at least 64 bytes or all of it.

    Raises:
        DataError: it is none that is read; the message says which it is, where that is known.
    """
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WebP"
    for first, found in FIRST_BYTES.items():
        if head.startswith(first):
            return found
    text = head.lstrip().lower()
    reason = f"{'of no known format' if head else 'empty'}. {RESTORE}"
    for first, (kind, remedy) in FOREIGN.items():
        if text.startswith(first.lower()) or head.startswith(first):
            reason = f"{kind}; {remedy}."
    raise DataError(f"{path}: cannot be read as an image, since it is {reason}", path=path)


def open_header(
    path: Path, file: BinaryIO, found: Format, max_pixels: int = MAX_PIXELS
) -> ImageFile:
    """What Pillow reads of a picture before it decodes its pixels.

    Raises:
        SizeError: it has more than `max_pixels`.
        DataError: it has no pixels, or is damaged so far.
    """
    if found == "NPY":
        raise DataError(f"{path}: it holds a NumPy array, which is no picture; {SAVE}.", path=path)
    head = file.read(33)
    file.seek(0)
    stated = size_in_head(found, head)  # Pillow's memory for a WebP is of this size
    if stated is not None:
        require_size(path, *stated, max_pixels)
    if found != "TIFF":
        require_file_size(path, file, max_pixels)
    if found == "PNG":
        require_checksums(path, file)
    try:
        picture = PICTURES[found](file)
    except SyntaxError as error:
        reason = " ".join(str(error).split())[:200]
        raise DataError(
            f"{path}: cannot be read as an image, since its header is damaged or of a kind that is "
            f"not read ({reason}). Save it as a PNG, or restore the file.",
            path=path,
        ) from error
    require_size(path, *picture.size, max_pixels)
    if found == "JPEG":
        require_plausible(path, file, picture)
    return picture


def size_in_head(found: Format, head: bytes) -> tuple[int, int] | None:
    """Width and height by the first 33 bytes of a PNG or an extended WebP; None for others."""
    if found == "PNG" and len(head) >= 24:
        return struct.unpack_from(">II", head, 16)
    if found == "WebP" and head[12:16] == b"VP8X":
        width, height = (int.from_bytes(head[start : start + 3], "little") for start in (24, 27))
        return width + 1, height + 1
    return None


def require_pixels(path: Path, width: int, height: int) -> None:
    """Raises DataError for an image of no pixels."""
    if width < 1 or height < 1:
        raise DataError(
            f"{path}: {width}×{height} pixels, where an image has at least one. {RESTORE}",
            path=path,
        )


def require_size(path: Path, width: int, height: int, max_pixels: int = MAX_PIXELS) -> None:
    """Raises DataError for an image of no pixels, SizeError above `max_pixels`."""
    require_pixels(path, width, height)
    if width * height > max_pixels:
        cause = f"{width}×{height} pixels, more than the limit of {in_millions(max_pixels)} million"
        cause += " per image"
        raise SizeError(path, cause, width * height, "split it, or scale it down")


def require_file_size(path: Path, file: BinaryIO, max_pixels: int) -> None:
    """Raises SizeError for a file larger than any picture of so many pixels."""
    size, largest = os.fstat(file.fileno()).st_size, BYTES_PER_PIXEL * max_pixels
    if size > largest:
        cause = f"larger than {largest // 10**6} MB, which no picture of up to "
        cause += f"{in_millions(max_pixels)} million pixels needs"
        raise SizeError(path, cause, -(-size // BYTES_PER_PIXEL), "save it again")


def in_millions(pixels: int) -> str:
    return f"{pixels / 10**6:g}"


def require_checksums(path: Path, file: BinaryIO) -> None:
    """Raises DataError if a checksum of pixels is wrong in a PNG; Pillow verifies all others."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, kind = struct.unpack(">I4s", head)
        if kind == b"IEND":
            break
        if kind != b"IDAT":
            file.seek(length + 4, os.SEEK_CUR)
            continue
        content, end = file.read(length), file.read(4)
        if len(end) == 4 and zlib.crc32(content, zlib.crc32(kind)) != int.from_bytes(end, "big"):
            raise DataError(
                f"{path}: cannot be read as an image, since the checksum of its pixels is wrong. "
                f"{RESTORE}",
                path=path,
            )
    file.seek(0)


def require_plausible(path: Path, file: BinaryIO, picture: ImageFile) -> None:
    """Raises DataError for a JPEG that is too small for its pixels or would take very long.

    Each block of 8×8 pixels takes at least one bit. Where data are missing, the decoder makes gray
    of them without an error.
    """
    place = file.tell()
    file.seek(0)
    content = file.read()
    file.seek(place)
    if len(content) * 8 * 64 < picture.width * picture.height:
        raise DataError(
            f"{path}: {len(content)} bytes cannot hold the {picture.width}×{picture.height} pixels "
            f"that its header states. {RESTORE}",
            path=path,
        )
    if (scans := content.count(b"\xff\xda")) > MAX_SCANS:
        raise DataError(f"{path}: a JPEG of {scans} scans, which is too many; {SAVE}.", path=path)


_lock = threading.Lock()
_readers: list[warnings.catch_warnings] = []


@contextmanager
def without_warnings() -> Iterator[None]:
    """Keep to itself what Pillow and NumPy say of damage that does not concern the pixels.

    Python's filters are those of all threads, so the first thread that reads sets one, and the last
    one takes it back.
    """
    with _lock:
        _readers.append(warnings.catch_warnings())
        if len(_readers) == 1:
            _readers[0].__enter__()
            warnings.filterwarnings("ignore", module=r"PIL\.")
            warnings.filterwarnings("ignore", "Reading `.npy`")  # of Python 2, read all the same
    try:
        yield
    finally:
        with _lock:
            if len(_readers) == 1:
                _readers[0].__exit__(None, None, None)
                _readers.clear()
            else:
                _readers.pop()
