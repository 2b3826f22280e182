"""Figures of explanations: what they say and show, for every number of passes."""

import numpy as np
import pytest
from PIL import Image

from ccnet import Predictor
from ccnet.datasets import Scenes
from ccnet.explanation import explain
from ccnet.explanation.panels import save_figure
from ccnet.explanation.pictures import (
    entropy_figure,
    evidence_figure,
    influence_figure,
    reach_figure,
)
from tests.conftest import new_tiny_model, with_gamma

pytestmark = pytest.mark.slow

IMAGE = np.tile(Scenes()[0][0], (1, 2, 1))[:40, :72]
POINT = (50, 21)


def titles(figure) -> list[str]:
    return [axis.get_title(loc="left") for axis in figure.axes if axis.get_title(loc="left")]


@pytest.mark.parametrize("recurrence", [1, 2, 3, 5])
def test_reach_has_a_panel_for_each_pass(recurrence, tmp_path):
    explanation = explain(new_tiny_model(recurrence), IMAGE, POINT)
    figure = reach_figure((IMAGE, explanation))
    said = titles(figure)
    assert len(said) == 1 + recurrence
    assert said[0].startswith(f"Pixel (50, 21): “{explanation.class_name}”")
    assert said[1].endswith("in its row and its column")
    save_figure(figure, tmp_path / "a.png")
    Image.open(tmp_path / "a.png").verify()


@pytest.mark.parametrize("counts", [[1], [3], [1, 3], [2, 1]], ids=str)
def test_rows_may_have_different_numbers_of_passes(counts, tmp_path):
    rows = [(IMAGE, explain(new_tiny_model(count), IMAGE, POINT)) for count in counts]
    figure = reach_figure(*rows)
    assert len(titles(figure)) == sum(1 + count for count in counts)
    save_figure(figure, tmp_path / "a.png")


def test_beside_the_cross_of_one_pass_the_image_stays_gray(predictor):
    explanation = explain(predictor, IMAGE, POINT)
    figure = reach_figure((IMAGE, explanation))
    alpha = figure.axes[1].images[-1].get_alpha()
    np.testing.assert_array_equal(alpha > 0, explanation.reach[0] > 0)


def test_a_small_gamma_is_said(predictor):
    assert "small factor" not in text_of(reach_figure((IMAGE, explain(predictor, IMAGE, POINT))))
    faint = with_gamma(new_tiny_model(2), -0.004)
    said = text_of(influence_figure(IMAGE, explain(faint, IMAGE, POINT)))
    assert "small factor γ = -0.004" in said


def text_of(figure) -> str:
    return " ".join(figure.get_supxlabel().split())


def test_influence_shows_three_measures_with_arrows_for_the_pixel_itself(predictor, tmp_path):
    explanation = explain(predictor, IMAGE, POINT)
    figure = influence_figure(IMAGE, explanation)
    assert len(titles(figure)) == 3
    for axis, map in zip(
        figure.axes[:3],
        (explanation.influence, explanation.exact, explanation.gradient),
        strict=True,
    ):
        np.testing.assert_array_equal(axis.images[-1].get_array(), map)
        others = np.delete(np.abs(map).ravel(), explanation.cell[0] * 18 + explanation.cell[1])
        assert axis.images[-1].norm.vmax == pytest.approx(others.max())
    save_figure(figure, tmp_path / "a.png")


def test_evidence_names_the_most_likely_classes_first(predictor, tmp_path):
    explanation = explain(predictor, IMAGE, POINT)
    figure = evidence_figure(IMAGE, explanation)
    names = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert names[0] == explanation.class_name
    assert len(names) == 4
    save_figure(figure, tmp_path / "a.png")


def test_entropy_is_shown_as_a_number_of_places(tmp_path):
    explanation = explain(Predictor(new_tiny_model(2), device="cpu"), IMAGE, POINT)
    figure = entropy_figure(IMAGE, explanation)
    shown = figure.axes[0].images[-1].get_array()
    np.testing.assert_allclose(shown, np.exp(explanation.entropy[0]))
    assert shown.min() >= 1
    assert shown.max() <= 10 + 18 - 1 + 1e-9
    assert "27 places at most" in text_of(figure)
    save_figure(figure, tmp_path / "a.png")
