"""Diagrams: they are drawn, and what they claim is true of the operator."""

import importlib
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet.explanation.panels import save_figure
from ccnet.explanation.rows import frozen_passes, reach
from tests.documentation.blocks import ROOT
from tests.explanation.test_rows import features_of, sharp_attention


@pytest.fixture
def diagrams(monkeypatch):
    monkeypatch.syspath_prepend(ROOT / "docs")
    yield importlib.import_module("diagrams")
    del sys.modules["diagrams"]


@pytest.mark.parametrize("name", ["cross_figure", "recurrence_figure", "corners_figure"])
def test_every_diagram_is_drawn(diagrams, name, tmp_path):
    save_figure(getattr(diagrams, name)(), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        picture.load()
        assert picture.width > 500


def test_what_passes_see_in_the_diagram_is_what_they_see(diagrams):
    height, width, pixel = diagrams.HEIGHT, diagrams.WIDTH, diagrams.PIXEL
    attention = sharp_attention(2)
    passes, _ = frozen_passes(attention, features_of(attention, height, width))
    one, two = (row > 0 for row in reach(passes, pixel))
    np.testing.assert_array_equal(one, diagrams.on_cross(pixel))
    assert two.all()
    assert one.sum() == height + width - 1
    assert not one[diagrams.OTHER_PIXEL]
    assert torch.equal(two, torch.ones(height, width, dtype=torch.bool))
    panels = diagrams.recurrence_figure().axes[1:]
    for axis, expected in zip(panels, (diagrams.SEEN, diagrams.ALL_SEEN), strict=True):
        colors = [patch.get_facecolor() for patch in axis.patches[: height * width]]
        assert len(set(colors)) == 2
        rgb = tuple(int(expected[i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert any(color[:3] == pytest.approx(rgb, abs=1e-6) for color in colors)
