"""Lines with fewer corners, the same from both sides."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ccnet.polygons.simplification import simplify_rings

FREE = np.zeros((32, 32), bool)
rings = arrays(np.int64, st.tuples(st.integers(3, 25), st.just(2)), elements=st.integers(0, 31))


def distance_to_ring(point, ring):
    """From a point to the nearest side of a ring."""
    nearest = np.inf
    for start, end in zip(ring, np.roll(ring, -1, axis=0), strict=True):
        along = (end - start).astype(float)
        share = ((point - start) @ along / max(along @ along, 1e-9)).clip(0, 1)
        nearest = min(nearest, np.linalg.norm(point - start - share * along))
    return nearest


@given(rings, st.floats(0.1, 10))
@settings(deadline=None)
def test_no_corner_is_farther_away_than_the_tolerance(ring, tolerance):
    (simple,) = simplify_rings([ring], FREE, tolerance)
    corners = {tuple(corner) for corner in ring.tolist()}
    assert {tuple(corner) for corner in simple.tolist()} <= corners
    assert all(distance_to_ring(corner, simple) <= tolerance + 1e-9 for corner in ring)


@given(rings, st.floats(0.1, 10), st.integers(0, 24), st.lists(st.integers(0, 24), max_size=3))
@settings(deadline=None)
def test_direction_and_first_corner_do_not_matter(ring, tolerance, shift, junctions):
    _, first = np.unique(ring, axis=0, return_index=True)
    ring = ring[np.sort(first)]  # rings pass each corner once
    fixed = FREE.copy()
    for junction in junctions:
        x, y = ring[junction % len(ring)]
        fixed[y, x] = True
    turned = np.roll(ring[::-1], shift, axis=0)
    one, other = simplify_rings([ring, turned], fixed, tolerance)
    assert sorted(one.tolist()) == sorted(other.tolist())
    kept = {tuple(corner) for corner in one.tolist()}
    assert all((x, y) in kept for x, y in ring.tolist() if fixed[y, x])


def test_a_staircase_becomes_a_line_and_a_square_stays():
    stairs = [[step // 2 + step % 2, step // 2] for step in range(21)]
    ring = np.array([*stairs, [0, 10]])
    (simple,) = simplify_rings([ring], FREE, 1.0)
    assert simple.tolist() == [[0, 0], [10, 10], [0, 10]]
    square = np.array([[0, 0], [9, 0], [9, 9], [0, 9]])
    (same,) = simplify_rings([square], FREE, 5.0)
    assert sorted(same.tolist()) == sorted(square.tolist())
