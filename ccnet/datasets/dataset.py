"""What a data set of images and labels is."""

from typing import Protocol

import numpy as np
from jaxtyping import UInt8

from ccnet.images.reading import DataError


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
