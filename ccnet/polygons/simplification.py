"""Lines with fewer corners; a line that two regions share is simplified in one way for both.

Source: Douglas and Peucker, Algorithms for the reduction of the number of points required to
represent a digitized line or its caricature, 1973.
"""

from collections.abc import Sequence

import numpy as np


def simplify_rings(
    rings: Sequence[np.ndarray], fixed: np.ndarray, tolerance: float
) -> list[np.ndarray]:
    """Rings without the corners that are at most `tolerance` away from the simpler line.

    Args:
        rings: corners (x, y) of each ring, (corners, 2).
        fixed: (height, width) of bool, which corners stay. A line between two of them that is in
            several rings, in whichever direction, becomes the same in all.
        tolerance: in the unit of the corners.

    Returns:
        The rings in the same order and direction. One that collapses has fewer than three corners.
    """
    known: dict[bytes, np.ndarray] = {}
    return [_simplify_ring(ring, fixed, tolerance, known) for ring in rings]


def _simplify_ring(
    ring: np.ndarray, fixed: np.ndarray, tolerance: float, known: dict[bytes, np.ndarray]
) -> np.ndarray:
    splits = np.flatnonzero(fixed[ring[:, 1], ring[:, 0]])
    if len(splits) == 0:  # no other ring has a part of it: split it where all directions would
        first = np.lexsort((ring[:, 1], ring[:, 0]))[0]
        ring = np.roll(ring, -first, axis=0)
        distances = ((ring - ring[0]) ** 2).sum(1)
        farthest = np.flatnonzero(distances == distances.max())
        order = np.lexsort((ring[farthest, 1], ring[farthest, 0]))
        splits = np.array([0, farthest[order[0]]])
    else:
        ring = np.roll(ring, -splits[0], axis=0)
        splits = splits - splits[0]
    closed = np.concatenate([ring, ring[:1]])
    ends = [*splits[1:], len(ring)]
    lines = [
        _simplify_line(closed[start : end + 1], tolerance, known)[:-1]
        for start, end in zip(splits, ends, strict=True)
    ]
    return np.concatenate(lines)


def _simplify_line(
    line: np.ndarray, tolerance: float, known: dict[bytes, np.ndarray]
) -> np.ndarray:
    """The line, from its first to its last corner, by way of the one direction that is stored."""
    is_reversed = line.tolist() > line[::-1].tolist()
    stored = np.ascontiguousarray(line[::-1] if is_reversed else line)
    key = stored.tobytes()
    if key not in known:
        known[key] = stored[_kept(stored.astype(float), tolerance)]
    return known[key][::-1] if is_reversed else known[key]


def _kept(line: np.ndarray, tolerance: float) -> np.ndarray:
    """Which corners stay: the ends, and again and again the one farthest from the line so far."""
    kept = np.zeros(len(line), bool)
    kept[[0, -1]] = True
    todo = [(0, len(line) - 1)]
    while todo:
        first, last = todo.pop()
        if last - first < 2:
            continue
        distances = _distances(line[first + 1 : last], line[first], line[last])
        farthest = int(distances.argmax())
        if distances[farthest] > tolerance:
            middle = first + 1 + farthest
            kept[middle] = True
            todo += [(first, middle), (middle, last)]
    return kept


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """From points to the line segment from `start` to `end`."""
    along = end - start
    length = along @ along
    if length == 0:
        return np.sqrt(((points - start) ** 2).sum(1))
    share = ((points - start) @ along / length).clip(0, 1)
    return np.sqrt(((points - start - share[:, None] * along) ** 2).sum(1))
