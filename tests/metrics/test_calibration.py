"""Calibration in cases that can be computed by hand, and against a plain loop."""

import numpy as np
import pytest

from ccnet.metrics.calibration import Calibration


def by_loop(confidence: np.ndarray, is_right: np.ndarray, num_bins: int) -> float:
    error = 0.0
    for number in range(num_bins):
        own = [
            (c, r)
            for c, r in zip(confidence.tolist(), is_right.tolist(), strict=True)
            if number / num_bins <= c < (number + 1) / num_bins
            or (c == 1 == (number + 1) / num_bins)
        ]
        if own:
            accuracy = sum(r for _, r in own) / len(own)
            error += len(own) / len(confidence) * abs(accuracy - sum(c for c, _ in own) / len(own))
    return error


def test_the_error_by_hand():
    found = Calibration(num_bins=2)
    found.add(np.array([0.25, 0.25, 0.75, 1.0]), np.array([True, False, True, True]))
    assert found.pixels.tolist() == [2, 2]
    assert found.accuracy.tolist() == [0.5, 1.0]
    assert found.confidence.tolist() == [0.25, 0.875]
    assert found.error == pytest.approx(0.5 * 0.25 + 0.5 * 0.125)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_the_error_is_that_of_a_plain_loop(dtype):
    rng = np.random.default_rng(0)
    confidence = rng.random(2000).astype(dtype)
    is_right = rng.random(2000) < confidence**2
    found = Calibration(num_bins=8)  # whose limits all types hold exactly
    found.add(confidence, is_right)
    assert found.error == pytest.approx(by_loop(confidence, is_right, 8))


def test_a_model_that_is_right_as_often_as_it_says_has_almost_no_error():
    rng = np.random.default_rng(0)
    confidence = rng.random(200_000)
    honest, boasting = Calibration(), Calibration()
    honest.add(confidence, rng.random(200_000) < confidence)
    boasting.add(confidence, rng.random(200_000) < confidence / 2)
    assert honest.error is not None
    assert honest.error < 0.01
    assert boasting.error == pytest.approx(0.25, abs=0.01)


def test_without_pixels_there_is_no_error_and_an_empty_bin_has_no_accuracy():
    found = Calibration(num_bins=3)
    assert found.error is None
    found.add(np.array([0.9]), np.array([True]))
    assert np.isnan(found.accuracy[:2]).all()
    assert np.isnan(found.confidence[:2]).all()


def test_parts_add_up():
    rng = np.random.default_rng(0)
    confidence, is_right = rng.random(500), rng.random(500) < 0.5
    whole, first, second = Calibration(), Calibration(), Calibration()
    whole.add(confidence, is_right)
    first.add(confidence[:200], is_right[:200])
    second.add(confidence[200:], is_right[200:])
    first.merge(second)
    assert first.error == pytest.approx(whole.error)
    np.testing.assert_array_equal(first.pixels, whole.pixels)


@pytest.mark.parametrize("wrong", [-0.1, 1.1, np.nan, 17.0])
def test_a_confidence_that_is_no_probability_is_refused(wrong):
    with pytest.raises(ValueError, match="the confidence of a pixel is a probability, 0 to 1"):
        Calibration().add(np.array([0.5, wrong]), np.array([True, True]))


def test_rounding_of_a_mean_above_one_is_taken_as_one():
    found = Calibration()
    found.add(np.array([1.0000002], np.float32), np.array([True]))
    assert found.pixels[-1] == 1
