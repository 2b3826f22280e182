"""Counts of single images: their own scores, and their sum as one matrix of the data set."""

import numpy as np
import pytest
import torch

from ccnet.metrics import ConfusionMatrix, scores
from ccnet.metrics.images import CountsOfImages, miou_of_sums, pair_counts

LABEL = np.array([[0, 0, 0, 1], [1, 1, 255, 255]], np.uint8)
PREDICTION = np.array([[0, 0, 1, 1], [1, 0, 2, 0]], np.uint8)


def random_pairs(number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(0)
    pairs = []
    for index in range(number):
        label, prediction = rng.integers(0, 4, (2, 5 + index, 7), np.uint8)
        label[rng.random(label.shape) < 0.2] = 255
        pairs.append((label, prediction))
    return pairs


def test_an_image_has_the_scores_computed_by_hand():
    row = CountsOfImages(3).add(5, "a.png", LABEL, PREDICTION)
    assert (row.index, row.name, row.size, row.labeled) == (5, "a.png", (2, 4), 6)
    assert row.cells.tolist() == [0, 1, 3, 4]
    assert row.pixels.tolist() == [2, 1, 1, 2]
    assert row.accuracy == pytest.approx(4 / 6)
    assert row.iou == pytest.approx((2 / 4 + 2 / 4) / 2)
    assert row.sums().tolist() == [[2, 2, 0], [3, 3, 0], [3, 3, 0]]


def test_a_class_that_is_only_predicted_has_no_iou_in_an_image():
    prediction = np.zeros((2, 5), np.uint8)
    prediction[0, 0] = 1
    row = CountsOfImages(2).add(0, "a", np.zeros((2, 5), np.uint8), prediction)
    assert row.iou == pytest.approx(0.9)


def test_an_image_without_labeled_pixels_has_no_scores():
    row = CountsOfImages(3).add(0, "a", np.full((2, 2), 255, np.uint8), np.zeros((2, 2), np.uint8))
    assert (row.labeled, row.iou, row.accuracy) == (0, None, None)


def test_all_images_together_are_the_confusion_matrix_of_the_data_set():
    rows, confusion = CountsOfImages(4), ConfusionMatrix(4)
    for index, (label, prediction) in enumerate(random_pairs(6)):
        rows.add(index, str(index), label, prediction)
        confusion.update(
            torch.from_numpy(prediction)[None].long(), torch.from_numpy(label)[None].long()
        )
    assert torch.equal(rows.total(), confusion.counts)
    miou = scores(confusion.counts, ("a", "b", "c", "d")).miou
    assert miou_of_sums(rows.sums().sum(0).astype(float)) == pytest.approx(miou)


def test_the_miou_of_sums_leaves_out_absent_classes_as_the_scores_do():
    sums = np.array([[5, 3, 0, 0], [6, 6, 0, 0], [8, 4, 0, 3]], float)
    expected = (5 / 9 + 3 / 7 + 0 / 3) / 3
    np.testing.assert_allclose(miou_of_sums(np.stack([sums, 0 * sums])), [expected, np.nan])


def test_images_of_two_processes_are_in_the_order_of_the_data_set():
    pairs = random_pairs(5)
    parts = CountsOfImages(4), CountsOfImages(4)
    for index, pair in enumerate(pairs):
        parts[index % 2].add(index, str(index), *pair)
    parts[0].merge(parts[1])
    assert [row.index for row in parts[0].rows] == [0, 1, 2, 3, 4]


def test_values_that_are_no_class_are_refused():
    with pytest.raises(ValueError, match="labels are 0 to 2, got 3"):
        pair_counts(LABEL + np.uint8(2) * (LABEL == 1), PREDICTION, 3)
    with pytest.raises(ValueError, match="predictions are 0 to 2, got 10"):
        pair_counts(LABEL, PREDICTION + np.uint8(9), 3)
    pair_counts(np.full_like(LABEL, 255), PREDICTION + np.uint8(9), 3)


def test_every_one_of_255_classes_is_counted_in_its_place():
    values = np.arange(255, dtype=np.uint8)[None]
    counts = pair_counts(values, values[:, ::-1].copy(), 255)
    np.testing.assert_array_equal(counts, np.eye(255)[::-1])
