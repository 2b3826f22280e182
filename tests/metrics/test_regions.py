"""Connected regions against a flood fill, and suspected label errors planted by hand."""

from collections import deque

import numpy as np
import pytest

from ccnet.metrics.regions import LabelErrors, connected_runs


def flood_fill(kinds: np.ndarray) -> np.ndarray:
    """The number of each pixel's region, in the order of first pixels; −1 for none."""
    region = np.full(kinds.shape, -1)
    number = 0
    for start in np.ndindex(kinds.shape):
        if kinds[start] < 0 or region[start] >= 0:
            continue
        region[start] = number
        waiting = deque([start])
        while waiting:
            y, x = waiting.popleft()
            for v, u in ((y - 1, x), (y + 1, x), (y, x - 1), (y, x + 1)):
                inside = 0 <= v < kinds.shape[0] and 0 <= u < kinds.shape[1]
                if inside and region[v, u] < 0 and kinds[v, u] == kinds[y, x]:
                    region[v, u] = number
                    waiting.append((v, u))
        number += 1
    return region


def drawn(kinds: np.ndarray) -> np.ndarray:
    """The regions of `connected_runs` as a picture."""
    runs = connected_runs(kinds)
    picture = np.full(kinds.size, -1)
    for start, length, kind, region in zip(
        runs.start, runs.length, runs.kind, runs.region, strict=True
    ):
        assert (kinds.ravel()[start : start + length] == kind).all()
        picture[start : start + length] = region
    return picture.reshape(kinds.shape)


@pytest.mark.parametrize("density", [0.1, 0.4, 0.6, 0.9])
@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (40, 1), (23, 31)])
def test_regions_are_those_of_a_flood_fill(density, shape):
    rng = np.random.default_rng(0)
    kinds = np.where(rng.random(shape) < density, rng.integers(0, 3, shape), -1)
    np.testing.assert_array_equal(drawn(kinds), flood_fill(kinds))


def test_a_spiral_and_a_comb_are_one_region_each():
    comb = np.full((40, 41), -1)
    comb[:, ::2] = 0
    comb[-1] = 0
    assert connected_runs(comb).region.max() == 0
    spiral = np.full((41, 41), -1)
    y = x = 0
    step, turn = 40, (0, 1)
    spiral[y, x] = 7
    while step > 0:
        for _ in range(2):
            for _ in range(step):
                y, x = y + turn[0], x + turn[1]
                spiral[y, x] = 7
            turn = (turn[1], -turn[0])
        step -= 2
    assert (flood_fill(spiral) <= 0).all()
    np.testing.assert_array_equal(drawn(spiral), flood_fill(spiral))


def test_pixels_that_touch_at_a_corner_are_two_regions():
    assert drawn(np.array([[0, -1], [-1, 0]])).tolist() == [[0, -1], [-1, 1]]


def scene(confidence: float = 0.9) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A label of two halves that a model repeats, with the same confidence everywhere."""
    label = np.zeros((100, 100), np.uint8)
    label[:, 50:] = 1
    return label, label.copy(), np.full(label.shape, confidence, np.float32)


def test_a_block_with_a_wrong_label_is_found_with_its_box_and_no_more():
    label, prediction, confidence = scene()
    label[20:40, 10:40] = 1
    found = LabelErrors(3)
    found.add(7, "x.png", label, prediction, confidence)
    (region,) = found.suspected()
    # one pixel along its border is left out
    assert region.box == (11, 21, 28, 18)
    assert (region.index, region.name, region.label, region.prediction) == (7, "x.png", 1, 0)
    assert region.pixels == 28 * 18
    assert region.confidence == pytest.approx(0.9)
    assert region.score == pytest.approx(0.9 * 28 * 18)


def test_an_unsure_model_suspects_nothing():
    label, prediction, confidence = scene()
    label[20:40, 10:40] = 1
    confidence[20:40, 10:40] = 0.89  # below 0.9, the mean where it is right about class 0
    found = LabelErrors(2)
    assert found.add(0, "x", label, prediction, confidence) == []
    assert found.suspected() == []
    found.add(1, "y", *scene(0.7))  # on average it is less sure of itself
    assert [region.index for region in found.suspected()] == [0]


def test_below_one_half_nothing_is_suspected_whatever_the_threshold():
    label, prediction, confidence = scene(0.3)
    label[20:40, 10:40] = 1
    confidence[20:40, 10:40] = 0.49
    found = LabelErrors(2)
    found.add(0, "x", label, prediction, confidence)
    assert found.suspected() == []
    assert found.thresholds.tolist() == [0.5, 0.5]


def test_borders_that_are_off_and_specks_are_left_out():
    label, prediction, confidence = scene()
    prediction[:, 48:50] = 1  # the border of the prediction is two pixels away
    prediction[5:9, 5:9] = 1  # a speck
    found = LabelErrors(2)
    found.add(0, "x", label, prediction, confidence)
    assert found.suspected() == []


def test_ignored_pixels_are_never_suspected():
    label, prediction, confidence = scene()
    label[20:40, 10:40] = 255
    prediction[20:40, 10:40] = 1
    found = LabelErrors(2)
    found.add(0, "x", label, prediction, confidence)
    assert found.suspected() == []


def test_a_class_that_the_model_never_gets_right_suspects_nothing():
    label, prediction, confidence = scene()
    prediction[20:40, 10:40] = 2
    found = LabelErrors(3)
    found.add(0, "x", label, prediction, confidence)
    assert found.thresholds[2] == np.inf
    assert found.suspected() == []


def test_regions_are_ranked_by_size_times_confidence():
    label, prediction, confidence = scene(0.6)
    label[5:25, 5:45] = 1  # the largest
    label[40:60, 5:35] = 1  # the surest
    label[70:90, 5:35] = 1
    confidence[40:60, 5:35] = 0.99
    found = LabelErrors(2)
    found.add(0, "x", label, prediction, confidence)
    tops = [region.box[1] for region in found.suspected()]
    assert tops == [41, 6, 71]


def test_two_processes_find_the_same_as_one():
    rng = np.random.default_rng(0)
    whole, parts = LabelErrors(2), (LabelErrors(2), LabelErrors(2))
    for index in range(6):
        label, prediction, confidence = scene(float(rng.uniform(0.6, 0.9)))
        label[20:40, 10 : 20 + 4 * index] = 1
        for errors in (whole, parts[index % 2]):
            errors.add(index, str(index), label, prediction, confidence)
    parts[0].merge(parts[1])
    assert parts[0].suspected() == whole.suspected() != []
    np.testing.assert_allclose(parts[0].thresholds, whole.thresholds)
