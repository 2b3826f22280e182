"""Windows of image files: equal to the same part of the whole, whatever stores it."""

import os
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from ccnet.images.bands import Bands
from ccnet.images.reading import read_image
from ccnet.images.windows import open_windows
from ccnet.runtime.files import DataError

pytestmark = pytest.mark.filterwarnings("ignore:Dataset has no geotransform")
WINDOW = (37, 21, 50, 60)  # over the borders of blocks


def random_pixels(channels=3, dtype=np.uint8, size=(120, 150)):
    rng = np.random.default_rng(0)
    return rng.integers(0, np.iinfo(dtype).max, (*size, channels), dtype, endpoint=True)


def write_tiff(path, pixels, **options):
    rasterio = pytest.importorskip("rasterio")
    height, width, channels = pixels.shape
    options = {"tiled": True, "blockxsize": 32, "blockysize": 16} | options
    shape = {"height": height, "width": width, "count": channels, "dtype": pixels.dtype}
    with rasterio.open(path, "w", driver="GTiff", **shape, **options) as dataset:
        dataset.write(np.moveaxis(pixels, -1, 0))
    return path


def cut(pixels, window=WINDOW):
    top, left, height, width = window
    return pixels[top : top + height, left : left + width]


def window_of(path, channels, window=WINDOW):
    with open_windows(path, channels) as image:
        pixels = image.read(*window)
        assert (image.channels, image.dtype) == (channels, pixels.dtype)
        whole = image.read(0, 0, image.height, image.width)
    np.testing.assert_array_equal(cut(whole, window), pixels)
    return pixels


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"tiled": False, "blockysize": 7},
        {"compress": "lzw", "predictor": 2},
        {"compress": "deflate", "interleave": "band"},
        {"compress": "zstd"},
        {"compress": "packbits", "BIGTIFF": "YES"},
    ],
    ids=str,
)
@pytest.mark.parametrize(("channels", "dtype"), [(3, np.uint8), (1, np.uint16), (6, np.uint16)])
def test_a_tiff_of_any_compression_and_layout(tmp_path, options, channels, dtype):
    pixels = random_pixels(channels, dtype)
    path = write_tiff(tmp_path / "a.tif", pixels, **options)
    np.testing.assert_array_equal(window_of(path, channels), cut(pixels))


@pytest.mark.parametrize(
    ("stored", "wanted"),
    [((1, "gray"), 3), ((3, "rgb"), 1), ((1, "gray"), 1)],
    ids=str,
)
def test_channels_are_made_as_of_whole_images(tmp_path, stored, wanted):
    channels, photometric = stored
    photometric = {"gray": "MINISBLACK", "rgb": "RGB"}[photometric]
    path = write_tiff(tmp_path / "a.tif", random_pixels(channels), photometric=photometric)
    np.testing.assert_array_equal(window_of(path, wanted), cut(read_image(path, wanted)))


@pytest.mark.parametrize("channels", [1, 3])
def test_sixteen_bits_become_eight_where_three_channels_are_wanted(tmp_path, channels):
    path = write_tiff(tmp_path / "a.tif", random_pixels(channels, np.uint16))
    expected = np.rint(cut(random_pixels(channels, np.uint16)) / 257)
    np.testing.assert_array_equal(window_of(path, 3), np.broadcast_to(expected, (50, 60, 3)))


@pytest.mark.parametrize("options", [{"photometric": "MINISWHITE"}, {"photometric": "CMYK"}])
def test_kinds_that_only_pillow_converts_are_decoded_as_a_whole(tmp_path, options):
    channels = 4 if options["photometric"] == "CMYK" else 1
    path = write_tiff(tmp_path / "a.tif", random_pixels(channels), **options)
    np.testing.assert_array_equal(window_of(path, 3), cut(read_image(path, 3)))
    with pytest.raises(DataError, match="cannot be read in windows as 3 channels"):
        open_windows(path, 3, max_pixels=1000)


