"""The look of the page needs no other host."""

import re

import pytest

pytest.importorskip("gradio", reason="gradio is not installed (the extra app)")


def test_no_font_and_no_style_comes_from_elsewhere():
    from ccnet.app.look import CSS, THEME

    assert THEME._stylesheets == []
    assert not re.search(r"url\(|@import|https?:", CSS)
