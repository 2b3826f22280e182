"""What is seen of one pair: its size, its classes, and signs that image and label do not fit."""

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16

from ccnet.classes import IGNORE_INDEX
from ccnet.datasets.dataset import SegmentationDataset
from ccnet.datasets.pairs import PairedDataset
from ccnet.datasets.unmapped import LabelValueError, UnmappedValue
from ccnet.images.exact import stored_bits
from ccnet.images.reading import orientation_of, read_image, turned
from ccnet.runtime.files import DataError

EDGE_SIDE = 512
"""Edges are compared on at most so many pixels of the longer side."""
FEWEST_BORDERS = 64
"""Border pixels of a label from which its agreement with the image's edges is judged."""
DIM = 128
"""Only an image whose largest value of 255 is below this may use a small part of 16 bits."""


@dataclass(frozen=True)
class Observation:
    """A pair that can be used."""

    size: tuple[int, int]
    """Height and width."""
    counts: np.ndarray
    """Pixels of each class, and of what is ignored, in the last place."""
    edges: float | None = None
    """How strong the image's edges are at the label's borders, relative to all of the image: about
    1 for borders anywhere; None where there are too few to judge or nothing was compared."""
    is_turn_open: bool = False
    """The image has an EXIF orientation that the label's file has not, and the sizes agree in
    either case, so it is not known on which of the two the label was drawn."""
    edges_turned: float | None = None
    """As `edges`, if the label were drawn on the image as stored; for an open turn."""
    highest: int | None = None
    """Largest value of an image of 16 bits per channel that uses less than half of them."""

    @property
    def labeled(self) -> int:
        """Labeled pixels."""
        return int(self.counts[:-1].sum())

    @property
    def ignored(self) -> int:
        """Ignored pixels."""
        return int(self.counts[-1])


def inspect(
    dataset: SegmentationDataset, index: int, *, compare_edges: bool = False
) -> Observation | DataError:
    """Read one pair: what is seen of it, or why it cannot be used.

    Its label is compared with the image's edges if `compare_edges` asks for it or if the EXIF
    orientation leaves open how the label lies.
    """
    try:
        image, label = dataset[index]
        counts = np.bincount(label.ravel(), minlength=IGNORE_INDEX + 1)
        outside = counts[len(dataset.classes) : IGNORE_INDEX]
        if outside.any():
            return _outside(dataset, index, label, counts)
        kept = np.append(counts[: len(dataset.classes)], counts[IGNORE_INDEX])
        is_paired = isinstance(dataset, PairedDataset)
        turn = _open_turn(dataset, index, label.shape) if is_paired else 1
        edges = edge_agreement(image, label) if compare_edges or turn != 1 else None
        if not is_paired:
            return Observation(label.shape, kept, edges)
        return Observation(
            size=label.shape,
            counts=kept,
            edges=edges,
            is_turn_open=turn != 1,
            edges_turned=edge_agreement(image, turned(label, turn)) if turn != 1 else None,
            highest=_highest(dataset, index, image),
        )
    except DataError as error:
        return error
    except (OSError, ValueError) as error:
        return DataError(f"{dataset.name(index)}: {type(error).__name__}: {error}")


def _outside(
    dataset: SegmentationDataset, index: int, label: UInt8[np.ndarray, "h w"], counts: np.ndarray
) -> LabelValueError:
    """The error of a data set that gives labels beyond its classes."""
    beyond = np.flatnonzero(counts[len(dataset.classes) : IGNORE_INDEX]) + len(dataset.classes)
    values = []
    for value in beyond.tolist():
        y, x = divmod(int(np.argmax(label == value)), label.shape[1])
        values.append(UnmappedValue(value, x, y, int(counts[value])))
    message = f"{dataset.name(index)}: {'; '.join(map(str, values))}: no class has it."
    return LabelValueError(message, values=tuple(values))


def _open_turn(dataset: PairedDataset, index: int, size: tuple[int, int]) -> int:
    """The EXIF orientation of an image if the size of the label leaves the turn open, else 1."""
    if dataset.is_orientation_given:
        return 1
    image_path, label_path = dataset.files.pairs[index]
    turn = orientation_of(image_path)
    is_settled = turn in (5, 6, 7, 8) and size[0] != size[1]
    return 1 if turn == 1 or is_settled or orientation_of(label_path) != 1 else turn


def _highest(dataset: PairedDataset, index: int, image: np.ndarray) -> int | None:
    """As `highest_of_16_bits`; None where bands and their range have been chosen."""
    if dataset.bands is not None:
        return None
    return highest_of_16_bits(dataset.files.pairs[index][0], image)


def highest_of_16_bits(path: Path, image: UInt8[np.ndarray, "h w 3"]) -> int | None:
    """The largest stored value if it uses less than half of an image's 16 bits, else None.

    Of colors it is computed from 8 bits, so that it is up to 256 too small.
    """
    if image.max() >= DIM or stored_bits(path) != 16:
        return None
    gray = read_image(path, 1)
    return int(gray.max()) if gray.dtype == np.uint16 else int(image.max()) * 257


def edge_agreement(
    image: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"],
    label: UInt8[np.ndarray, "h w"],
) -> float | None:
    """How much stronger than elsewhere the image's edges are where the label has a border.

    The mean gradient of the image's gray values at the borders between classes, relative to that
    of the whole image, both after a maximum over 3×3 pixels.
    """
    step = max(1, math.ceil(max(label.shape) / EDGE_SIDE))
    gray = image[::step, ::step].mean(axis=2, dtype=np.float32)
    classes = label[::step, ::step]
    if min(classes.shape) < 4:
        return None
    gradient = np.abs(np.diff(gray, axis=0))[:, :-1] + np.abs(np.diff(gray, axis=1))[:-1]
    for axis in (0, 1):
        padded = np.pad(gradient, [(1, 1) if a == axis else (0, 0) for a in (0, 1)], mode="edge")
        length = gradient.shape[axis]
        shifted = [np.take(padded, range(i, i + length), axis) for i in range(3)]
        gradient = np.maximum.reduce(shifted)
    here, below, right = classes[:-1, :-1], classes[1:, :-1], classes[:-1, 1:]
    border = np.zeros(here.shape, bool)
    for other in (below, right):
        border |= (here != other) & (here != IGNORE_INDEX) & (other != IGNORE_INDEX)
    mean = float(gradient.mean())
    if border.sum() < FEWEST_BORDERS or mean == 0:
        return None
    return float(gradient[border].mean()) / mean
