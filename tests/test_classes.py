"""Names and colors of published classes, and weights that follow from counts."""

import pytest

from ccnet.classes import ADE20K, CITYSCAPES, VOC, median_frequency_weights


def test_names_and_colors_are_whole_and_distinct():
    assert [len(classes) for classes in (CITYSCAPES, VOC, ADE20K)] == [19, 21, 150]
    assert CITYSCAPES["bicycle"] == (119, 11, 32)
    assert VOC["tvmonitor"] == (0, 64, 128)
    assert ADE20K["flag"] == (92, 0, 255)
    for classes in (CITYSCAPES, VOC):
        assert len(set(classes.values())) == len(classes)


def test_weights_are_the_median_frequency_divided_by_the_frequency():
    weights = median_frequency_weights([50, 0, 10, 5], [100, 0, 40, 50])  # shares 1/2, 1/4, 1/10
    assert weights == [pytest.approx(0.5), None, pytest.approx(1), pytest.approx(2.5)]
    assert median_frequency_weights([0, 0], [0, 0]) == [None, None]
