"""The protocol that every data set follows."""

from typing import Protocol

import numpy as np
from jaxtyping import UInt8, UInt16

from ccnet.runtime.files import DataError


class SizeMismatchError(DataError):
    """An image and its label have different sizes."""


class SegmentationDataset(Protocol):
    """Images with a class index for each pixel, read one pair at a time."""

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of their indices, at most 255."""
        ...

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...]:
        """One RGB color per class, each channel 0 to 255."""
        ...

    @property
    def ignore_index(self) -> int:
        """The label of pixels that are neither learned nor scored, always 255."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(
        self, index: int, /
    ) -> tuple[UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"], UInt8[np.ndarray, "h w"]]:
        """An image and its label, with values 0 to len(classes) - 1, or 255.

        The image is RGB of 8 bits, or the bands that `ccnet.images.bands.Bands` makes.

        Raises:
            DataError: The files cannot be used.
            IndexError: The index is past the end.
        """
        ...

    def name(self, index: int, /) -> str:
        """A short name for reports and file names, such as the relative path of the image."""
        ...
