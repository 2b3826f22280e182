"""Pairs of image and label from anywhere, such as a PyTorch data set, as a data set to train on."""

from collections.abc import Sequence
from typing import Any, Protocol, final

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ccnet.classes import IGNORE_INDEX
from ccnet.datasets.dataset import SizeMismatchError
from ccnet.datasets.description import class_colors, class_names, default_palette
from ccnet.images.reading import to_rgb
from ccnet.runtime.files import DataError, shown


class Samples(Protocol):
    """Any sequence of (image, label), such as a map-style `torch.utils.data.Dataset`."""

    def __getitem__(self, index: int, /) -> Any: ...


@final
class SampleDataset:
    """A data set of (image, label) samples that another program reads.

    An image is a PIL image, an array (H, W, 3) or (H, W) of uint8, or a tensor (3, H, W) or
    (1, H, W) of uint8 or of floats from 0 to 1. A label is a PIL image of numbers, or an array or a
    tensor (H, W) or (1, H, W) of whole numbers: class indices, or `ignore`. Each sample is checked
    when it is read.

    Args:
        samples: gives the sample of an index; it needs a length.
        classes: Class names in the order of their indices, 2 to 255.
        palette: A color for each class, `[r, g, b]` or `"#rrggbb"`. None: distinct ones.
        ignore: The label value of pixels that do not count. It becomes 255.

    Raises:
        ValueError: the classes or colors are wrong, or the samples have no length.
    """

    ignore_index = IGNORE_INDEX

    def __init__(
        self,
        samples: Samples,
        classes: Sequence[str],
        palette: Sequence[object] | None = None,
        ignore: int = IGNORE_INDEX,
    ):
        if not hasattr(samples, "__len__"):
            raise ValueError(f"{type(samples).__name__} has no length; give a map-style data set")
        self.samples = samples
        self.classes = class_names(classes)
        number = len(self.classes)
        self.palette = (
            default_palette(number) if palette is None else class_colors(palette, self.classes)
        )
        self.ignore = ignore

    def __len__(self) -> int:
        return len(self.samples)  # pyright: ignore[reportArgumentType] - asked for at the start

    def __getitem__(
        self, index: int
    ) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
        """Raises IndexError past the end, and DataError, which names the index."""
        if not 0 <= index < len(self):
            raise IndexError(index)
        sample = self.samples[index]
        if not isinstance(sample, tuple | list) or len(sample) != 2:
            raise DataError(
                f"sample {index}: must be (image, label), got a {type(sample).__name__}."
            )
        try:
            image = image_array(sample[0])
            label = self._label_array(sample[1])
        except ValueError as error:
            raise DataError(f"sample {index}: {error}.") from None
        if image.shape[:2] != label.shape:
            sizes = [f"{array.shape[1]}×{array.shape[0]}" for array in (image, label)]
            raise SizeMismatchError(
                f"sample {index}: the image is {sizes[0]}, its label {sizes[1]}."
            )
        return image, label

    def name(self, index: int) -> str:
        return f"sample {index}"

    def _label_array(self, label: object) -> UInt8[np.ndarray, "h w"]:
        array = plain_array(label)
        array = array[0] if array.ndim == 3 and len(array) == 1 else array
        if array.ndim != 2 or not np.issubdtype(array.dtype, np.integer):
            raise ValueError(
                f"the label must be whole numbers (H, W), got {described(array)}; give class "
                "indices"
            )
        known = (array >= 0) & (array < len(self.classes)) & (array != self.ignore)
        if not (known | (array == self.ignore)).all():
            wrong = array[~known & (array != self.ignore)]
            raise ValueError(
                f"the label has the value {int(wrong.flat[0])}, where classes are 0 to "
                f"{len(self.classes) - 1} and {self.ignore} is ignored"
            )
        return np.where(known, array, IGNORE_INDEX).astype(np.uint8)


def image_array(image: object) -> UInt8[np.ndarray, "h w 3"]:
    """An image as an array (H, W, 3) of uint8.

    Raises:
        ValueError: it has another shape, another kind of numbers, or numbers out of range.
    """
    if isinstance(image, Image.Image):
        return to_rgb(image)
    array = plain_array(image)
    if is_tensor(image) and array.ndim == 3:
        array = np.moveaxis(array, 0, 2)
    array = array[:, :, None] if array.ndim == 2 else array
    if array.ndim != 3 or array.shape[2] not in (1, 3):
        order = "(3, H, W)" if is_tensor(image) else "(H, W, 3)"
        raise ValueError(f"the image must be {order}, got {described(plain_array(image))}")
    if np.issubdtype(array.dtype, np.floating) and is_tensor(image):
        if not ((array >= 0) & (array <= 1)).all():
            raise ValueError(
                f"the image has numbers from {array.min():.4g} to {array.max():.4g}; give floats "
                "from 0 to 1, before any normalization, or uint8"
            )
        array = np.rint(array * 255).astype(np.uint8)
    if array.dtype != np.uint8:
        raise ValueError(f"the image must be uint8, 0 to 255, got {described(array)}")
    return np.ascontiguousarray(np.broadcast_to(array, (*array.shape[:2], 3)))


def plain_array(value: object) -> np.ndarray:
    """A PIL image, an array or a tensor as an array. Raises ValueError for anything else."""
    if isinstance(value, Image.Image):
        if value.mode not in ("1", "L", "P", "I", "I;16"):
            raise ValueError(f"a label of mode {value.mode!r} has no numbers; convert it to 'L'")
        array = np.asarray(value)
        return array.astype(np.uint8) if array.dtype == bool else array
    if isinstance(value, np.ndarray):
        return value
    if is_tensor(value):
        return value.detach().cpu().numpy()  # pyright: ignore[reportAttributeAccessIssue]
    raise ValueError(f"must be a PIL image, an array or a tensor, got {shown(value)}")


def is_tensor(value: object) -> bool:
    """Whether it is a PyTorch tensor; torch itself is not imported for that."""
    return hasattr(value, "detach") and hasattr(value, "numpy")


def described(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {array.shape}"
