"""Image files: which files are images, and how one is read into an array."""

import os
from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16
from PIL import Image

from ccnet.images.arrays import read_npy, read_npy_header, require_channels
from ccnet.images.bands import require_transparency
from ccnet.images.opening import (
    MAX_PIXELS,
    Format,
    listing_error,
    open_header,
    opened_image,
    require_size,
)
from ccnet.images.tiff import (
    HEIGHT,
    ORIENTATION,
    WIDTH,
    Tags,
    has_plain_16_bit_planes,
    known_colors,
    read_tiff,
    require_decodable,
)
from ccnet.runtime.files import DataError, cause_of

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".npy")
ARCHIVE_FOLDER = "__MACOSX"
"""Where macOS puts what it alone needs of the files of an archive, under their names."""
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
    with opened_image(path, gif=True) as (file, found):
        if found == "NPY":
            return None
        if found == "TIFF":
            return _size_and_orientation(Tags(path, file))[0]
        picture = open_header(path, file, found)
        return picture.height, picture.width


def orientation_of(path: Path) -> int:
    """The EXIF orientation of an image, 1 to 8; 1 for arrays. Raises as `open_picture`."""
    with opened_image(path, gif=True) as (file, found):
        if found == "NPY":
            return 1
        if found == "TIFF":  # of any number of bands
            orientation = _size_and_orientation(Tags(path, file))[1]
        else:
            orientation = _orientation(open_header(path, file, found))
        return orientation if isinstance(orientation, int) and orientation in TURNS else 1


def turned(label: UInt8[np.ndarray, "h w"], orientation: int) -> UInt8[np.ndarray, "H W"]:
    """A label as an image of this EXIF orientation is turned."""
    turn = TURNS.get(orientation)
    return label if turn is None else np.array(Image.fromarray(label).transpose(turn))


def turned_array(pixels: Shaped[np.ndarray, "h w n"], orientation: int) -> np.ndarray:
    """Pixels of any type as an image of this EXIF orientation is turned."""
    pixels = pixels.transpose(1, 0, 2) if orientation in (5, 6, 7, 8) else pixels
    rows = slice(None, None, -1 if orientation in (3, 4, 7, 8) else None)
    columns = slice(None, None, -1 if orientation in (2, 3, 6, 7) else None)
    return np.ascontiguousarray(pixels[rows, columns])


def viewed_size(path: Path) -> tuple[int, int]:
    """Height and width of what `read_image` gives, from the header alone where that says it.

    Raises as `read_image`.
    """
    with opened_image(path) as (file, found):
        if found == "NPY":
            height, width, _ = read_npy_header(path, file).shape
            return height, width
        if found == "TIFF":
            (height, width), orientation = _size_and_orientation(Tags(path, file))
        else:
            picture = open_header(path, file, found)
            height, width, orientation = picture.height, picture.width, _orientation(picture)
        return (width, height) if orientation in (5, 6, 7, 8) else (height, width)


def _size_and_orientation(tags: Tags) -> tuple[tuple[int, int], int]:
    """Height and width of a TIFF as it is stored, and its orientation."""
    size = tags.number(HEIGHT), tags.number(WIDTH)
    require_size(tags.path, size[1], size[0], MAX_PIXELS)
    return size, tags.number(ORIENTATION, 1)


def decode_picture(
    path: Path,
    file: BinaryIO,
    found: Format,
    max_pixels: int = MAX_PIXELS,
    *,
    upright: bool = True,
) -> Image.Image:
    """The picture in a file that `opened_image` opened, upright. Raises as `open_picture`."""
    if found == "TIFF":
        require_decodable(path, file, max_pixels)
    picture = open_header(path, file, found, max_pixels)
    if has_plain_16_bit_planes(picture):
        whole = _from_planes(path, max_pixels)
    else:
        picture.load()
        whole = picture
    return _upright(whole, _orientation(picture)) if upright else whole


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
    is read. `ccnet.images.stored.read_bands` reads chosen bands of any type.

    Args:
        path: a picture, which is turned upright by its EXIF orientation, or a .npy file.
        channels: 3 gives RGB of 8 bits: gray is repeated, transparency is left out, and 16 bits are
            scaled (65535 becomes 255). A fourth band of a TIFF is transparency if the file calls it
            so and most of its pixels are fully opaque or fully transparent. 1 gives grayscale, in
            which 16 bits are kept. Other numbers are for .npy files (H, W, channels) and TIFFs, of
            8 or 16 bits.
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
        num_colors = 0
        if found == "TIFF":
            num_colors = known_colors(require_decodable(path, file, max_pixels))
            file.seek(0)
        picture = decode_picture(path, file, found, max_pixels)
        if num_colors and picture.mode in ("LA", "RGBA"):
            require_transparency(path, np.asarray(picture.getchannel("A")), num_colors + 1)
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


