"""The picture of the ways through the corners, and what it says of them."""

import numpy as np
import pytest
from PIL import Image

from ccnet.datasets import Scenes
from ccnet.explanation import explain
from ccnet.explanation.panels import percent, save_figure
from ccnet.explanation.routes import routes_figure
from tests.conftest import new_tiny_model

IMAGE = np.tile(Scenes()[0][0], (1, 2, 1))[:40, :72]
POINT = (50, 21)


def arrows(figure) -> list[tuple[float, float]]:
    return [tuple(patch._posA_posB) for patch in figure.axes[0].patches]


def text_of(figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def test_four_arrows_lead_from_the_other_pixel_through_both_corners(tmp_path):
    explanation = explain(new_tiny_model(2), IMAGE, POINT, to=(9, 37))
    figure = routes_figure(IMAGE, explanation)
    source, point = (9.5, 37.5), (49.5, 21.5)
    corners = [(9.5, 21.5), (49.5, 37.5)]
    expected = [(source, corner) for corner in corners] + [(corner, point) for corner in corners]
    assert sorted(arrows(figure)) == sorted(expected)
    total = percent(float(explanation.reach[1][9, 2]))
    assert f"together, {total} of what the ring takes up" in text_of(figure)
    save_figure(figure, tmp_path / "a.png")
    Image.open(tmp_path / "a.png").verify()


@pytest.mark.parametrize("other", [(9, 21), (50, 3), POINT], ids=str)
def test_pixels_of_one_line_have_no_corners(other, tmp_path):
    figure = routes_figure(IMAGE, explain(new_tiny_model(2), IMAGE, POINT, to=other))
    assert "share a row or a column" in text_of(figure)
    save_figure(figure, tmp_path / "a.png")


def test_of_three_passes_the_last_two_are_named():
    figure = routes_figure(IMAGE, explain(new_tiny_model(3), IMAGE, POINT, to=(9, 37)))
    (legend,) = figure.legends
    first, second = (text.get_text() for text in legend.get_texts())
    assert first.startswith("pass 2")
    assert second.startswith("pass 3")


def test_one_pass_has_no_way(tmp_path):
    figure = routes_figure(IMAGE, explain(new_tiny_model(1), IMAGE, POINT, to=(9, 37)))
    assert "no way through a corner" in text_of(figure)
    assert not arrows(figure)
    save_figure(figure, tmp_path / "a.png")


def test_without_a_second_pixel_there_is_no_picture(predictor):
    with pytest.raises(ValueError, match="no second pixel"):
        routes_figure(IMAGE, explain(predictor, IMAGE, POINT))
