"""What a data set of images and labels is, and how an image file is read."""

from pathlib import Path
from typing import Protocol

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageOps


class DataError(ValueError):
    """Files that cannot be used; the message names them and says what would work."""

    def __init__(self, message: str, *, path: Path | None = None):
        super().__init__(message)
        self.path = path


class SizeMismatchError(DataError):
    """An image and its label differ in size."""


class SegmentationDataset(Protocol):
    """Images with a class index for each pixel, read one pair at a time."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Names, in the order of the indices; at most 255."""
        ...

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """One RGB colour a class, 0–255."""
        ...

    @property
    def ignore_index(self) -> int:
        """The label of pixels that are neither learned nor scored; always 255."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(
        self, index: int, /
    ) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
        """An RGB image and its label, 0..len(classes)-1 or 255.

        Raises DataError for files that can't be used, IndexError past the end.
        """
        ...

    def name(self, index: int, /) -> str:
        """A short name for reports and file names, such as the image's relative path."""
        ...


def open_picture(path: Path) -> Image.Image:
    """Decodes an image file in its own mode, turned upright by its EXIF orientation.

    Raises DataError, naming the file, where it is missing, no image, truncated or corrupt.
    """
    try:
        with Image.open(path) as picture:
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


def read_image(path: Path | str) -> UInt8[np.ndarray, "h w 3"]:
    """An image file as RGB, 0–255, upright by its EXIF orientation.

    Grey is repeated over the channels, alpha is dropped, 16 bits are scaled to 8 (65535 → 255).
    Raises DataError, naming the file, where it cannot be read or holds floats or 32-bit integers.
    """
    path = Path(path)
    picture = open_picture(path)
    try:
        return to_rgb(picture)
    except ValueError as error:
        raise DataError(f"{path}: {error}", path=path) from None


def to_rgb(picture: Image.Image) -> UInt8[np.ndarray, "h w 3"]:
    """A decoded picture of any mode as RGB, 0–255, in its own orientation.

    Raises ValueError for floats and 32-bit integers.
    """
    if picture.mode.startswith("I;16"):
        grey = np.asarray(picture).astype(np.float32) / 257
        return np.repeat(np.rint(grey).astype(np.uint8)[:, :, None], 3, axis=2)
    if picture.mode in ("I", "F"):
        raise ValueError(
            f"an image of mode {picture.mode!r} has no known range; "
            "save it with 8 or 16 bits a channel."
        )
    return np.array(picture if picture.mode == "RGB" else picture.convert("RGB"))
