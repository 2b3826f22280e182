"""Label maps written window by window: read back by other programs, whole or not at all."""

import hashlib
import resource

import numpy as np
import pytest
from PIL import Image

from ccnet.images.windows import Georeference, open_windows
from ccnet.images.writing import read_tiff_stamp, write_labels

LABELS = np.random.default_rng(0).integers(0, 7, (700, 531), np.uint8)
STAMP = "model=0123 image=45/678"


def read(top, left, height, width):
    return LABELS[top : top + height, left : left + width]


def write(path, **options):
    if path.suffix != ".png":
        pytest.importorskip("rasterio")
    write_labels(path, read, LABELS.shape, STAMP, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "A.TIFF"])
def test_other_programs_read_what_was_written(tmp_path, name):
    path = write(tmp_path / name)
    picture = Image.open(path)
    assert picture.mode == "L"
    np.testing.assert_array_equal(np.array(picture), LABELS)
    assert [file.name for file in tmp_path.iterdir()] == [name]
    if name != "a.png":
        assert read_tiff_stamp(path) == STAMP


def test_a_png_has_the_stamp_of_other_label_maps(tmp_path):
    path = write(tmp_path / "a.png")
    content = path.read_bytes()
    text = f" sha256={hashlib.sha256(without_stamp(content)).hexdigest()}"
    with Image.open(path) as picture:
        assert picture.info == {"ccnet": STAMP + text}


def without_stamp(content):
    start = content.index(b"tEXt") - 4
    return content[:start] + content[content.index(b"IDAT") - 4 :]


def test_a_png_is_written_row_by_row(tmp_path):
    asked = []

    def read_row(*window):
        asked.append(window)
        return read(*window)

    write_labels(tmp_path / "a.png", read_row, LABELS.shape, STAMP)
    assert asked == [(top, 0, 1, 531) for top in range(700)]


def test_a_large_png_has_several_chunks_that_are_whole(tmp_path, monkeypatch):
    monkeypatch.setattr("ccnet.images.writing.MAX_CHUNK", 1 << 12)
    with Image.open(write(tmp_path / "a.png")) as picture:
        picture.verify()  # all checksums
    np.testing.assert_array_equal(np.array(Image.open(tmp_path / "a.png")), LABELS)
    assert (tmp_path / "a.png").read_bytes().count(b"IDAT") > 3


def test_a_tiff_keeps_the_georeference_and_is_tiled(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    ground = Georeference("EPSG:32632", rasterio.Affine(0.5, 0, 3e5, 0, -0.5, 5e6))
    path = write(tmp_path / "a.tif", georeference=ground)
    with rasterio.open(path) as dataset:
        assert (dataset.crs, dataset.transform) == (ground.crs, ground.transform)
        assert (dataset.block_shapes, dataset.nodata) == ([(256, 256)], None)
    with open_windows(path, 1) as image:
        assert image.georeference == ground.__class__(
            rasterio.CRS.from_epsg(32632), ground.transform, ([], None), None
        )


def test_absent_pixels_are_the_nodata_of_the_labels(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    control = [rasterio.control.GroundControlPoint(1, 2, 10.0, 50.0)]
    ground = Georeference(gcps=(control, rasterio.CRS.from_epsg(4326)), has_absent=True)
    with rasterio.open(write(tmp_path / "a.tif", georeference=ground)) as dataset:
        assert dataset.nodata == 255
        (point,), crs = dataset.gcps
        assert (point.row, point.col, point.x, point.y, crs) == (1, 2, 10, 50, "EPSG:4326")


def test_only_complete_tiffs_of_ours_have_a_stamp(tmp_path):
    path = tmp_path / "a.tif"
    assert read_tiff_stamp(path) is None
    content = write(path).read_bytes()
    (tmp_path / "link.tif").symlink_to(path)
    assert read_tiff_stamp(tmp_path / "link.tif") is None
    Image.fromarray(LABELS).save(path)
    assert read_tiff_stamp(path) is None
    for length in (0, 5, 8, 30, len(content) // 2):
        path.write_bytes(content[:length])
        assert read_tiff_stamp(path) is None, length


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_a_full_disk_leaves_the_old_file_and_names_it(tmp_path, suffix, capfd):
    path = write(tmp_path / f"a{suffix}")
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OSError, match=f"^{path} could not be written: "):
            write(path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


def test_a_tiff_that_does_not_hold_what_was_written_is_an_error(tmp_path):
    pytest.importorskip("rasterio")
    times = iter(range(100))

    def changing(top, left, height, width):
        return np.full((height, width), next(times), np.uint8)

    with pytest.raises(OSError, match="does not hold what was written"):
        write_labels(tmp_path / "a.tif", changing, (300, 300), STAMP)
    assert list(tmp_path.iterdir()) == []


def test_other_suffixes_and_a_missing_extra_are_named(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"a.jpg: labels are written as .png, .tif or .tiff"):
        write_labels(tmp_path / "a.jpg", read, LABELS.shape, STAMP)
    monkeypatch.setitem(__import__("sys").modules, "rasterio", None)
    with pytest.raises(ImportError, match=r"a.tif: .* pip install 'criss-cross\[geo\]'"):
        write_labels(tmp_path / "a.tif", read, LABELS.shape, STAMP)
