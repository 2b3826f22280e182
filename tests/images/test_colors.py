"""Label maps in the colors of their classes, alone and over an image."""

import numpy as np
import pytest

from ccnet.images.colors import colorize, overlay

PALETTE = ((0, 0, 0), (10, 20, 30), (255, 0, 200))


def test_labels_get_their_classes_colors_and_ignored_ones_white():
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    colors = colorize(labels, PALETTE)
    assert colors.dtype == np.uint8
    assert colors.tolist() == [[[0, 0, 0], [10, 20, 30]], [[255, 0, 200], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("opacity", "expected"),
    [(0, [100, 100, 100]), (0.25, [78, 80, 82]), (1, [10, 20, 30])],
)
def test_an_overlay_lies_between_image_and_colors(opacity, expected):
    image, labels = np.full((1, 1, 3), 100, np.uint8), np.ones((1, 1), np.uint8)
    mixed = overlay(image, labels, PALETTE, opacity)
    assert mixed.dtype == np.uint8
    assert mixed.tolist() == [[expected]]


def test_an_overlay_never_wraps_around():
    image, labels = np.full((2, 2, 3), 255, np.uint8), np.full((2, 2), 255, np.uint8)
    assert (overlay(image, labels, PALETTE) == 255).all()


def test_an_overlay_lies_over_the_first_three_bands_of_either_depth():
    image = np.full((2, 2, 3), 100, np.uint8)
    labels, palette = np.zeros((2, 2), np.uint8), ((10, 20, 30),)
    expected = overlay(image, labels, palette)
    np.testing.assert_array_equal(overlay(image.astype(np.uint16) * 257, labels, palette), expected)
    more = np.concatenate([image, np.zeros((2, 2, 2), np.uint8)], axis=2)
    np.testing.assert_array_equal(overlay(more, labels, palette), expected)
    np.testing.assert_array_equal(overlay(image[:, :, :1], labels, palette), expected)
