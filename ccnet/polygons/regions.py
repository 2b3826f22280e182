"""The regions of a label map as polygons along the sides of pixels, for labeling tools and maps.

A region is a set of pixels of one class that touch each other by their sides. Coordinates (x, y)
are those of the corners of pixels: x from 0 to the width, y from 0 to the height, downwards.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Int64, UInt8

from ccnet.classes import IGNORE_INDEX
from ccnet.polygons.simplification import simplify_rings

Ring = Int64[np.ndarray, "corners 2"]
"""The corners of a closed line in order; the last one is joined to the first."""

# The sides of a pixel in clockwise order: top, right, bottom, left; each is passed with the pixel
# on the right-hand side. By side: the way to the next pixel along it, and the way outwards
ALONG = np.array([(0, 1), (1, 0), (0, -1), (-1, 0)])
OUTWARDS = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
BEGINNING = np.array([(0, 0), (1, 0), (1, 1), (0, 1)])
"""By side: x and y of its first corner, from the top left corner of the pixel."""
RIGHT, LEFT = 1, 3
OUTSIDE = -1
"""The label of what lies around the label map."""


@dataclass
class Region:
    """Connected pixels of one class."""

    class_index: int
    outline: np.ndarray
    """Its outer ring, clockwise as it is seen."""
    holes: list[np.ndarray] = field(default_factory=list)
    """Rings around what is not part of it, counterclockwise."""

    @property
    def area(self) -> float:
        """In pixels."""
        return sum(map(signed_area, [self.outline, *self.holes]))

    @property
    def bounds(self) -> tuple[int, int, int, int]:
        """Smallest x, smallest y, largest x and largest y."""
        return (*self.outline.min(0).tolist(), *self.outline.max(0).tolist())


def find_regions(
    labels: UInt8[np.ndarray, "h w"], *, tolerance: float = 0.0, min_area: int = 1
) -> list[Region]:
    """The regions of all classes, from top to bottom; ignored pixels (255) belong to none.

    Args:
        labels: the class of each pixel.
        tolerance: largest distance in pixels between a corner that is left out and the simplified
            line. A border between two regions is simplified once, so that no gap opens between
            them; regions that collapse are left out. 0 keeps every corner.
        min_area: regions of fewer pixels are left out.

    Raises:
        ValueError: `tolerance` is negative or not finite.
    """
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"tolerance must be at least 0, got {tolerance}")
    borders = Borders(labels)
    rings = list(borders.rings())
    owners: dict[int, int] = {}  # ring → the outer ring of its region
    holes: dict[int, list[int]] = {}
    for number, ring in enumerate(rings):
        if signed_area(borders.corners(ring)) > 0:
            owners[number], holes[number] = number, []
    for number in sorted(set(range(len(rings))) - set(owners), key=borders.left_end(rings)):
        owners[number] = owners[borders.ring_to_the_left(rings[number])]
        holes[owners[number]].append(number)
    shapes = [borders.corners(ring) for ring in rings]
    found = []
    for outer, inner in holes.items():
        region = Region(borders.label(rings[outer]), shapes[outer], [shapes[n] for n in inner])
        if region.class_index != IGNORE_INDEX and region.area >= min_area:
            found.append((outer, inner, region))
    if tolerance > 0:
        wanted = [number for outer, inner, _ in found for number in (outer, *inner)]
        lines = [borders.corners(rings[n], with_junctions=True) for n in wanted]
        simple = dict(zip(wanted, simplify_rings(lines, borders.junctions, tolerance), strict=True))
        simplified = (
            Region(
                region.class_index, simple[outer], [simple[n] for n in inner if len(simple[n]) > 2]
            )
            for outer, inner, region in found
        )
        return [region for region in simplified if len(region.outline) > 2 and region.area > 0]
    return [region for *_, region in found]


class Borders:
    """The sides of pixels between different labels, linked into rings around regions.

    A side is numbered 4 · pixel + side, with pixels counted row by row.

    Args:
        labels: the class of each pixel.
    """

    def __init__(self, labels: UInt8[np.ndarray, "h w"]) -> None:
        self.labels = np.pad(labels.astype(np.int16), 1, constant_values=OUTSIDE)
        self.height, self.width = labels.shape
        pixels = [self._pixels_with_border(side) for side in range(4)]
        sides = [4 * (y * self.width + x) + side for side, (y, x) in enumerate(pixels)]
        followers = [self._followers(side, *pixels[side]) for side in range(4)]
        order = np.argsort(np.concatenate(sides))
        self.sides = np.concatenate(sides)[order]
        self.following = np.searchsorted(self.sides, np.concatenate(followers)[order])
        self.ring_of = np.full(len(self.sides), -1)

    def _pixels_with_border(self, side: int) -> tuple[np.ndarray, np.ndarray]:
        dy, dx = OUTWARDS[side]
        inner = self.labels[1:-1, 1:-1]
        outer = self.labels[1 + dy : 1 + dy + self.height, 1 + dx : 1 + dx + self.width]
        y, x = np.nonzero(inner != outer)
        return y, x

    def _followers(self, side: int, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The side that follows each side: of the same pixel, or of one of the two before it."""
        own = self.labels[y + 1, x + 1]
        (ay, ax), (oy, ox) = ALONG[side], OUTWARDS[side]
        ahead = self.labels[y + 1 + ay, x + 1 + ax] == own
        beyond = self.labels[y + 1 + ay + oy, x + 1 + ax + ox] == own
        turn_right = 4 * (y * self.width + x) + (side + 1) % 4
        straight = 4 * ((y + ay) * self.width + x + ax) + side
        turn_left = 4 * ((y + ay + oy) * self.width + x + ax + ox) + (side + 3) % 4
        return np.where(~ahead, turn_right, np.where(~beyond, straight, turn_left))

    def rings(self) -> Iterator[np.ndarray]:
        """The positions in `sides` of each ring, in order, from that with the smallest on."""
        following, done = self.following.tolist(), bytearray(len(self.sides))
        number = 0
        for start in range(len(following)):
            if done[start]:
                continue
            ring, position = [], start
            while not done[position]:
                done[position] = 1
                ring.append(position)
                position = following[position]
            ring = np.array(ring)
            self.ring_of[ring] = number
            number += 1
            yield ring

    def label(self, ring: np.ndarray) -> int:
        y, x = divmod(int(self.sides[ring[0]]) // 4, self.width)
        return int(self.labels[y + 1, x + 1])

    def corners(self, ring: np.ndarray, *, with_junctions: bool = False) -> Ring:
        """Where a ring turns; with junctions also where three or more borders meet."""
        sides = self.sides[ring]
        y, x = np.divmod(sides // 4, self.width)
        points = np.stack([x, y], axis=1) + BEGINNING[sides % 4]
        turns = sides % 4 != np.roll(sides, 1) % 4
        if with_junctions:
            turns |= self.junctions[points[:, 1], points[:, 0]]
        return points[turns]

    @cached_property
    def junctions(self) -> np.ndarray:
        """(height + 1, width + 1) of bool: corners where three or more borders meet, or the map's.

        Borders between two such corners have the same two labels on their sides.
        """
        across = self.labels[:, 1:] != self.labels[:, :-1]
        down = self.labels[1:] != self.labels[:-1]
        count = across[1:].astype(int) + across[:-1] + down[:, 1:] + down[:, :-1]
        found = count >= 3
        found[[0, 0, -1, -1], [0, -1, 0, -1]] = True
        return found

    def left_end(self, rings: Sequence[np.ndarray]):
        """A sorting key: the smallest x of a ring by its number."""
        return lambda number: self.corners(rings[number])[:, 0].min()

    def ring_to_the_left(self, ring: np.ndarray) -> int:
        """For the ring of a hole: the next ring of the same region to the left of its left end."""
        sides = self.sides[ring]
        before = sides[sides % 4 == RIGHT] // 4  # pixels of the region, the hole at their right
        y, x = np.divmod(before, self.width)
        y, x = y[x.argmin()], x.min()
        row = self.labels[y + 1, 1 : x + 2]
        others = np.flatnonzero(row != row[-1])
        start = others[-1] + 1 if len(others) else 0
        return int(self.ring_of[np.searchsorted(self.sides, 4 * (y * self.width + start) + LEFT)])


def signed_area(ring: np.ndarray) -> float:
    """Pixels inside a ring; negative if it is counterclockwise as it is seen."""
    x, y = ring.T.astype(float)
    return float(x @ np.roll(y, -1) - np.roll(x, -1) @ y) / 2
