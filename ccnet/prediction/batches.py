"""From an image of any kind to a batch of one, checked before a network sees it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8, UInt16
from PIL import Image
from torch import Tensor

from ccnet.images.arrays import in_native_order
from ccnet.images.bands import Bands
from ccnet.images.exact import require_bright
from ccnet.images.opening import MAX_PIXELS
from ccnet.images.reading import read_image, to_gray, to_rgb
from ccnet.images.stored import read_bands

Picture = Image.Image | Path | str
AnyImage = (
    UInt8[np.ndarray, "h w c"]
    | UInt16[np.ndarray, "h w c"]
    | UInt8[Tensor, "c h w"]
    | UInt16[Tensor, "c h w"]
    | Picture
)
ImageOfAnySize = (
    UInt8[np.ndarray, "_ _ c"]
    | UInt16[np.ndarray, "_ _ c"]
    | UInt8[Tensor, "c _ _"]
    | UInt16[Tensor, "c _ _"]
    | Picture
)
"""One of several images, whose sizes may differ."""


def read_for(
    path: Path | str, channels: int = 3, bands: Bands | None = None, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]:
    """The image in a file as a network takes it.

    Args:
        path: of the file.
        channels: of the network.
        bands: that the network takes; None: RGB, gray, or all channels of the file.
        max_pixels: height times width at most.

    Raises:
        DataError: the file cannot be read, has other bands, or is RGB of which 16 bits would become
            fewer than 32 gray values.
    """
    path = Path(path)
    if bands is not None:
        return read_bands(path, bands, max_pixels)
    image = read_image(path, channels, max_pixels)
    if channels == 3 and image.dtype == np.uint8:  # an array of 16 bits keeps them
        require_bright(path, image)
    return image


def as_stored(image: object, bands: Bands) -> UInt8[np.ndarray, "h w c"] | np.ndarray:
    """The image that a network of chosen bands gets of an array or a tensor as a file stores it.

    Args:
        image: all bands: an array (H, W) or (H, W, bands), or a tensor (bands, H, W).
        bands: that the network takes.

    Raises:
        TypeError: an object of another kind.
        ValueError: another number of bands or another type, or pixels that are nan.
    """
    if isinstance(image, Tensor):
        image = image.detach().cpu().movedim(0, -1).numpy()
    if not isinstance(image, np.ndarray):
        raise TypeError(
            f"the model takes {bands.of} bands of {bands.dtype}; give an array (H, W, {bands.of}), "
            f"a tensor or a path, got {type(image).__name__}"
        )
    image = image[:, :, None] if image.ndim == 2 else image
    require_pixels(image.shape)
    return bands.read("the array", in_native_order(image))


def as_batch(
    image: AnyImage, channels: int = 3, bands: Bands | None = None
) -> UInt8[Tensor, "1 c h w"] | UInt16[Tensor, "1 c h w"]:
    """A batch of one image, with the values of the image.

    Args:
        image: an array (H, W, C) or a tensor (C, H, W) with the values that the network takes, a
            PIL image, or the path of an image file.
        channels: C, the number of channels that the network takes.
        bands: of files, that the network takes.

    Raises:
        TypeError: an object of another kind.
        ValueError: another shape, number of channels or data type, or an empty image.
        DataError: the file cannot be read.
    """
    if isinstance(image, str | Path):
        image = read_for(image, channels, bands)
    elif isinstance(image, Image.Image):
        image = from_picture(image, channels)
    article = "an RGB" if channels == 3 else "an"
    if isinstance(image, np.ndarray):
        image = in_native_order(image)
        require_layout(image, f"{article} array", "HWC", channels)
        image = torch.from_numpy(np.require(image, requirements=("C", "W"))).movedim(-1, 0)
    if not isinstance(image, Tensor):
        raise TypeError(not_an_image(image, channels))
    require_layout(image, f"{article} tensor", "CHW", channels)
    return image.unsqueeze(0)


def from_picture(picture: Image.Image, channels: int) -> np.ndarray:
    if channels not in (1, 3):
        raise ValueError(
            f"the model takes {channels} channels; give an array, a tensor or the path of a file, "
            "no PIL image"
        )
    return to_rgb(picture) if channels == 3 else to_gray(picture)


def require_layout(images: np.ndarray | Tensor, what: str, layout: str, channels: int) -> None:
    """Raises ValueError unless the axes are those of `layout`, such as "CHW", and 8 or 16 bits."""
    shape = tuple(images.shape)
    has_axes = len(shape) == len(layout) and shape[layout.index("C")] == channels
    if not has_axes or str(images.dtype).removeprefix("torch.") not in ("uint8", "uint16"):
        axes = ", ".join(str(channels) if axis == "C" else axis for axis in layout)
        raise ValueError(
            f"expected {what} ({axes}) of uint8 or uint16, got {shape} of {images.dtype}"
        )
    require_pixels(shape)


def require_pixels(shape: Sequence[int]) -> None:
    if 0 in shape:
        raise ValueError(f"expected at least one pixel, got an empty image of shape {tuple(shape)}")


def not_an_image(given: object, channels: int) -> str:
    hints = {
        list: "; give one image at a time, or stack images of one size for `logits`",
        tuple: "; give one image at a time, or stack images of one size for `logits`",
        bytes: "; PIL.Image.open(io.BytesIO(...)) decodes the content of a file",
    }
    return (
        f"expected an image as an array (H, W, {channels}), a tensor ({channels}, H, W), a PIL "
        f"image or a path, got {type(given).__name__}{hints.get(type(given), '')}"
    )
