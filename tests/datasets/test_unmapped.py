"""What is said of label values without a class."""

import pytest

from ccnet.datasets.unmapped import ranges, spread_levels, written_mapping


@pytest.mark.parametrize(
    ("present", "num_classes", "levels"),
    [
        ([0, 255], 2, [0, 255]),
        ([0, 127, 255], 3, [0, 127, 255]),
        ([128], 3, [0, 128, 255]),
        ([0, 51, 204], 6, [0, 51, 102, 153, 204, 255]),
        ([3, 4], 2, [3, 4]),
        ([0, 1, 255], 2, None),
        ([0, 0.5], 2, None),
        ([0, 100], 3, None),
        ([0], 1, None),
    ],
)
def test_gray_values_that_are_spread_evenly_are_recognized(present, num_classes, levels):
    assert spread_levels(present, num_classes) == levels


def test_a_long_mapping_is_cut():
    names = [f"c{i}" for i in range(9)]
    assert written_mapping(range(9), names) == "mapping: {0: c0, 1: c1, 2: c2, 3: c3, 4: c4, ...}"


def test_ranges():
    assert ranges([3, 0, 1, 2, 7]) == "0–3, 7"
