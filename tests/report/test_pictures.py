"""Colours of labels, and pictures that open."""

import numpy as np
import pytest
from PIL import Image

from ccnet.datasets import Scenes
from ccnet.images.colors import colorize, overlay
from ccnet.report.attention import save_attention
from ccnet.report.curves import save_curves
from ccnet.report.pictures import save_comparison

PALETTE = ((0, 0, 0), (10, 20, 30), (255, 0, 200))


def read_png(path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.array(picture.convert("RGB"))


def test_labels_get_their_classes_colours_and_ignored_ones_white():
    labels = np.array([[0, 1], [2, 255]], np.uint8)
    colours = colorize(labels, PALETTE)
    assert colours.dtype == np.uint8
    assert colours.tolist() == [[[0, 0, 0], [10, 20, 30]], [[255, 0, 200], [255, 255, 255]]]


@pytest.mark.parametrize(
    ("opacity", "expected"),
    [(0, [100, 100, 100]), (0.25, [78, 80, 82]), (1, [10, 20, 30])],
)
def test_an_overlay_lies_between_image_and_colours(opacity, expected):
    image, labels = np.full((1, 1, 3), 100, np.uint8), np.ones((1, 1), np.uint8)
    mixed = overlay(image, labels, PALETTE, opacity)
    assert mixed.dtype == np.uint8
    assert mixed.tolist() == [[expected]]


def test_an_overlay_never_wraps_around():
    image, labels = np.full((2, 2, 3), 255, np.uint8), np.full((2, 2), 255, np.uint8)
    assert (overlay(image, labels, PALETTE) == 255).all()


def test_a_comparison_shows_the_colours_of_its_classes(tmp_path):
    image, label = Scenes()[0]
    path = tmp_path / "new folder" / "comparison.png"
    save_comparison(path, [(image, label, label)] * 2, Scenes.classes, Scenes.palette)
    shown = {tuple(colour) for colour in read_png(path).reshape(-1, 3).tolist()}
    assert set(Scenes.palette[1:]) <= shown


@pytest.mark.parametrize("counts", [[1], [3], [1, 3]], ids=str)
def test_attention_is_drawn_for_any_number_of_passes(tmp_path, counts):
    image, _ = Scenes()[0]
    maps = np.random.default_rng(0).random((3, 8, 8))
    save_attention(tmp_path / "a.png", [(image, (5, 9), list(maps[:count])) for count in counts])
    height, width, _ = read_png(tmp_path / "a.png").shape
    assert width == pytest.approx(120 * 2.4 * (1 + max(counts)), abs=1)
    assert height == pytest.approx(120 * (2.4 * len(counts) + 0.6), abs=1)


LOG = """step,epoch,loss,lr,miou
10,0,1.5,0.1,
20,0,1.2,0.1,
20,0,,,0.31
30,1,0.9,0.1,0.42
"""


@pytest.mark.parametrize("log", [LOG, LOG[:24], LOG[:43]], ids=["full", "header", "no scores"])
def test_curves_are_drawn_from_a_log_with_blank_cells(tmp_path, log):
    (tmp_path / "log.csv").write_text(log)
    save_curves(tmp_path / "curves.png", tmp_path / "log.csv")
    assert np.ptp(read_png(tmp_path / "curves.png")) == 255


@pytest.mark.unchecked
def test_an_overlay_wants_rgb_of_either_depth():
    image = np.full((2, 2, 3), 100, np.uint8)
    labels, palette = np.zeros((2, 2), np.uint8), ((10, 20, 30),)
    expected = overlay(image, labels, palette)
    np.testing.assert_array_equal(overlay(image.astype(np.uint16) * 257, labels, palette), expected)
    with pytest.raises(ValueError, match="RGB image; this one has 5 channels"):
        overlay(np.zeros((2, 2, 5), np.uint8), labels, palette)
