"""Label maps drawn from outlines.

A pixel belongs to an outline if its center is inside. Coordinates (x, y) are those of the corners
of pixels: x from 0 to the width, y from 0 to the height, downwards; the center of the first pixel
is (0.5, 0.5). A ring is filled by the even-odd rule, and several rings are united. A center that
lies on a border belongs to the side of larger x or y, so that of two shapes with a common border
exactly one has each pixel.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from ccnet.classes import IGNORE_INDEX
from ccnet.runtime.files import DataError

MAX_CROSSINGS = 1 << 23
"""Crossings of one ring with the rows of an image; real outlines have thousands."""

Overlap = Literal["later", "small"]
"""What is on top where shapes overlap: the one that the source names later, or the smaller one."""


class Outline(Protocol):
    """Something that covers pixels."""

    @property
    def area(self) -> float:
        """About how many pixels it covers; compared within one image only."""
        ...

    def paint(
        self, label: UInt8[np.ndarray, "h w"], value: int, scale: tuple[float, float]
    ) -> None:
        """Give `value` to the pixels inside.

        Args:
            label: changed in place.
            value: of the class.
            scale: what x and y are multiplied by, to be pixels.

        Raises:
            ValueError: it does not fit the image, or is too intricate.
        """
        ...


@dataclass(frozen=True, eq=False)
class Polygon:
    """The union of one or more rings of corners."""

    rings: tuple[Float64[np.ndarray, "corners 2"], ...]

    @property
    def area(self) -> float:
        return sum(map(ring_area, self.rings))

    def paint(
        self, label: UInt8[np.ndarray, "h w"], value: int, scale: tuple[float, float]
    ) -> None:
        for ring in self.rings:
            fill(label, *ring_crossings(ring * scale, len(label)), value)


@dataclass(frozen=True)
class Disc:
    """A filled circle."""

    x: float
    y: float
    radius: float

    @property
    def area(self) -> float:
        return np.pi * self.radius**2

    def paint(
        self, label: UInt8[np.ndarray, "h w"], value: int, scale: tuple[float, float]
    ) -> None:
        first = np.clip(np.ceil(self.y - self.radius - 0.5), 0, len(label))
        last = np.clip(np.ceil(self.y + self.radius - 0.5), 0, len(label))
        rows = np.arange(int(first), int(last))
        half = np.sqrt(np.maximum(self.radius**2 - (rows + 0.5 - self.y) ** 2, 0))
        crossings = np.concatenate([self.x - half, self.x + half])
        fill(label, np.concatenate([rows, rows]), crossings, value)


@dataclass(frozen=True, eq=False)
class Runs:
    """Lengths of runs outside and inside in turn, column by column, as COCO stores them."""

    counts: Int64[np.ndarray, " runs"]
    size: tuple[int, int]
    """Height and width; the counts sum to their product."""

    @property
    def area(self) -> float:
        return float(self.counts[1::2].sum())

    def paint(
        self, label: UInt8[np.ndarray, "h w"], value: int, scale: tuple[float, float]
    ) -> None:
        if label.shape != self.size:
            raise ValueError(
                f"runs of {self.size[1]}×{self.size[0]} pixels for an image of "
                f"{label.shape[1]}×{label.shape[0]}"
            )
        inside = np.repeat(np.arange(len(self.counts)) % 2 == 1, self.counts)
        label[inside.reshape(label.shape[::-1]).T] = value


@dataclass(frozen=True, eq=False)
class Drawing:
    """The label map of one image as shapes, in the order in which they are painted."""

    path: Path
    """The file that holds the shapes."""
    shapes: tuple[tuple[int, Outline], ...]
    """Class index, or 255, and outline."""
    unlabeled: int
    """The value of pixels in no shape."""
    size: tuple[int, int] | None = None
    """Height and width of the image as the file states them."""
    is_normalized: bool = False
    """Whether coordinates are shares of the width and of the height."""

    def draw(self, size: tuple[int, int]) -> UInt8[np.ndarray, "h w"]:
        """The label map of an image of this height and width.

        Raises:
            DataError: a shape cannot be drawn.
        """
        label = np.full(size, self.unlabeled, np.uint8)
        scale = (float(size[1]), float(size[0])) if self.is_normalized else (1.0, 1.0)
        for value, outline in self.shapes:
            try:
                outline.paint(label, value, scale)
            except ValueError as error:
                raise DataError(f"{self.path}: {error}.", path=self.path) from error
        return label


def in_order(
    shapes: Iterable[tuple[int, Outline]], overlap: Overlap
) -> tuple[tuple[int, Outline], ...]:
    """Shapes in the order in which they are painted; those of no class (255) come first."""
    shapes = list(shapes)
    if overlap == "small":
        shapes.sort(key=lambda shape: -shape[1].area)
    return tuple(sorted(shapes, key=lambda shape: shape[0] != IGNORE_INDEX))


def ring_area(ring: Float64[np.ndarray, "corners 2"]) -> float:
    """The area inside a ring that does not cross itself."""
    x, y = (ring - ring[0]).T
    return abs(float(x @ np.roll(y, -1) - np.roll(x, -1) @ y)) / 2


def ring_crossings(
    ring: Float64[np.ndarray, "corners 2"], height: int
) -> tuple[Int64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Where a ring crosses the centers of the rows of an image: the rows, and x.

    Raises:
        ValueError: there are more than `MAX_CROSSINGS`.
    """
    start, end = ring, np.roll(ring, -1, axis=0)
    is_up = (start[:, 1] > end[:, 1])[:, None]
    (x1, y1), (x2, y2) = np.where(is_up, end, start).T, np.where(is_up, start, end).T
    first = np.clip(np.ceil(y1 - 0.5), 0, height).astype(np.int64)
    number = np.clip(np.ceil(y2 - 0.5), 0, height).astype(np.int64) - first
    total = int(number.sum())
    if total > MAX_CROSSINGS:
        raise ValueError(f"a polygon of {len(ring)} points crosses {total} rows, which is too many")
    edges = np.repeat(np.arange(len(ring)), number)
    rows = first[edges] + np.arange(total) - (np.cumsum(number) - number)[edges]
    down = (rows + 0.5 - y1[edges]) * (x2 - x1)[edges] / (y2 - y1)[edges]
    return rows, x1[edges] + down


def fill(
    label: UInt8[np.ndarray, "h w"],
    rows: Int64[np.ndarray, " n"],
    crossings: Float64[np.ndarray, " n"],
    value: int,
) -> None:
    """Give `value` to the pixels with an odd number of crossings at or before their center."""
    if not len(rows):
        return
    columns = np.clip(np.ceil(crossings - 0.5), 0, label.shape[1]).astype(np.int64)
    top, left, right = rows.min(), columns.min(), columns.max()
    inside = np.zeros((rows.max() + 1 - top, right - left + 1), np.uint8)
    np.bitwise_xor.at(inside, (rows - top, columns - left), 1)
    np.bitwise_xor.accumulate(inside, axis=1, out=inside)
    window = label[top : top + len(inside), left:right]
    np.copyto(window, np.uint8(value), where=inside[:, :-1].view(bool))
