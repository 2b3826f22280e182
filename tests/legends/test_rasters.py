"""Numbers and colors of pictures of every mode."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.legends.rasters import color_raster, is_gray, number_raster, own_colors
from ccnet.runtime.files import DataError


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "I", "F"])
def test_a_picture_of_one_value_per_pixel_has_numbers(mode: str):
    picture = Image.new("L", (2, 1), 1).convert(mode) if mode != "1" else Image.new("1", (2, 1), 1)
    if mode in ("P", "PA"):
        picture = Image.new("P", (2, 1), 1).convert(mode)
    assert number_raster(picture, 8, Path("a")).tolist() == [[1, 1]]


def test_colors_have_no_numbers():
    picture = Image.new("RGB", (2, 1), (1, 2, 3))
    assert not is_gray(picture)
    assert color_raster(picture).tolist() == [[0x030201] * 2]
    with pytest.raises(DataError, match="this file has colors"):
        number_raster(picture, 8, Path("a"))


@pytest.mark.parametrize(("bits", "step"), [(1, 255), (2, 85), (4, 17), (8, 1)])
def test_numbers_of_gray_pictures_have_gray_colors(bits: int, step: int):
    own = own_colors(Image.new("1" if bits == 1 else "L", (1, 1)), bits)
    assert own == {i: (i * step,) * 3 for i in range(2**bits)}
    assert own_colors(Image.fromarray(np.zeros((1, 1), np.int32)), 32) == {}
