"""Diagrams: they are drawn, and what they claim is true of the operator."""

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet.explanation.diagrams import (
    ALL_SEEN,
    FIGURES,
    HEIGHT,
    OTHER_PIXEL,
    PIXEL,
    SEEN,
    WIDTH,
    on_cross,
    recurrence_figure,
)
from ccnet.explanation.panels import save_figure
from ccnet.explanation.rows import frozen_passes, reach
from tests.explanation.test_rows import features_of, sharp_attention


@pytest.mark.parametrize("name", FIGURES)
def test_every_diagram_is_drawn(name, tmp_path):
    save_figure(FIGURES[name](), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        picture.load()
        assert picture.width > 500


def test_what_passes_see_in_the_diagram_is_what_they_see():
    attention = sharp_attention(2)
    passes, _ = frozen_passes(attention, features_of(attention, HEIGHT, WIDTH))
    one, two = (row > 0 for row in reach(passes, PIXEL))
    np.testing.assert_array_equal(one, on_cross(PIXEL))
    assert two.all()
    assert one.sum() == HEIGHT + WIDTH - 1
    assert not one[OTHER_PIXEL]
    assert torch.equal(two, torch.ones(HEIGHT, WIDTH, dtype=torch.bool))
    panels = recurrence_figure().axes[1:]
    for axis, expected in zip(panels, (SEEN, ALL_SEEN), strict=True):
        colors = [patch.get_facecolor() for patch in axis.patches[: HEIGHT * WIDTH]]
        assert len(set(colors)) == 2
        rgb = tuple(int(expected[i : i + 2], 16) / 255 for i in (1, 3, 5))
        assert any(color[:3] == pytest.approx(rgb, abs=1e-6) for color in colors)
