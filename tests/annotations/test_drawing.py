"""Label maps drawn from outlines, against the definition of each pixel's center."""

import time
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ccnet.annotations import drawing
from ccnet.annotations.drawing import Disc, Drawing, Polygon, Runs, in_order
from ccnet.runtime.files import DataError

HERE = Path("a.json")


def draw(*outlines, size=(7, 9), unlabeled=0):
    shapes = tuple(enumerate(outlines, start=1))
    return Drawing(HERE, shapes, unlabeled).draw(size)


def polygon(*points):
    return Polygon((np.array(points, np.float64),))


def is_inside(ring: np.ndarray, x, y, number=float) -> bool:
    """The even-odd rule for one point: crossings of its row at or before it."""
    inside = False
    for (x1, y1), (x2, y2) in zip(ring.tolist(), np.roll(ring, -1, 0).tolist(), strict=True):
        if y1 > y2:
            x1, y1, x2, y2 = x2, y2, x1, y1
        x1, y1, x2, y2 = map(number, (x1, y1, x2, y2))
        if y1 <= y < y2:
            inside ^= x1 + (y - y1) * (x2 - x1) / (y2 - y1) <= x
    return inside


def by_pixel(ring: np.ndarray, size: tuple[int, int], number=float) -> np.ndarray:
    half = number(1) / 2
    height, width = size
    rows = [
        [is_inside(ring, x + half, y + half, number) for x in range(width)] for y in range(height)
    ]
    return np.array(rows, np.uint8)


COORDINATES = st.floats(-4, 14, allow_nan=False, width=32)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.tuples(COORDINATES, COORDINATES), min_size=3, max_size=9))
def test_a_polygon_has_the_pixels_whose_center_is_inside(points):
    ring = np.array(points, np.float64)
    np.testing.assert_array_equal(draw(Polygon((ring,))), by_pixel(ring, (7, 9)))


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(-8, 24), st.integers(-8, 24)), min_size=3, max_size=7))
def test_corners_on_quarters_are_exact_in_rational_numbers(points):
    ring = np.array(points, np.float64) / 2
    expected = by_pixel(ring, (7, 9), Fraction)
    drawn = draw(Polygon((ring,)))
    # a border through a center may be rounded to its other side, and nothing else
    assert (drawn != expected).sum() <= on_border(ring, (7, 9))


def on_border(ring: np.ndarray, size: tuple[int, int]) -> int:
    """Pixels whose center lies on a side of the ring."""
    count = 0
    for y, x in np.ndindex(size):
        for a, b in zip(ring, np.roll(ring, -1, 0), strict=True):
            u, v = b - a, np.array([x + 0.5, y + 0.5]) - a
            if u[0] * v[1] == u[1] * v[0] and 0 <= u @ v <= u @ u:
                count += 1
                break
    return count


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1))
def test_neighbors_share_no_pixel_and_leave_none(seed):
    """A grid of quadrilaterals with common sides covers each pixel once."""
    corners = np.stack(np.meshgrid(np.linspace(0, 9, 5), np.linspace(0, 7, 5)), axis=-1)
    corners[1:-1, 1:-1] += np.random.default_rng(seed).uniform(-0.6, 0.6, (3, 3, 2))
    counts = np.zeros((7, 9), int)
    for y, x in np.ndindex(4, 4):
        ring = [corners[y, x], corners[y, x + 1], corners[y + 1, x + 1], corners[y + 1, x]]
        counts += draw(polygon(*ring))
    assert (counts == 1).all()


def test_a_rectangle_along_pixels_has_these_pixels():
    expected = np.zeros((7, 9), np.uint8)
    expected[1:4, 2:6] = 1
    np.testing.assert_array_equal(draw(polygon((2, 1), (6, 1), (6, 4), (2, 4))), expected)
    np.testing.assert_array_equal(draw(polygon((2, 4), (6, 4), (6, 1), (2, 1))), expected)


def test_parts_are_united_and_one_ring_is_even_odd():
    square = np.array([(1, 1), (5, 1), (5, 5), (1, 5)], np.float64)
    both = draw(Polygon((square, square + 2)))
    assert both[3, 3] == 1
    assert both.sum() == 16 + 16 - 4
    twice = draw(Polygon((np.concatenate([square, square[::-1] + 1.0, square[:1]]),)))
    assert twice[1, 1] == 1
    assert twice[3, 3] == 0


