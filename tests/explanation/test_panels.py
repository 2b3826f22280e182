"""Panels: sizes, percentages, color bars, frames of tiles, class names of any letters."""

import numpy as np
import pytest
from PIL import Image

from ccnet import Predictor
from ccnet.explanation import explain, scale_of
from ccnet.explanation.panels import (
    new_panels,
    percent,
    save_figure,
    set_title,
    show_image,
    show_map,
)
from ccnet.prediction.protocol import Protocol
from tests.conftest import noise


@pytest.mark.parametrize(
    ("share", "text"),
    [
        (0.0, "0 %"),
        (1e-7, "< 0.001 %"),
        (0.000123, "0.012 %"),
        (0.0123, "1.2 %"),
        (0.098, "9.8 %"),
        (0.0996, "10 %"),
        (0.5, "50 %"),
        (1.0, "100 %"),
    ],
)
def test_shares_are_written_as_people_write_them(share, text):
    assert percent(share) == text


@pytest.mark.parametrize("size", [(40, 72), (72, 40), (20, 200), (200, 20)])
def test_panels_of_any_shape_have_room(size, tmp_path):
    image, _ = noise(*size)
    figure, axes = new_panels(image, 2, 3, note="words " * 60)
    assert axes.shape == (2, 3)
    width, height = figure.get_size_inches()
    assert width / 3 > 3
    assert height > 2
    save_figure(figure, tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.size == pytest.approx((120 * width, 120 * height), abs=1)


def test_a_tile_is_framed_in_the_image_and_fills_the_map(tiny_model):
    image, _ = noise(40, 72)
    predictor = Predictor(tiny_model, device="cpu", protocol=Protocol(tile=32, stride=16))
    explanation = explain(predictor, image, (60, 30))
    _, ((first, second),) = new_panels(image, 1, 2, note="")
    show_image(first, image, explanation)
    assert first.get_xlim() == (-0.5, 71.5)
    (frame,) = first.patches
    assert frame.get_bbox().bounds == (39.5, 7.5, 32, 32)
    show_map(second, image, explanation, explanation.influence, scale_of(explanation.influence), "")
    assert second.get_xlim() == (39.5, 71.5)
    assert second.get_ylim() == (39.5, 7.5)


def test_large_images_are_drawn_from_fewer_pixels_at_the_same_coordinates(predictor):
    image = np.zeros((30, 3000, 3), np.uint8)
    _, ((axis,),) = new_panels(image, 1, 1, note="")
    show_image(axis, image, explain(predictor, noise(40, 72)[0], (3, 3)))
    assert axis.images[0].get_array().shape[1] <= 1200
    assert tuple(axis.images[0].get_extent()) == (-0.5, 2999.5, 29.5, -0.5)


def test_names_with_any_letters_are_no_mathematics_and_no_warning(tmp_path):
    figure, ((axis,),) = new_panels(noise(20, 20)[0], 1, 1, note="道路 $x_")
    set_title(axis, "“道路 $\\frac”")
    save_figure(figure, tmp_path / "a.png")
    Image.open(tmp_path / "a.png").verify()
