"""Images as they are stored: kinds by the header, all bands of TIFFs, arrays and pictures."""

import numpy as np
import pytest
from PIL import Image

from ccnet.images.bands import Bands
from ccnet.images.stored import Kind, read_bands, read_stored, stored_kind
from ccnet.runtime.files import DataError
from tests.images.test_tiff import write_tiff

rasterio = pytest.importorskip("rasterio")
pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")


def five(dtype="uint16"):
    return np.random.default_rng(0).integers(0, 200, (20, 30, 5)).astype(dtype)


def write_by_gdal(path, pixels, **options):
    height, width, count = pixels.shape
    size = {"height": height, "width": width, "count": count, "dtype": pixels.dtype.name}
    with rasterio.open(path, "w", driver="GTiff", **size, **options) as file:
        file.write(np.moveaxis(pixels, 2, 0))
    return path


def test_the_kind_of_pictures_and_arrays(tmp_path):
    for mode, kind in (
        ("RGB", Kind(3, "uint8")),
        ("RGBA", Kind(3, "uint8")),
        ("L", Kind(1, "uint8")),
        ("P", Kind(3, "uint8")),
        ("I;16", Kind(1, "uint16")),
    ):
        Image.new(mode, (4, 3)).save(tmp_path / "a.png")
        assert stored_kind(tmp_path / "a.png") == kind
    for shape, dtype, kind in (
        ((3, 4), "float32", Kind(1, "float32")),
        ((3, 4, 7), ">i2", Kind(7, "int16")),
    ):
        np.save(tmp_path / "a.npy", np.zeros(shape, dtype))
        assert stored_kind(tmp_path / "a.npy") == kind
    assert Kind(3, "uint8").is_photograph
    assert not Kind(4, "uint8").is_photograph
    assert str(Kind(1, "float32")) == "1 band of float32"


def test_the_kind_of_tiffs(tmp_path):
    path = write_by_gdal(tmp_path / "a.tif", five())
    assert stored_kind(path) == Kind(5, "uint16", is_known=False)
    path = write_by_gdal(tmp_path / "b.tif", five("uint8")[:, :, :4])  # GDAL calls it transparency
    assert stored_kind(path) == Kind(4, "uint8", has_alpha=True)
    path = write_by_gdal(tmp_path / "c.tif", five("uint8")[:, :, :3])
    assert stored_kind(path).is_photograph
    path = write_by_gdal(tmp_path / "d.tif", five("uint8")[:, :, :4], photometric="CMYK")
    assert stored_kind(path).is_photograph  # which Pillow converts


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"compress": "deflate", "predictor": 3},
        {"compress": "deflate", "predictor": 3, "interleave": "band", "tiled": True},
        {"compress": "lzw", "predictor": 3},
        {"compress": "zstd"},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_floats_of_every_compression(tmp_path, options, dtype):
    size = {"blockxsize": 16, "blockysize": 16} if "tiled" in options else {}
    pixels = (five(dtype) - 77) / 3
    path = write_by_gdal(tmp_path / "a.tif", pixels, **options, **size)
    np.testing.assert_array_equal(read_stored(path).pixels, pixels)


@pytest.mark.parametrize("dtype", ["int8", "int16", "int32", "uint32", "uint8", "uint16"])
def test_whole_numbers_of_every_type(tmp_path, dtype):
    pixels = five(dtype)
    for options in ({}, {"compress": "deflate", "predictor": 2}, {"compress": "lzw"}):
        path = write_by_gdal(tmp_path / "a.tif", pixels, **options)
        np.testing.assert_array_equal(read_stored(path).pixels, pixels)
    np.save(tmp_path / "a.npy", pixels)
    np.testing.assert_array_equal(read_stored(tmp_path / "a.npy").pixels, pixels)


def test_compressions_that_need_rasterio_say_so(tmp_path, monkeypatch):
    path = write_by_gdal(tmp_path / "a.tif", five(), compress="lzw")
    monkeypatch.setattr("ccnet.images.stored.find_spec", lambda _: None)
    with pytest.raises(DataError, match=r"compression 5 needs rasterio: pip install 'criss-cross"):
        read_stored(path)


def test_the_value_of_pixels_that_hold_nothing_is_read(tmp_path):
    for nodata in (-9999.0, float("nan"), None):
        path = write_by_gdal(tmp_path / "a.tif", five("float32"), nodata=nodata)
        found = read_stored(path).nodata
        assert found == nodata or (found != found and nodata != nodata)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiffs_are_turned_upright_as_pictures_are(tmp_path, orientation):
    pixels = five("uint8")[:, :, :1]
    path = write_tiff(tmp_path / "a.tif", pixels, tag274=(3, [orientation]))
    with Image.open(path) as picture:
        expected = np.asarray(picture)
    np.testing.assert_array_equal(read_stored(path).pixels[:, :, 0], expected)


def test_chosen_bands_of_a_file(tmp_path):
    path = write_tiff(tmp_path / "a.tif", five())
    bands = Bands((5, 2), 5, "uint16", ((0.0, 65535.0),) * 2)
    np.testing.assert_array_equal(read_bands(path, bands), five()[:, :, [4, 1]])
    with pytest.raises(DataError, match="5 bands of uint16 where 4 bands"):
        read_bands(path, Bands((1,), 4, "uint16", ((0.0, 1.0),)))


def test_transparency_of_a_png_is_left_out(tmp_path):
    Image.fromarray(five("uint8")[:, :, :4], "RGBA").save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_stored(tmp_path / "a.png").pixels, five("uint8")[:, :, :3])


def test_inverted_grays_are_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", five()[:, :, :1], tag262=(3, [0]))
    with pytest.raises(DataError, match="photometric interpretation 0"):
        read_stored(path)