def test_what_is_outside_is_cut_off():
    assert draw(polygon((-1e6, -1e6), (1e6, -1e6), (1e6, 1e6), (-1e6, 1e6))).all()
    assert not draw(polygon((20, 0), (30, 0), (30, 5))).any()
    assert not draw(polygon((-9, 0), (-3, 0), (-3, 5))).any()
    assert not draw(polygon((0, -9), (5, -9), (5, -3))).any()
    assert not draw(polygon((1, 1), (1, 1), (1, 1))).any()


def test_a_disc_has_the_pixels_within_its_radius():
    y, x = np.mgrid[:7, :9] + 0.5
    for disc in (Disc(4.2, 3.1, 2.7), Disc(0, 0, 3.3), Disc(8.5, 6.5, 0.2), Disc(50, 50, 3)):
        expected = (x - disc.x) ** 2 + (y - disc.y) ** 2 <= disc.radius**2
        np.testing.assert_array_equal(draw(disc) == 1, expected)


def test_runs_go_down_the_columns_and_must_fit():
    runs = Runs(np.array([8, 3, 52]), (7, 9))
    expected = np.zeros((7, 9), np.uint8)
    expected[1:4, 1] = 1
    np.testing.assert_array_equal(draw(runs), expected)
    with pytest.raises(DataError, match=r"a\.json: runs of 9×7 pixels for an image of 7×9"):
        draw(runs, size=(9, 7))


def test_later_shapes_are_on_top_or_small_ones_and_ignored_regions_below():
    large, small = polygon((0, 0), (8, 0), (8, 6), (0, 6)), polygon((1, 1), (3, 1), (3, 3), (1, 3))
    crowd = polygon((0, 0), (9, 0), (9, 7), (0, 7))
    shapes = [(2, small), (1, large), (255, crowd)]
    later = Drawing(HERE, in_order(shapes, "later"), 0).draw((7, 9))
    assert (later[2, 2], later[5, 5], later[6, 8]) == (1, 1, 255)
    on_top = Drawing(HERE, in_order(shapes, "small"), 0).draw((7, 9))
    assert (on_top[2, 2], on_top[5, 5], on_top[6, 8]) == (2, 1, 255)


def test_areas_order_shapes_of_all_kinds():
    assert polygon((0, 0), (4, 0), (4, 3), (0, 3)).area == 12
    assert Disc(0, 0, 2).area == pytest.approx(12.566, abs=1e-3)
    assert Runs(np.array([1, 5, 1, 2]), (3, 3)).area == 7


def test_shares_of_the_size_become_pixels():
    ring = np.array([(0.25, 0.5), (0.75, 0.5), (0.75, 1), (0.25, 1)])
    label = Drawing(HERE, ((1, Polygon((ring,))),), 255, is_normalized=True).draw((4, 8))
    assert (label[2:, 2:6] == 1).all()
    assert (label == 1).sum() == 8
    assert (label == 255).sum() == 24


def test_an_outline_that_would_take_hours_is_an_error(monkeypatch):
    monkeypatch.setattr(drawing, "MAX_CROSSINGS", 10)
    with pytest.raises(DataError, match=r"a\.json: a polygon of 3 points crosses 14 rows"):
        draw(polygon((0, 0), (9, 7), (0, 7)))


@pytest.mark.slow
@pytest.mark.unchecked
def test_500_polygons_on_two_megapixels_take_less_than_0_3_s():
    rng = np.random.default_rng(0)
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    rings = [
        rng.uniform((0, 0), (2048, 1024))
        + rng.uniform(20, 150)
        * rng.uniform(0.7, 1, (60, 1))
        * np.c_[np.cos(angles), np.sin(angles)]
        for _ in range(500)
    ]
    whole = Drawing(HERE, tuple((i % 20, Polygon((ring,))) for i, ring in enumerate(rings)), 0)
    times = []
    for _ in range(5):
        start = time.perf_counter()
        label = whole.draw((1024, 2048))
        times.append(time.perf_counter() - start)
    assert len(np.unique(label)) == 20
    assert min(times) < 0.3, times
