"""How an image file is read: as a picture or an array, and which files are images."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image, ImageOps

from ccnet.images.tiff import has_plain_16_bit_planes, read_tiff

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff", ".npy")


class DataError(ValueError):
    """Files that cannot be used; the message names them and says what would work."""

    def __init__(self, message: str, *, path: Path | None = None):
        super().__init__(message)
        self.path = path


def open_picture(path: Path) -> Image.Image:
    """Decodes an image file in its own mode, turned upright by its EXIF orientation.

    Raises DataError, naming the file, where it is missing, no image, truncated or corrupt.
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
    except Exception as error:  # Pillow's decoders raise far more than OSError on corrupt files
        raise DataError(
            f"{path}: cannot be read as an image ({type(error).__name__}: {error}). "
            "Restore the file, or remove it together with its partner.",
            path=path,
        ) from error


def _from_planes(path: Path, picture: Image.Image) -> Image.Image:
    """The colours of a TIFF of 16 bits in planes, 8 bits of each as of Pillow's other TIFFs."""
    colors = np.rint(read_tiff(path)[:, :, :3] / 257).astype(np.uint8)
    decoded = Image.fromarray(colors)
    decoded.getexif().update(picture.getexif())
    ImageOps.exif_transpose(decoded, in_place=True)
    return decoded


def read_image(
    path: Path | str, channels: int = 3
) -> UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]:
    """An image file as an array of so many channels: three are RGB, one is grey.

    A picture is turned upright by its EXIF orientation. As RGB it has 8 bits: grey is repeated,
    alpha is dropped, 16 bits are scaled (65535 → 255). As grey it keeps 16 bits. Any number of
    channels, 8 or 16 bits, comes from a .npy file (H, W, channels) or a TIFF. Raises DataError,
    naming the file, where it cannot be read, holds other numbers or has other channels.
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
    except Exception as error:  # a broken file can raise anything
        raise DataError(f"{path}: {error}", path=path) from error
    if image.shape[2] != channels:
        raise DataError(f"{path}: {image.shape[2]} channels where {channels} are wanted", path=path)
    return image


def _read_array(path: Path, channels: int) -> np.ndarray | None:
    """The channels of a .npy file, or of a TIFF where they aren't a picture's; else None."""
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
        return to_grey(picture)
    return np.array(picture).reshape(picture.height, picture.width, -1)


def to_grey(
    picture: Image.Image,
) -> UInt8[np.ndarray, "h w 1"] | UInt16[np.ndarray, "h w 1"]:
    """A decoded picture as one channel: 16 bits where it has them, else 8.

    Raises ValueError for floats and 32-bit integers.
    """
    if picture.mode.startswith("I;16"):
        return np.array(picture).astype(np.uint16)[:, :, None]
    _refuse_unknown_range(picture)
    return np.array(picture.convert("L"))[:, :, None]


def in_native_order(array: np.ndarray) -> np.ndarray:
    """The same numbers with this machine's byte order, the only one that torch takes."""
    return array.astype(array.dtype.newbyteorder("="), copy=False)


def to_rgb(picture: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """A decoded picture of any mode as RGB, 0–255, in its own orientation.

    Raises ValueError for floats and 32-bit integers.
    """
    if picture.mode.startswith("I;16"):
        grey = np.asarray(picture).astype(np.float32) / 257
        return np.repeat(np.rint(grey).astype(np.uint8)[:, :, None], 3, axis=2)
    _refuse_unknown_range(picture)
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))


def _refuse_unknown_range(picture: Image.Image) -> None:
    if picture.mode in ("I", "F"):
        raise ValueError(
            f"an image of mode {picture.mode!r} has no known range; "
            "save it with 8 or 16 bits a channel."
        )


def image_files(folder: Path) -> Iterator[Path]:
    """The image files in a folder and all folders below it, sorted by path.

    A file is an image by its suffix (`IMAGE_SUFFIXES`). Hidden files are not taken.
    """
    return (path for path in sorted(folder.rglob("*")) if is_image(path))


def is_image(path: Path) -> bool:
    """Whether a file has an image's suffix and is not hidden."""
    is_hidden = path.name.startswith(".")
    return not is_hidden and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()
