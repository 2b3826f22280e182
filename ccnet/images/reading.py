"""Image files: which files are images, and how one is read into an array."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageOps

from ccnet.images.tiff import has_plain_16_bit_planes, read_tiff
from ccnet.runtime.files import DataError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".npy")


def open_picture(path: Path) -> Image.Image:
    """Decode an image file in its own mode and turn it upright by its EXIF orientation.

    Raises:
        DataError: the file is missing, truncated, corrupt or not an image.
    """
    try:
        with Image.open(path) as picture:
            if has_plain_16_bit_planes(picture):
                return _from_planes(path, picture)
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
            return picture
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", path=path) from None
    except IsADirectoryError:
        raise DataError(f"{path} is a folder, not an image file.", path=path) from None
    except Exception as error:  # Pillow's decoders raise far more than OSError on corrupt files
        raise DataError(
            f"{path}: cannot be read as an image ({type(error).__name__}: {error}). "
            "Restore the file, or remove it; in a data set, together with its label or image.",
            path=path,
        ) from error


def _from_planes(path: Path, picture: Image.Image) -> Image.Image:
    """The colors of a TIFF that stores 16-bit channels in separate planes, scaled to 8 bits.

    Pillow scales the other 16-bit TIFFs in the same way.
    """
    colors = np.rint(read_tiff(path)[:, :, :3] / 257).astype(np.uint8)
    decoded = Image.fromarray(colors)
    decoded.getexif().update(picture.getexif())
    ImageOps.exif_transpose(decoded, in_place=True)
    return decoded


def read_image(
    path: Path | str, channels: int = 3
) -> UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]:
    """Read an image file into an array (H, W, channels).

    Args:
        path: a picture, which is turned upright by its EXIF orientation, or a .npy file.
        channels: 3 gives RGB of 8 bits: gray is repeated, alpha is dropped, and 16 bits are scaled
            (65535 becomes 255). 1 gives grayscale, in which 16 bits are kept. Other numbers are for
            .npy files (H, W, channels) and TIFFs, of 8 or 16 bits.

    Raises:
        DataError: the file cannot be read, or has another data type or number of channels.
    """
    path = Path(path)
    try:
        image = _read_array(path, channels)
        if image is None:
            image = _from_picture(open_picture(path), channels)
    except DataError:
        raise
    except FileNotFoundError:
        raise DataError(f"{path}: no such file.", path=path) from None
    except Exception as error:  # a broken file can raise any exception
        raise DataError(f"{path}: {error}", path=path) from error
    if image.shape[2] != channels:
        raise DataError(f"{path}: {image.shape[2]} channels where {channels} are wanted", path=path)
    return image


def _read_array(path: Path, channels: int) -> np.ndarray | None:
    """The array in a .npy file, or in a TIFF of neither one nor three channels; else None."""
    if path.suffix.lower() == ".npy":
        image = in_native_order(np.load(path, allow_pickle=False))
        image = image[:, :, None] if image.ndim == 2 else image
        if image.ndim != 3 or image.dtype not in (np.uint8, np.uint16):
            raise ValueError(
                f"an array {image.shape} of {image.dtype}; save (H, W, channels) of uint8 or uint16"
            )
        return image
    if path.suffix.lower() in (".tif", ".tiff") and channels not in (1, 3):
        return read_tiff(path)
    return None


def _from_picture(picture: Image.Image, channels: int) -> np.ndarray:
    if channels == 3:
        return to_rgb(picture)
    if channels == 1:
        return to_gray(picture)
    return np.array(picture).reshape(picture.height, picture.width, -1)


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


def in_native_order(array: np.ndarray) -> np.ndarray:
    """The same values in the byte order of this machine, the only one that PyTorch accepts."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def to_rgb(picture: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """A decoded picture of any mode as RGB, 0 to 255. Its EXIF orientation is not applied.

    Raises:
        ValueError: the pixels are floats or 32-bit integers.
    """
    if picture.mode.startswith("I;16"):
        gray = np.asarray(picture).astype(np.float32) / 257
        return np.repeat(np.rint(gray).astype(np.uint8)[:, :, None], 3, axis=2)
    _require_known_range(picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _require_known_range(picture: Image.Image) -> None:
    if picture.mode in ("I", "F"):
        raise ValueError(
            f"an image of mode {picture.mode!r} has no known range; "
            "save it with 8 or 16 bits per channel."
        )


def image_files(folder: Path) -> Iterator[Path]:
    """The image files in a folder and in all folders below it, sorted by path.

    The suffix decides what is an image (`IMAGE_SUFFIXES`). Hidden files are left out.
    """
    return (path for path in sorted(folder.rglob("*")) if is_image(path))


def is_image(path: Path) -> bool:
    """Whether a path is a file with the suffix of an image that is not hidden."""
    is_hidden = path.name.startswith(".")
    return not is_hidden and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
