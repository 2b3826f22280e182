"""Small pictures of an evaluation's images, and the choice of images that are kept."""

import base64
import io
import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image

from ccnet.images.colors import as_rgb

LONGEST_SIDE = 512
"""Largest width or height of a picture, in pixels."""
JPEG_QUALITY = 82


@dataclass(frozen=True)
class Picture:
    """An image with its label and prediction, reduced to a small size and compressed."""

    width: int
    height: int
    image: bytes
    """RGB, as a JPEG."""
    label: bytes
    """Classes, one byte per pixel, each row XOR the one above, compressed by zlib."""
    prediction: bytes

    @property
    def num_bytes(self) -> int:
        """What it takes as text on a page."""
        return sum(4 * math.ceil(len(part) / 3) for part in self.parts())

    def parts(self) -> tuple[bytes, bytes, bytes]:
        return self.image, self.label, self.prediction

    def to_dict(self) -> dict[str, Any]:
        """The content as the page's program reads it."""
        image, label, prediction = (base64.b64encode(part).decode() for part in self.parts())
        return {
            "width": self.width,
            "height": self.height,
            "image": f"data:image/jpeg;base64,{image}",
            "label": label,
            "prediction": prediction,
        }


def new_picture(
    image: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"],
    label: UInt8[np.ndarray, "h w"],
    prediction: UInt8[np.ndarray, "h w"],
    longest_side: int = LONGEST_SIDE,
) -> Picture:
    """Reduce an image to at most `longest_side`, its labels to the pixels in the middle."""
    height, width = label.shape
    factor = min(1.0, longest_side / max(height, width))
    size = max(1, round(width * factor)), max(1, round(height * factor))
    picture = Image.fromarray(as_rgb(image)).resize(size, Image.Resampling.BILINEAR)
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=JPEG_QUALITY)
    rows, columns = (
        ((np.arange(length) + 0.5) * full / length).astype(np.intp)
        for length, full in zip(size[::-1], (height, width), strict=True)
    )
    at = np.ix_(rows, columns)
    return Picture(*size, file.getvalue(), packed(label[at]), packed(prediction[at]))


def packed(classes: UInt8[np.ndarray, "h w"]) -> bytes:
    """Classes in the form of `Picture.label`."""
    rows = classes.copy()
    rows[1:] ^= classes[:-1]
    return zlib.compress(rows.tobytes(), 9)


class Gallery:
    """Keeps the pictures of the worst, the best and some random images; of all, if they are few.

    Which images are kept depends only on their numbers and scores, not on their order or on the
    process that saw them. An image without a score counts as one of the best.

    Args:
        limit: largest number of pictures.
        seed: of the random choice.
    """

    def __init__(self, limit: int, seed: int = 0) -> None:
        self.limit = limit
        self.seed = seed
        self.num_seen = 0
        self.keys: dict[int, float] = {}
        self.pictures: dict[int, Picture] = {}

    def add(self, index: int, iou: float | None, make: Callable[[], Picture]) -> None:
        """Keep an image if it is one of those chosen so far; only then is its picture made."""
        self.num_seen += 1
        self.keys[index] = math.inf if iou is None else iou
        self.keep_chosen()
        if index in self.keys:
            self.pictures[index] = make()

    def merge(self, other: Self) -> None:
        """Take the images of another process."""
        self.num_seen += other.num_seen
        self.keys |= other.keys
        self.pictures |= other.pictures
        self.keep_chosen()

    def keep_chosen(self) -> None:
        if self.num_seen <= self.limit:
            return
        worst, best = self.limit // 2, self.limit // 4
        random = self.limit - worst - best
        chosen = {*self.worst()[:worst], *self.best()[:best], *self.at_random()[:random]}
        self.keys = {index: key for index, key in self.keys.items() if index in chosen}
        self.pictures = {i: picture for i, picture in self.pictures.items() if i in chosen}

    def ranked(self) -> list[int]:
        """The images of which pictures are kept, the most important first: worst, random, best."""
        turns = zip(self.worst(), self.at_random(), self.best(), strict=True)
        return list(dict.fromkeys(index for turn in turns for index in turn))

    def worst(self) -> list[int]:
        return sorted(self.keys, key=lambda index: (self.keys[index], index))

    def best(self) -> list[int]:
        return sorted(self.keys, key=lambda index: (-self.keys[index], index))

    def at_random(self) -> list[int]:
        """The images in an order that depends on nothing but their numbers and the seed."""
        return sorted(self.keys, key=lambda i: (np.random.default_rng((self.seed, i)).random(), i))
