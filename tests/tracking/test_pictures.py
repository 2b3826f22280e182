"""Pictures of predictions: which images, when, and how large."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ccnet import Predictor
from ccnet.config import TrainConfig
from ccnet.datasets import Scenes
from ccnet.tracking.pictures import (
    MOST_PICTURES,
    picture_is_due,
    pictured,
    reduced,
    save_predictions,
)


def test_the_images_are_spread_over_the_data_set():
    assert pictured(100, 4) == [12, 37, 62, 87]
    assert pictured(3, 4) == [0, 1, 2]
    assert pictured(1, 1) == [0]
    assert pictured(5, 0) == []


@pytest.mark.parametrize("steps", [10, 640, 645, 6400, 10_005, 123_456])
def test_a_run_has_a_bounded_number_of_pictures(steps):
    config = TrainConfig(steps=steps, validate_every=10)
    validations = [*range(10, steps + 1, 10), steps]
    drawn = {step for step in validations if picture_is_due(config, step)}
    assert steps in drawn
    assert min(MOST_PICTURES / 2, steps / 10) <= len(drawn) <= MOST_PICTURES
    assert not picture_is_due(replace(config, pictures=0), steps)


def test_a_picture_shows_images_truths_and_predictions(tmp_path, predictor):
    save_predictions(tmp_path / "folder" / "a.png", predictor, Scenes("val"), [0, 9])
    with Image.open(tmp_path / "folder" / "a.png") as picture:
        assert picture.size[0] == 3 * 288
        pixels = np.asarray(picture.convert("RGB")).reshape(-1, 3)
    colors = set(map(tuple, pixels.tolist()))
    assert set(Scenes.palette) <= colors


def test_large_images_are_reduced_alike(tiny_model):
    image = np.zeros((1300, 700, 3), np.uint8)
    label = np.arange(1300 * 700).reshape(1300, 700).astype(np.uint8) % 4
    small, truth, prediction = reduced(image, label, Predictor(tiny_model, device="cpu"))
    assert small.shape == (434, 234, 3)
    assert truth.shape == prediction.shape == (434, 234)
    assert np.array_equal(truth, label[::3, ::3])
