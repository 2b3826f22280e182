"""Borders against plain loops over all pairs of pixels, and cases that can be counted by hand."""

import numpy as np
import pytest

from ccnet.metrics.boundary import (
    DISTANCES,
    BoundaryScores,
    bands,
    boundary_counts,
    boundary_distance,
    near_border,
    near_contour,
    spread,
)

SEEDS = range(4)


def patches(height: int, width: int, seed: int, num_classes: int = 4) -> np.ndarray:
    """Labels with borders, thin parts, and ignored pixels."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, num_classes, (height // 3 + 1, width // 4 + 1), np.uint8)
    labels = small.repeat(3, 0).repeat(4, 1)[:height, :width].copy()
    labels[rng.random(labels.shape) < 0.03] = rng.integers(num_classes)
    labels[rng.random(labels.shape) < 0.1] = 255
    return labels


def distance_to(labels: np.ndarray, y: int, x: int, *, edge: bool) -> float:
    """The distance, counted in king's moves, to another class or out of the image."""
    found = np.inf
    height, width = labels.shape
    if edge:
        found = min(y + 1, x + 1, height - y, width - x)
    others = np.argwhere((labels != labels[y, x]) & (labels != 255))
    return np.abs(others - (y, x)).max(1).astype(float).min(initial=found)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("distance", [1, 2, 3, 5, 30])
def test_pixels_near_a_contour_are_those_of_a_loop_over_all_pairs(seed, distance):
    labels = patches(13, 17, seed)
    near, contour = near_border(labels, distance), near_contour(labels, distance)
    for (y, x), label in np.ndenumerate(labels):
        if label != 255:
            assert near[y, x] == (distance_to(labels, y, x, edge=False) <= distance)
            assert contour[y, x] == (distance_to(labels, y, x, edge=True) <= distance)


@pytest.mark.parametrize("seed", SEEDS)
def test_bands_are_those_of_a_loop_over_all_pairs(seed):
    labels = patches(13, 17, seed, num_classes=2)
    found = bands(labels, (1, 2, 4))
    for (y, x), label in np.ndenumerate(labels):
        if label != 255:
            distance = distance_to(labels, y, x, edge=False)
            assert found[y, x] == sum(distance > limit for limit in (1, 2, 4))


@pytest.mark.parametrize("seed", SEEDS)
def test_boundary_counts_are_those_of_masks_eroded_step_by_step(seed):
    """As in the program of Cheng et al.: a mask within zeros is eroded by 3×3, class by class."""
    label, prediction = patches(31, 40, seed), patches(31, 40, seed + 100)
    label[label == 255] = 0
    prediction[prediction == 255] = 1
    share = 0.06
    distance = boundary_distance(label.shape, share)
    assert distance == 3
    intersection, union = boundary_counts(label, prediction, 4, share)
    for index in range(4):
        ours, theirs = (boundary_of_mask(m == index, distance) for m in (label, prediction))
        assert intersection[index] == (ours & theirs).sum()
        assert union[index] == (ours | theirs).sum()


def boundary_of_mask(mask: np.ndarray, distance: int) -> np.ndarray:
    eroded = np.pad(mask, 1)
    for _ in range(distance):
        before = eroded.copy()
        for y, x in zip(*np.nonzero(before), strict=True):
            eroded[y, x] = before[y - 1 : y + 2, x - 1 : x + 2].all()
    return mask & ~eroded[1:-1, 1:-1]


def test_boundary_iou_by_hand():
    """A square of 4×4 in the middle of 8×8, predicted one column too far to the right."""
    label, prediction = np.zeros((2, 8, 8), np.uint8)
    label[2:6, 2:6] = 1
    prediction[2:6, 3:7] = 1
    intersection, union = boundary_counts(label, prediction, 2, share=0.1)
    assert boundary_distance((8, 8), 0.1) == 1
    # rings of 12 pixels; they share two times three pixels above and below
    assert (intersection[1], union[1]) == (6, 18)


def test_the_distance_is_two_percent_of_the_diagonal_and_at_least_one():
    assert boundary_distance((360, 480)) == 12
    assert boundary_distance((1024, 2048)) == 46
    assert boundary_distance((4, 4)) == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_a_prediction_without_error_has_one_whatever_is_ignored(seed):
    label = patches(40, 50, seed)
    prediction = label.copy()
    prediction[label == 255] = np.random.default_rng(seed).integers(0, 4)
    found = BoundaryScores(5)
    found.add(label, prediction)
    assert found.iou[:4].tolist() == [1.0] * 4
    assert np.isnan(found.iou[4])
    assert found.mean_iou == 1.0
    assert found.band_accuracy[0] == 1.0


def test_ignored_pixels_between_two_classes_do_not_hide_the_border():
    label = np.zeros((9, 20), np.uint8)
    label[:, 10:] = 1
    label[:, 8:12] = 255  # the nearest labeled pixels are 5 apart
    found = bands(label, (4, 5))[label != 255].reshape(9, 16)
    assert found[4].tolist() == [2] * 7 + [1, 1] + [2] * 7
    assert near_border(label, 5)[4, 7]
    assert not near_border(label, 4)[4, 7]


def test_accuracy_by_distance_by_hand():
    label = np.zeros((2, 12), np.uint8)
    label[:, 6:] = 1
    prediction = label.copy()
    prediction[0, 5] = 1  # at distance 1, where there are four pixels
    prediction[1, 0] = 1  # at distance 6, in the band from 5 to 8 with eight
    found = BoundaryScores(2)
    found.add(label, prediction)
    assert found.band_pixels.tolist() == [4, 4, 8, 8, 0, 0, 0]
    assert found.band_correct.tolist() == [3, 4, 8, 7, 0, 0, 0]
    assert found.band_accuracy[:4].tolist() == [0.75, 1, 1, 0.875]
    assert np.isnan(found.band_accuracy[4:]).all()
    assert len(DISTANCES) + 1 == len(found.band_pixels)


def test_an_image_of_one_class_has_no_border_but_a_contour():
    label = np.full((30, 30), 2, np.uint8)
    assert (bands(label) == len(DISTANCES)).all()
    contour = near_contour(label, 2)
    assert contour.sum() == 30 * 30 - 26 * 26


def test_images_counted_by_two_processes_add_up():
    pairs = [(patches(20 + i, 30, i), patches(20 + i, 30, i + 50) % 4) for i in range(4)]
    whole, first, second = (BoundaryScores(4) for _ in range(3))
    for index, (label, prediction) in enumerate(pairs):
        whole.add(label, prediction)
        (second if index % 2 else first).add(label, prediction)
    first.merge(second)
    np.testing.assert_array_equal(first.iou, whole.iou)
    np.testing.assert_array_equal(first.band_pixels, whole.band_pixels)
    np.testing.assert_array_equal(first.band_correct, whole.band_correct)


def test_spread_takes_values_from_the_window_only():
    values = np.zeros((7, 9), np.uint8)
    values[3, 4] = 9
    found = spread(values, 2, np.maximum, 0)
    expected = np.zeros_like(values)
    expected[1:6, 2:7] = 9
    np.testing.assert_array_equal(found, expected)
