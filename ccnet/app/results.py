"""What was computed for an image, and the bounded store of such results."""

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float16, UInt8, UInt16

from ccnet.images.opening import SizeError
from ccnet.images.reading import read_image
from ccnet.prediction.predictor import LARGEST_WHOLE, Predictor

MAX_PIXELS = LARGEST_WHOLE
"""Pixels of an image that is predicted; what `ccnet predict` writes has other limits."""
MAX_SCORES = 2_000_000_000
"""Bytes of the scores of all classes."""
MAX_KEPT = 1_000_000_000
"""Bytes of the results that are kept."""
NUM_TOP = 5
"""Classes of which the probability at each pixel is kept."""
BLOCK = 1 << 20
"""Pixels whose probabilities are computed at once."""


@dataclass(frozen=True)
class Segmentation:
    """An image and what a model says about it."""

    image: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]
    """As the network sees it."""
    labels: UInt8[np.ndarray, "h w"]
    top_classes: UInt8[np.ndarray, "k h w"]
    """The classes of the largest probabilities, in their order."""
    top_probabilities: Float16[np.ndarray, "k h w"]
    protocol: str
    """How the image was shown to the network, in words."""
    seconds: float
    """That predicting took."""

    @property
    def num_bytes(self) -> int:
        arrays = (self.image, self.labels, self.top_classes, self.top_probabilities)
        return sum(array.nbytes for array in arrays)

    def shares(self, num_classes: int) -> list[float]:
        """The share of the pixels that each class has, 0 to 1."""
        counts = np.bincount(self.labels.ravel(), minlength=num_classes)
        return (counts / self.labels.size).tolist()


def segment(predictor: Predictor, path: Path, max_pixels: int = MAX_PIXELS) -> Segmentation:
    """Read an image file and predict it.

    Raises:
        DataError: it cannot be read, or has more pixels than the page predicts by this protocol.
        FloatingPointError: as for `Predictor.predict`.
    """
    limit = pixel_limit(predictor, max_pixels)
    try:
        image = read_image(path, predictor.model.in_channels, limit)
    except SizeError as error:
        raise SizeError(
            path,
            f"{error.cause}, which this page predicts with {len(predictor.classes)} classes and "
            f"the protocol: {predictor.protocol}",
            error.needed,
            "choose a protocol without larger scales, scale the image down, or use `ccnet predict`",
        ) from error
    start = time.perf_counter()
    (scores,) = predictor.score([image])
    labels = predictor.most_likely(scores)
    height, width = labels.shape
    number = min(NUM_TOP, len(predictor.classes))
    classes = np.empty((number, height, width), np.uint8)
    probabilities = np.empty((number, height, width), np.float16)
    rows = max(1, BLOCK // width)
    for top in range(0, height, rows):
        part = predictor.as_probabilities(scores[:, top : top + rows].float())
        found = part.topk(number, dim=0)
        classes[:, top : top + rows] = found.indices.to(torch.uint8).cpu().numpy()
        probabilities[:, top : top + rows] = found.values.half().cpu().numpy()
    protocol = str(predictor.protocol_for(height, width))
    seconds = time.perf_counter() - start
    return Segmentation(image, labels, classes, probabilities, protocol, seconds)


def pixel_limit(predictor: Predictor, max_pixels: int = MAX_PIXELS) -> int:
    """Pixels of an image whose largest view and whose scores are within the limits."""
    by_scores = MAX_SCORES // (4 * len(predictor.classes))
    return max(1, int(min(max_pixels, by_scores) / max(1.0, max(predictor.protocol.scales)) ** 2))


class Results:
    """Keeps the results that were used last, up to a number of bytes.

    Args:
        max_bytes: of all results; a larger one is not kept at all.
    """

    def __init__(self, max_bytes: int = MAX_KEPT) -> None:
        self.max_bytes = max_bytes
        self.kept: OrderedDict[Hashable, Segmentation] = OrderedDict()
        self.lock = threading.Lock()

    @property
    def num_bytes(self) -> int:
        return sum(result.num_bytes for result in self.kept.values())

    def find(self, key: Hashable) -> Segmentation | None:
        """The result of this key, if it is kept."""
        with self.lock:
            if key in self.kept:
                self.kept.move_to_end(key)
            return self.kept.get(key)

    def find_or_make(
        self, key: Hashable, make: Callable[[], Segmentation], computing: threading.Lock
    ) -> Segmentation:
        """The result of this key, made by one thread at a time if it is not kept.

        Args:
            key: of the result.
            make: makes it.
            computing: held meanwhile.
        """
        if (found := self.find(key)) is not None:
            return found
        with computing:
            if (found := self.find(key)) is not None:  # made while this thread waited
                return found
            result = make()
        with self.lock:
            self.kept[key] = result
            while self.kept and self.num_bytes > self.max_bytes:
                self.kept.popitem(last=False)
        return result
