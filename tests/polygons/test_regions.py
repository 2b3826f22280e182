"""Regions as polygons: drawn again, they give the label map back, pixel for pixel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from matplotlib.path import Path as Outline

from ccnet.polygons.regions import Region, find_regions, signed_area

label_maps = st.tuples(st.integers(1, 12), st.integers(1, 12)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.sampled_from([0, 1, 255]))
)


def inside(region: Region, shape: tuple[int, int]) -> np.ndarray:
    """The pixels whose centers a region's rings enclose."""
    y, x = np.indices(shape) + 0.5
    centers = np.stack([x.ravel(), y.ravel()], axis=1)
    within = [Outline(ring).contains_points(centers) for ring in (region.outline, *region.holes)]
    return (within[0] & ~np.any(within[1:], axis=0)).reshape(shape)


def drawn(regions: list[Region], shape: tuple[int, int]) -> np.ndarray:
    labels = np.full(shape, 255, np.uint8)
    for region in regions:
        pixels = inside(region, shape)
        assert (labels[pixels] == 255).all(), "two regions hold the same pixel"
        labels[pixels] = region.class_index
    return labels


def connected_regions(labels: np.ndarray) -> int:
    """The number of regions by flooding from pixel to pixel."""
    left = {(y, x) for y, x in np.argwhere(labels != 255).tolist()}
    count = 0
    while left:
        count += 1
        todo = [left.pop()]
        while todo:
            y, x = todo.pop()
            for near in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                if near in left and labels[near] == labels[y, x]:
                    left.remove(near)
                    todo.append(near)
    return count


@given(label_maps)
@settings(deadline=None, max_examples=200)
def test_regions_drawn_again_are_the_label_map(labels):
    regions = find_regions(labels)
    assert np.array_equal(drawn(regions, labels.shape), labels)
    assert len(regions) == connected_regions(labels)
    for region in regions:
        assert region.area == inside(region, labels.shape).sum()
        assert signed_area(region.outline) > 0
        assert all(signed_area(hole) < 0 for hole in region.holes)


def test_a_ring_inside_a_ring_is_a_region_with_a_hole():
    labels = np.zeros((7, 7), np.uint8)
    labels[1:6, 1:6] = 1
    labels[2:5, 2:5] = 0
    labels[3, 3] = 1
    outer, ring, inner, dot = find_regions(labels)
    assert [r.class_index for r in (outer, ring, inner, dot)] == [0, 1, 0, 1]
    assert [len(r.holes) for r in (outer, ring, inner, dot)] == [1, 1, 1, 0]
    assert [r.area for r in (outer, ring, inner, dot)] == [24, 16, 8, 1]
    assert outer.outline.tolist() == [[0, 0], [7, 0], [7, 7], [0, 7]]
    assert ring.bounds == (1, 1, 6, 6)


def test_small_regions_are_left_out():
    labels = np.zeros((5, 5), np.uint8)
    labels[0, 0] = 1
    assert [r.class_index for r in find_regions(labels, min_area=2)] == [0]


def disk(size: int = 101, radius: float = 40) -> np.ndarray:
    y, x = np.indices((size, size)) - size // 2
    return (x**2 + y**2 <= radius**2).astype(np.uint8)


def test_a_simplified_border_stays_within_the_tolerance_and_opens_no_gap():
    labels = disk()
    labels[50:] += 2  # four regions, which meet in two points
    exact, simple = find_regions(labels), find_regions(labels, tolerance=2)
    assert len(exact) == len(simple) == 4
    for before, after in zip(exact, simple, strict=True):
        assert len(after.outline) < len(before.outline) / 2
        assert after.area == pytest.approx(before.area, rel=0.05)
    assert sum(region.area for region in simple) == labels.size


@given(label_maps, st.floats(0.1, 3))
@settings(deadline=None, max_examples=100)
def test_simplified_regions_still_fill_the_map(labels, tolerance):
    regions = find_regions(labels % 2, tolerance=tolerance)
    assert sum(region.area for region in regions) == pytest.approx(labels.size)
    for region in regions:
        assert region.outline.min() >= 0
        assert (region.outline.max(0) <= labels.shape[::-1]).all()


def test_a_tolerance_is_checked():
    for tolerance in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="tolerance must be at least 0"):
            find_regions(disk(), tolerance=tolerance)