def image_files(folder: Path) -> Iterator[Path]:
    """The image files in a folder and in all folders below it, sorted by path; as `search_files`.

    Raises:
        DataError: there is no such folder, or it cannot be opened.
    """
    return iter(search_files(folder).files)


@dataclass
class FoundFiles:
    """What a search found, sorted by path, and what it passed over."""

    files: list[Path]
    """The wanted files, and the folders that cannot be opened."""
    hidden: list[Path]
    """Hidden folders, wanted files with a hidden name, and the folders of macOS's archives."""
    repeated: list[Path]
    """Links to folders that are searched already, or that contain the one that is searched."""
    others: Counter[str]
    """Number of the other files by their suffix, in lower case."""


def search_files(folder: Path, suffixes: Collection[str] = IMAGE_SUFFIXES) -> FoundFiles:
    """Search a folder and all folders below it for files with one of some suffixes.

    Hidden files and folders (`.ipynb_checkpoints`, `.git`, `._a.jpg`) and `__MACOSX` are left out.
    Links to folders are followed, and each folder is searched once, by its own name rather than by
    that of a link. What looks like images but cannot be read is found too: links without a target,
    FIFOs, and the folders that cannot be opened. Reading these gives the cause.

    Args:
        folder: to search; its own name may be a hidden one.
        suffixes: in lower case, with their dot.

    Raises:
        DataError: there is no such folder, or it cannot be opened.
    """
    found = FoundFiles([], [], [], Counter())
    above = {_identity(path) for path in (folder, *Path(os.path.realpath(folder)).parents)}
    searched, links = above - {_identity(folder)}, [folder]
    while links:
        start = links.pop(0)
        if (identity := _identity(start)) in searched:
            found.repeated.append(start)
            continue
        searched.add(identity)
        links += sorted(_search_tree(start, suffixes, found, searched))
    if folder in found.files:
        closed = listing_error(folder)
        cause = "it cannot be searched" if closed is None else cause_of(closed)
        raise DataError(f"{folder}: {cause}.", path=folder)
    for paths in (found.files, found.hidden, found.repeated):
        paths.sort()
    return found


def _search_tree(
    start: Path,
    suffixes: Collection[str],
    found: FoundFiles,
    searched: set[tuple[int, int] | Path],
) -> list[Path]:
    """Search a folder without following links; returns those to folders."""
    links: list[Path] = []

    def note_closed(error: OSError) -> None:
        found.files.append(Path(error.filename))

    for parent, folders, names in os.walk(start, onerror=note_closed):
        for name in list(folders):
            path = Path(parent, name)
            if name.startswith(".") or name == ARCHIVE_FOLDER:
                found.hidden.append(path)
            elif path.is_symlink():
                links.append(path)
            elif (identity := _identity(path)) in searched:  # a link led here before
                found.repeated.append(path)
            else:
                searched.add(identity)
                continue
            folders.remove(name)
        for name in names:
            suffix = os.path.splitext(name)[1].lower()  # noqa: PTH122 - fast
            if name.startswith("."):
                if Path(name.lstrip("._")).suffix.lower() in suffixes:
                    found.hidden.append(Path(parent, name))
            elif suffix in suffixes:
                found.files.append(Path(parent, name))
            else:
                found.others[suffix] += 1
    return links


def _identity(folder: Path) -> tuple[int, int] | Path:
    """What two names of one folder have in common."""
    try:
        status = folder.stat()
    except OSError:
        return folder
    return status.st_dev, status.st_ino
