"""The bootstrap against a plain loop, and models that are equal, better, or better by luck."""

import numpy as np
import pytest
import torch

from ccnet.metrics import scores
from ccnet.metrics.comparison import compare_counts, resampled_differences
from ccnet.metrics.images import CountsOfImages

CLASSES = ("road", "tree", "car")


def counts(error: float, number: int = 40, seed: int = 1, images: int = 0) -> CountsOfImages:
    """Of a model that is wrong in a share of the pixels, on random labels."""
    of_labels, of_errors = np.random.default_rng(images), np.random.default_rng(seed)
    found = CountsOfImages(3)
    for index in range(number):
        label = of_labels.integers(0, 3, (20, 20), np.uint8)
        wrong = of_errors.random(label.shape) < error
        found.add(index, f"{index}.png", label, np.where(wrong, (label + 1) % 3, label))
    return found


def test_a_better_model_is_found_to_be_better():
    found = compare_counts(counts(0.3), counts(0.2, seed=2), CLASSES, num_resampled=2000)
    assert found.difference == pytest.approx(found.scores[1].miou - found.scores[0].miou)
    assert found.interval[0] < found.difference < found.interval[1]
    assert found.difference == pytest.approx(0.8 / 1.2 - 0.7 / 1.3, abs=0.01)
    assert found.is_significant
    assert found.p_value == pytest.approx(2 / 2001)
    assert found.num_images == 40


def test_two_models_of_equal_skill_are_not_told_apart():
    found = compare_counts(counts(0.25), counts(0.25, seed=2), CLASSES, num_resampled=2000)
    assert not found.is_significant
    assert found.p_value > 0.05


def test_a_model_does_not_differ_from_itself():
    found = compare_counts(counts(0.25), counts(0.25), CLASSES, num_resampled=100)
    assert (found.difference, found.interval, found.p_value) == (0, (0, 0), 1)


def test_the_two_models_exchanged_give_the_opposite():
    a, b = counts(0.3, 10), counts(0.28, 10, seed=2)
    one = compare_counts(a, b, CLASSES, num_resampled=500)
    other = compare_counts(b, a, CLASSES, num_resampled=500)
    assert one.difference == -other.difference
    np.testing.assert_allclose(one.interval, [-other.interval[1], -other.interval[0]])
    assert one.p_value == other.p_value


@pytest.mark.slow
def test_an_interval_covers_the_true_difference_as_often_as_it_says():
    covered = 0
    for seed in range(60):
        a, b = counts(0.3, 30, 2 * seed, seed), counts(0.25, 30, 2 * seed + 1, seed)
        low, high = compare_counts(a, b, CLASSES, num_resampled=300).interval
        covered += low <= 0.75 / 1.25 - 0.7 / 1.3 <= high
    assert 50 <= covered <= 60


def test_resampled_differences_are_those_of_a_loop_with_whole_matrices():
    a, b = counts(0.3, 5), counts(0.2, 5, seed=2)
    found = resampled_differences(a.sums(), b.sums(), 20, seed=3)
    draws = np.random.default_rng(3).multinomial(5, np.full(5, 1 / 5), 20)
    for difference, times in zip(found, draws, strict=True):
        miou = []
        for rows in (a.rows, b.rows):
            total = torch.zeros(3, 3, dtype=torch.int64)
            for row, number in zip(rows, times, strict=True):
                for cell, pixels in zip(row.cells.tolist(), row.pixels.tolist(), strict=True):
                    total[divmod(cell, 3)] += int(number) * pixels
            miou.append(scores(total, CLASSES).miou)
        assert difference == pytest.approx(miou[1] - miou[0])


def test_the_same_seed_gives_the_same_interval_in_parts_of_any_size(monkeypatch):
    a, b = counts(0.3, 8), counts(0.2, 8, seed=2)
    first = compare_counts(a, b, CLASSES, num_resampled=300, seed=5)
    assert first == compare_counts(a, b, CLASSES, num_resampled=300, seed=5)
    assert first.interval != compare_counts(a, b, CLASSES, num_resampled=300, seed=6).interval


def test_images_are_sorted_by_how_much_the_models_differ_on_them():
    a, b = counts(0.3, 3), counts(0.3, 3)
    label = np.array([[0, 1]], np.uint8)
    for found, prediction in ((a, [[0, 1]]), (b, [[1, 0]])):
        found.add(3, "worst.png", label, np.array(prediction, np.uint8))
        found.add(4, "unlabeled.png", np.full((1, 2), 255, np.uint8), label)
    comparison = compare_counts(a, b, CLASSES, num_resampled=10)
    assert [image.index for image in comparison.images] == [3, 0, 1, 2]
    assert comparison.images[0].iou == (1, 0)
    assert comparison.images[0].difference == -1
    content = comparison.to_dict()
    assert content["images"][0]["name"] == "worst.png"
    assert content["a"]["miou"] == comparison.scores[0].miou


def test_other_images_or_labels_are_refused():
    with pytest.raises(ValueError, match="scored on 3 and 4 images"):
        compare_counts(counts(0.3, 3), counts(0.3, 4), CLASSES)
    with pytest.raises(ValueError, match=r"different images or labels: 0\.png and 0\.png"):
        compare_counts(counts(0.3, 3), counts(0.3, 3, images=9), CLASSES)


def test_a_draw_without_labeled_pixels_is_left_out():
    a, b = CountsOfImages(3), CountsOfImages(3)
    for found in (a, b):
        found.add(0, "x", np.full((1, 2), 255, np.uint8), np.zeros((1, 2), np.uint8))
        found.add(1, "y", np.zeros((1, 2), np.uint8), np.zeros((1, 2), np.uint8))
    found = compare_counts(a, b, CLASSES, num_resampled=50)
    assert found.interval == (0, 0)