def test_a_tiff_that_is_turned_by_a_tag_is_turned_upright(tmp_path):
    picture = Image.fromarray(random_pixels())
    picture.getexif()[274] = 6
    picture.save(tmp_path / "a.tif", exif=picture.getexif())
    assert read_image(tmp_path / "a.tif").shape == (150, 120, 3)
    with open_windows(tmp_path / "a.tif") as image:
        assert (image.height, image.width) == (150, 120)
        np.testing.assert_array_equal(image.read(0, 0, 150, 120), read_image(image.path))


def test_a_georeference_is_read_and_absent_pixels_are_marked(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    pixels = random_pixels(2, np.uint16)
    pixels[40:60, 30:90] = 9
    pixels[50, 50] = (9, 8)  # one band is there
    ground = rasterio.Affine(0.5, 0, 3e5, 0, -0.5, 5e6)
    path = write_tiff(tmp_path / "a.tif", pixels, crs="EPSG:32632", transform=ground, nodata=9)
    with open_windows(path, 2) as image:
        assert image.georeference is not None
        assert image.georeference.profile() == {"crs": "EPSG:32632", "transform": ground}
        absent = image.absent(*WINDOW)
    assert absent is not None
    np.testing.assert_array_equal(absent, (cut(pixels) == 9).all(2))
    assert 0 < absent.sum() < absent.size


def test_alpha_marks_absent_pixels_unless_the_network_takes_it(tmp_path):
    pixels = random_pixels(4)
    path = write_tiff(tmp_path / "a.tif", pixels, photometric="RGB", alpha="YES")
    with open_windows(path, 3) as image:
        np.testing.assert_array_equal(image.absent(*WINDOW), cut(pixels)[:, :, 3] == 0)
    with open_windows(path, 4) as image:
        assert image.absent(*WINDOW) is None


@pytest.mark.parametrize("dtype", ["u1", "<u2", ">u2"])
def test_an_array_is_read_row_by_row(tmp_path, dtype, monkeypatch):
    pixels = random_pixels(5, np.dtype(dtype).newbyteorder("=")).astype(dtype)
    np.save(tmp_path / "a.npy", pixels)
    monkeypatch.setattr("ccnet.images.windows.read_image", lambda *_: pytest.fail("decoded"))
    found = window_of(tmp_path / "a.npy", 5)
    np.testing.assert_array_equal(found, cut(pixels))
    assert found.dtype.isnative


def test_arrays_of_one_channel_and_in_columns(tmp_path):
    np.save(tmp_path / "a.npy", random_pixels(1)[:, :, 0])
    np.testing.assert_array_equal(window_of(tmp_path / "a.npy", 1), cut(random_pixels(1)))
    np.save(tmp_path / "b.npy", np.asfortranarray(random_pixels()))
    np.testing.assert_array_equal(window_of(tmp_path / "b.npy", 3), cut(random_pixels()))


def test_other_formats_are_decoded(tmp_path):
    Image.fromarray(random_pixels()).save(tmp_path / "a.png")
    np.testing.assert_array_equal(window_of(tmp_path / "a.png", 3), cut(random_pixels()))


def test_what_cannot_be_read_is_one_clear_line(tmp_path):
    path = write_tiff(tmp_path / "a.tif", random_pixels(), compress="deflate")
    (tmp_path / "b.tif").write_bytes(path.read_bytes()[:20000])
    (tmp_path / "c.tif").write_bytes(b"nonsense")
    (tmp_path / "d.npy").write_bytes(b"nonsense")
    np.save(tmp_path / "e.npy", np.zeros((4, 4, 3), np.float32))
    os.mkfifo(tmp_path / "f.tif")
    os.mkfifo(tmp_path / "g.npy")
    for name in ("b.tif", "c.tif", "d.npy", "e.npy", "f.tif", "g.npy", "missing.tif", "h.npy"):
        with (
            pytest.raises(DataError, match=f"^{tmp_path / name}: .*") as error,
            open_windows(tmp_path / name) as image,
        ):
            image.read(0, 0, 120, 150)
        assert "\n" not in str(error.value)


def test_damage_in_the_middle_is_found_where_it_is(tmp_path):
    path = write_tiff(tmp_path / "a.tif", random_pixels(), compress="deflate")
    content = bytearray(path.read_bytes())
    content[len(content) // 2 : len(content) // 2 + 500] = bytes(500)
    path.write_bytes(content)
    with open_windows(path) as image, pytest.raises(DataError, match="damaged between rows 0 and"):
        image.read(0, 0, 120, 150)


def test_without_rasterio_small_tiffs_are_decoded_and_large_ones_name_the_extra(
    tmp_path, monkeypatch
):
    Image.fromarray(random_pixels()).save(tmp_path / "a.tif")
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    monkeypatch.setattr("ccnet.images.windows.find_spec", lambda _: None)
    np.testing.assert_array_equal(window_of(tmp_path / "a.tif", 3), cut(random_pixels()))
    with pytest.raises(ImportError, match=r"criss-cross\[geo\]"):
        open_windows(tmp_path / "a.tif", 3, max_pixels=1000)


def test_a_fourth_band_is_transparency_only_if_it_has_its_values(tmp_path):
    pixels = random_pixels(4)
    path = write_tiff(tmp_path / "a.tif", pixels)  # which GDAL calls transparency
    for read in (lambda: window_of(path, 3), lambda: read_image(path)):
        with pytest.raises(DataError, match="4 bands, where RGB has 3, and none is left out"):
            read()
    pixels[:, :, 3] = 255 * (pixels[:, :, 3] > 99)
    path = write_tiff(tmp_path / "a.tif", pixels)
    np.testing.assert_array_equal(window_of(path, 3), cut(pixels)[:, :, :3])
    np.testing.assert_array_equal(read_image(path), pixels[:, :, :3])
    path = write_tiff(tmp_path / "a.tif", pixels, photometric="RGB", alpha="unspecified")
    for read in (lambda: window_of(path, 3), lambda: read_image(path)):
        with pytest.raises(DataError, match="none is left out by itself"):
            read()


@pytest.mark.parametrize("compress", ["none", "lzw"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_windows_of_chosen_bands_are_those_of_the_whole(tmp_path, dtype, compress):
    pixels = random_pixels(6, np.uint8).astype(dtype)
    bands = Bands((6, 2), 6, np.dtype(dtype).name, ((10.0, 200.0), (0.0, 255.0)))
    expected = bands.read("a", pixels)
    path = write_tiff(tmp_path / "a.tif", pixels, compress=compress)
    np.save(tmp_path / "a.npy", pixels)
    for file in (path, tmp_path / "a.npy"):
        with open_windows(file, 2, bands=bands) as image:
            assert (image.dtype, image.channels) == (expected.dtype, 2)
            np.testing.assert_array_equal(image.read(*WINDOW), cut(expected))
        with pytest.raises(DataError, match="6 bands of"):
            open_windows(file, 1, bands=replace(bands, of=7))


def test_pixels_without_a_picture_may_be_nan_in_windows_of_bands(tmp_path):
    pixels = random_pixels(2, np.uint8).astype(np.float32)
    pixels[20:25] = np.nan
    bands = Bands((1, 2), 2, "float32", ((0.0, 255.0),) * 2)
    path = write_tiff(tmp_path / "a.tif", pixels, nodata=np.nan)
    with open_windows(path, bands=bands) as image:
        assert (image.read(20, 0, 5, 60) == 0).all()
        assert image.absent(20, 0, 5, 60).all()
    path = write_tiff(tmp_path / "a.tif", pixels)
    with open_windows(path, bands=bands) as image, pytest.raises(DataError, match="are nan"):
        image.read(20, 0, 5, 60)
