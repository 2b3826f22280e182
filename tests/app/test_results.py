"""What is computed for an image, its limits, and what is kept of it."""

import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from ccnet.app import results
from ccnet.app.loading import with_protocol
from ccnet.app.results import Results, Segmentation, pixel_limit, segment
from ccnet.runtime.files import DataError
from tests.app.serving import png
from tests.conftest import noise


def result(pixels: int = 100) -> Segmentation:
    image, labels = noise(1, pixels)
    top = np.zeros((2, 1, pixels), np.uint8)
    return Segmentation(image, labels, top, top.astype(np.float16), "whole image", 0.1)


def test_labels_and_probabilities_are_the_predictor_s(predictor, tmp_path, monkeypatch):
    monkeypatch.setattr(results, "BLOCK", 300)  # several blocks
    path = tmp_path / "image.png"
    image = noise(40, 56)[0]
    path.write_bytes(png(image))
    found = segment(predictor, path)
    np.testing.assert_array_equal(found.image, image)
    np.testing.assert_array_equal(found.labels, predictor.predict(image))
    expected = predictor.probabilities(image)
    np.testing.assert_array_equal(found.top_classes[0], expected.argmax(0))
    ordered = -np.sort(-expected, axis=0)[: len(found.top_probabilities)]
    np.testing.assert_allclose(found.top_probabilities, ordered, atol=1e-3)
    assert found.protocol == "whole image"
    assert found.num_bytes == image.size + found.labels.size * (1 + 4 * 3)
    assert sum(found.shares(4)) == pytest.approx(1)


def test_an_image_of_too_many_pixels_is_refused(predictor, tmp_path):
    path = tmp_path / "image.png"
    path.write_bytes(png(noise(20, 51)[0]))
    with pytest.raises(DataError, match=r"51×20 pixels, more than .* 4 classes .* whole image; "):
        segment(predictor, path, max_pixels=1000)


def test_larger_scales_and_more_classes_take_fewer_pixels(predictor, monkeypatch):
    assert pixel_limit(predictor, 1000) == 1000
    assert pixel_limit(with_protocol(predictor, "multiscale"), 1000) == 250
    monkeypatch.setattr(results, "MAX_SCORES", 4 * 4 * 500)
    assert pixel_limit(predictor, 1000) == 500


def test_the_results_that_were_not_used_for_longest_go_first():
    size = result().num_bytes
    kept, lock = Results(max_bytes=2 * size), threading.Lock()
    for key in "ab":
        kept.find_or_make(key, result, lock)
    assert kept.find("a") is not None
    kept.find_or_make("c", result, lock)
    assert [key for key in "abc" if kept.find(key) is not None] == ["a", "c"]
    assert kept.num_bytes == 2 * size


def test_a_result_that_is_too_large_is_given_but_not_kept():
    kept = Results(max_bytes=10)
    assert kept.find_or_make("a", result, threading.Lock()).num_bytes > 10
    assert kept.num_bytes == 0


def test_threads_that_ask_for_the_same_make_it_once():
    kept, lock, made = Results(), threading.Lock(), []

    def make() -> Segmentation:
        made.append(1)
        return result()

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: kept.find_or_make("a", make, lock), range(8)))
    assert made == [1]
    assert all(one is found[0] for one in found)
