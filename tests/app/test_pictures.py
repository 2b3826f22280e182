"""Pictures and tables of the page."""

import io

import numpy as np
import pytest
from PIL import Image

from ccnet.app.pictures import (
    LONGEST_SHOWN,
    figure,
    jpeg,
    notice,
    overlay_picture,
    scale_of,
    share_table,
)
from ccnet.app.results import Segmentation

CLASSES = ("road", "<script>", "sky")
PALETTE = ((128, 64, 128), (255, 0, 0), (0, 0, 255))


def segmentation(height: int = 30, width: int = 40) -> Segmentation:
    image = np.full((height, width, 3), 100, np.uint8)
    labels = np.zeros((height, width), np.uint8)
    labels[: height // 2] = 1
    top = np.stack([labels, 1 - labels])
    return Segmentation(image, labels, top, top.astype(np.float16), "whole image", 0.5)


def decoded(picture: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(picture)), np.int16)


@pytest.mark.parametrize("size", [(1, 1), (64, 64), (360, 480), (1080, 1920), (3000, 200)])
def test_a_place_in_the_picture_is_the_pixel_below_it(size):
    scale = scale_of(*size)
    assert max(scale.shown) <= LONGEST_SHOWN
    (height, width), (high, wide) = size, scale.shown
    assert scale.pixel_at(0, 0) == (0, 0)
    assert scale.pixel_at(wide - 1, high - 1) == (
        int((wide - 1) * width / wide),
        int((high - 1) * height / high),
    )
    assert scale.pixel_at(wide, high) == (width - 1, height - 1)  # the edge itself
    x, y = scale.pixel_at(wide / 2, high / 2)
    assert abs(x - width / 2) <= 1
    assert abs(y - height / 2) <= 1


def test_the_overlay_is_the_image_or_the_colors_at_both_ends():
    found = segmentation()
    image = decoded(overlay_picture(found, PALETTE, 0.0))
    assert image.shape == (*scale_of(30, 40).shown, 3)
    assert np.abs(image - 100).max() <= 3
    colors = decoded(overlay_picture(found, PALETTE, 1.0))
    assert np.abs(colors[5, 5] - PALETTE[1]).max() <= 5
    assert np.abs(colors[-5, 5] - PALETTE[0]).max() <= 5


def test_a_large_image_is_reduced():
    found = segmentation(200, 2 * LONGEST_SHOWN)
    assert decoded(overlay_picture(found, PALETTE, 0.5)).shape == (100, LONGEST_SHOWN, 3)


def test_the_table_has_the_shares_and_what_is_absent_and_no_markup_of_others():
    table = share_table(segmentation(), CLASSES, PALETTE, "<b>model")
    assert table.count("50.0 %") == 2
    assert "&lt;script&gt;" in table
    assert "&lt;b&gt;model" in table
    assert "<script>" not in table
    assert "Not in this image: sky" in table
    assert "#804080" in table
    assert "40×30 pixels" in table


def test_notices_and_figures_escape_their_text():
    assert notice("a <b>") == '<p class="notice" role="status">a &lt;b&gt;</p>'
    assert 'role="alert"' in notice("wrong", is_error=True)
    assert 'alt="a &lt;b&gt;&quot;"' in figure(jpeg(np.zeros((2, 2, 3), np.uint8)), 'a <b>"')
