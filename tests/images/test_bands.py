"""Bands: which are taken of an image, in which range, and what is refused."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from ccnet.images.bands import (
    Bands,
    cannot_choose,
    is_range,
    require_choice,
    require_numbers,
    require_transparency,
)
from ccnet.runtime.files import DataError

TWELVE = Bands((3, 1), 3, "uint16", ((0.0, 4095.0), (100.0, 300.0)))


def test_bands_are_taken_in_order_and_scaled_to_16_bits():
    stored = np.array([[[100, 7, 0], [200, 7, 4095], [9999, 7, 819]]], np.uint16)
    image = TWELVE.read("a", stored)
    assert image.dtype == np.uint16
    assert image.tolist() == [[[0, 0], [65535, 32768], [13107, 65535]]]


@pytest.mark.parametrize(("dtype", "top"), [("uint8", 255), ("uint16", 65535)])
def test_whole_types_stay_as_they_are(dtype, top):
    bands = Bands((2,), 2, dtype, ((0.0, float(top)),))
    stored = np.array([[[1, 5], [2, top]]], dtype)
    assert bands.read("a", stored).tolist() == [[[5], [top]]]
    assert bands.result_dtype == bands.read("a", stored).dtype == dtype


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "float16", "float64"])
def test_numbers_of_every_type_are_scaled(dtype):
    bands = Bands((1,), 1, dtype, ((-10.0, 90.0),))
    stored = np.array([[[-100], [-10], [40], [90], [120]]]).astype(dtype)
    expected = [[0], [0], [32768], [65535], [65535]]
    if dtype == "uint32":
        expected[:2] = [[65535], [65535]]
    assert bands.read("a", stored).tolist() == [expected]


def test_large_whole_numbers_keep_their_digits():
    bands = Bands((1,), 1, "int32", ((10**9, 10**9 + 10.0),))
    stored = np.array([[[10**9], [10**9 + 5]]], np.int32)
    assert bands.read("a", stored).tolist() == [[[0], [32768]]]


def test_floats_that_are_no_numbers_are_counted_and_refused_unless_they_mean_nothing():
    bands = Bands((1,), 1, "float32", ((1.0, 2.0),))
    stored = np.array([[[1.0], [np.nan], [np.inf]]], np.float32)
    with pytest.raises(DataError, match=r"a\.tif: 2 pixels of band 1 are nan or infinite"):
        bands.read(Path("a.tif"), stored)
    assert bands.read("a", stored[:, :2], nodata=math.nan).tolist() == [[[0], [0]]]
    lost = np.array([[[-9999.0], [2.0]]], np.float32)
    assert bands.read("a", lost, nodata=-9999.0).tolist() == [[[0], [65535]]]


def test_images_of_other_bands_or_types_are_refused():
    for shape, dtype, said in (
        ((2, 2, 4), np.uint16, "4 bands of uint16 where 3 bands of uint16 are wanted"),
        ((2, 2, 3), np.uint8, "3 bands of uint8 where 3 bands of uint16 are wanted"),
        ((2, 2, 1), np.uint16, "1 band of uint16 where 3 bands"),
    ):
        with pytest.raises(DataError, match=said):
            TWELVE.read(Path("a.tif"), np.zeros(shape, dtype))


def test_what_config_json_holds_is_read_back():
    plain = json.loads(json.dumps(TWELVE.to_dict()))
    assert Bands.from_dict(plain) == TWELVE
    assert TWELVE.only_taken().numbers == (1, 2)
    assert str(TWELVE) == (
        "of 3 bands of uint16 these are taken, with the values: 3 (0 to 4095), 1 (100 to 300)"
    )


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"of": 0}, "bands of must be from 1 to 1024"),
        ({"of": 2}, "bands are numbers from 1 to 2"),
        ({"numbers": [3, 3]}, "bands must differ"),
        ({"numbers": [1]}, r"bands ranges must be \[low, high\] for each of 1 bands"),
        ({"numbers": [True, 2]}, "bands are numbers"),
        ({"dtype": "complex64"}, "bands dtype must be"),
        ({"ranges": [[0, 1], [1, 1]]}, "bands ranges"),
        ({"ranges": [[0, 1], [0, math.inf]]}, "bands ranges"),
        ({"more": 1}, "bands must have the keys"),
    ],
)
def test_a_damaged_description_is_refused(change, said):
    with pytest.raises(ValueError, match=said):
        Bands.from_dict(TWELVE.to_dict() | change)
    with pytest.raises(ValueError, match="bands must have the keys"):
        Bands.from_dict([1, 2])


def test_options_that_cannot_be_are_refused():
    require_choice([1, 4], [0, 4095])
    require_choice(None, "percentiles")
    for numbers, value_range, said in (
        ([], None, "data.bands"),
        ([1, 1], None, "data.bands"),
        (None, [1], "data.value_range"),
        (None, [3, 1], "data.value_range"),
    ):
        with pytest.raises(ValueError, match=said):
            require_choice(numbers, value_range)
    with pytest.raises(ValueError, match="numbers from 1 to 4"):
        require_numbers([5], 4)
    assert is_range([0, 0.5])
    assert not is_range([0, math.nan])


def test_transparency_is_told_from_a_band():
    mask = np.zeros((10, 10), np.uint8)
    mask[:5] = 255
    mask[5, :9] = 100  # a soft edge
    require_transparency(Path("a.tif"), mask, 4)
    with pytest.raises(DataError, match=r"a\.tif: 4 bands, where RGB has 3.*\[1,2,3,4\]"):
        require_transparency(Path("a.tif"), np.full((10, 10), 90, np.uint8), 4)
    assert "does not call gray or RGB" in cannot_choose(2)
