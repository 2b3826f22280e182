"""The look of the page needs no other host."""

import re

import pytest

from ccnet.explanation.overlay import WEIGHTS

pytest.importorskip("gradio", reason="gradio is not installed (the extra app)")


def test_no_font_and_no_style_comes_from_elsewhere():
    from ccnet.app.look import CSS, THEME

    assert THEME._stylesheets == []
    assert not re.search(r"url\(|@import|https?:", CSS)


def test_the_bar_below_the_maps_has_their_colors():
    from matplotlib import colormaps

    from ccnet.app.look import CSS

    (colors,) = re.findall(r"linear-gradient\(to right, ([^)]*)\)", CSS)
    shown = colors.split(", ")
    for place, color in enumerate(shown):
        expected = colormaps[WEIGHTS](place / (len(shown) - 1), bytes=True)[:3]
        found = bytes.fromhex(color[1:])
        assert all(abs(a - b) <= 12 for a, b in zip(found, map(int, expected), strict=True)), place
