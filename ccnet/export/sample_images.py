"""Images that a file is compared on and calibrated with."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import UInt8, UInt16
from PIL import Image
from torch import Tensor

from ccnet.export.deployed import TRACED
from ccnet.images.bands import Bands
from ccnet.images.reading import image_files
from ccnet.prediction.batches import as_batch, read_for

SIZES = ((1, 161, 97), (3, 96, 129))
"""Images, height and width of noise; neither batch nor sides are those of the traced example."""
MOST_CALIBRATING, MOST_COMPARED = 64, 16


def noise(
    channels: int = 3, size: tuple[int, int] | None = None
) -> list[list[UInt8[Tensor, "_ c _ _"]]]:
    """Batches of random images by size, the same each time: of `size` or else of any two sizes."""
    generator = torch.Generator().manual_seed(0)
    return [
        [torch.randint(0, 256, (b, channels, h, w), dtype=torch.uint8, generator=generator)]
        for b, h, w in (SIZES if size is None else [(count, *size) for count, *_ in SIZES])
    ]


def photographs(
    images: Sequence[np.ndarray], size: tuple[int, int] | None = None
) -> list[list[Tensor]]:
    """Batches of one image by size: all images at `size`, else at two sizes.

    These are the size of the first image and half of it, but at least 32 pixels per side; a size
    that is that of the traced example gets one more pixel per side.
    """
    height, width, channels = images[0].shape
    if size is not None:
        sizes = [size]
    else:
        sizes = [(max(height // part, 32), max(width // part, 32)) for part in (1, 2)]
        sizes = [(h + 1, w + 1) if (h, w) == TRACED[1:] else (h, w) for h, w in sizes]
    return [[as_batch(resize(image, h, w), channels) for image in images] for h, w in sizes]


def resize(
    image: UInt8[np.ndarray, "_ _ c"] | UInt16[np.ndarray, "_ _ c"], height: int, width: int
) -> UInt8[np.ndarray, "{height} {width} c"] | UInt16[np.ndarray, "{height} {width} c"]:
    channels = [Image.fromarray(in_pillows_type(band)) for band in np.moveaxis(image, -1, 0)]
    resized = np.stack([np.asarray(x.resize((width, height))) for x in channels], axis=-1)
    return np.rint(resized.clip(0, np.iinfo(image.dtype).max)).astype(image.dtype)


def in_pillows_type(band: np.ndarray) -> np.ndarray:
    """A band of 16 bits in float32, since Pillow resizes it only so."""
    return band if band.dtype == np.uint8 else band.astype(np.float32)


def read_images(
    folder: Path, channels: int, bands: Bands | None = None
) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images to calibrate with, from every second file of a folder, and others to compare.

    Each is (H, W, channels) of 8 bits, or of 16 where `bands` are scaled.
    """
    files = list(image_files(folder))
    if len(files) < 2:
        raise ValueError(f"{folder} has {len(files)} images; at least two are needed")

    def read(some: list[Path], most: int) -> list[np.ndarray]:
        step = -(-len(some) // most)
        images = (read_for(file, channels, bands) for file in some[::step])
        return [in_8_bits(image) if bands is None else image for image in images]

    return read(files[::2], MOST_CALIBRATING), read(files[1::2], MOST_COMPARED)


def in_8_bits(
    image: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"],
) -> UInt8[np.ndarray, "h w c"]:
    return image if image.dtype == np.uint8 else np.rint(image / 257).astype(np.uint8)
