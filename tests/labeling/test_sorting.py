"""Which way files go, and what is refused before anything is computed."""

import numpy as np
import pytest
from PIL import Image

from ccnet import Predictor
from ccnet.images.opening import MAX_PIXELS
from ccnet.labeling.jobs import Job, LargeImages, Products, find_jobs
from ccnet.labeling.sorting import limits_of, pixels_that_fit, refusal, sort_out, stated_pixels
from ccnet.prediction.protocol import PROTOCOLS, Protocol
from ccnet.runtime.files import DataError

FORMATS = {"jpg": "JPEG", "png": "PNG", "bmp": "BMP", "tif": "TIFF", "npy": "NPY"}


def save(path, height=30, width=40):
    pixels = np.zeros((height, width, 3), np.uint8)
    if path.suffix == ".npy":
        np.save(path, pixels)
    else:
        Image.fromarray(pixels).save(path)
    return path


def ways(predictor, folder, **flags):
    limits = limits_of(predictor, LargeImages(**flags))
    return {
        job.image.name: (job.way, job.labels.name)
        for job in sort_out(find_jobs([folder], folder / "out"), limits)
    }


def test_the_size_that_a_header_states(tmp_path):
    for suffix, format in FORMATS.items():
        assert stated_pixels(save(tmp_path / f"a.{suffix}")) == (format, 1200)
    animated = Image.fromarray(np.zeros((30, 40, 3), np.uint8))
    animated.save(tmp_path / "a.webp", save_all=True, append_images=[animated.rotate(180)])
    assert stated_pixels(tmp_path / "a.webp")[0] == "WebP"
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    assert stated_pixels(tmp_path / "a.png") == ("PNG", 0)
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(DataError, match=r"a\.jpg: cannot be read as an image"):
        stated_pixels(tmp_path / "a.jpg")


def test_large_images_go_window_by_window_and_damaged_ones_to_their_reader(predictor, tmp_path):
    pytest.importorskip("rasterio")
    for name in ("a.jpg", "b.png", "c.tif", "d.npy"):
        save(tmp_path / name)
        save(tmp_path / f"large_{name}", height=31)
    (tmp_path / "clip.MP4").touch()
    (tmp_path / "z.png").write_bytes(b"no image")
    expected = {
        "a.jpg": ("memory", "a.png"),
        "b.png": ("memory", "b.png"),
        "c.tif": ("memory", "c.png"),
        "d.npy": ("memory", "d.png"),
        "large_a.jpg": ("memory", "large_a.png"),  # can only be decoded whole, which is refused
        "large_b.png": ("memory", "large_b.png"),
        "large_c.tif": ("windows", "large_c.tif"),
        "large_d.npy": ("windows", "large_d.png"),
        "clip.MP4": ("video", "clip.overlay.mp4"),
        "z.png": ("memory", "z.png"),
    }
    assert ways(predictor, tmp_path, max_pixels=1200) == expected
    expected["c.tif"] = ("windows", "c.tif")
    assert ways(predictor, tmp_path, max_pixels=1200, tiff=True) == expected
    assert ways(predictor, tmp_path)["large_c.tif"] == ("memory", "large_c.png")


def test_the_memory_decides_how_large_an_image_may_be(predictor, monkeypatch):
    monkeypatch.setattr("ccnet.labeling.sorting.peak_memory", lambda _: 10**9)
    limits = [limits_of(predictor, LargeImages(memory)) for memory in ("1MB", "2GB", "3GB", "1TB")]
    sizes = [limit.largest for limit in limits]
    assert sizes == sorted(sizes)
    assert sizes[0] == 0
    assert 0 < sizes[1] < sizes[2]
    assert sizes[-1] == MAX_PIXELS
    tiled = Predictor(predictor.model, device="cpu", protocol=Protocol(tile=64))
    assert pixels_that_fit(tiled, 3 * 10**9, 1) > pixels_that_fit(predictor, 3 * 10**9, 1)
    assert pixels_that_fit(tiled, 3 * 10**9, 1) > pixels_that_fit(tiled, 3 * 10**9, 8)
    with pytest.raises(ValueError, match="such as 2GB; got 'much'"):
        LargeImages("much")


def test_windows_have_the_protocol_of_the_model_or_that_is_asked_for(predictor):
    sliding = PROTOCOLS["sliding"]
    assert limits_of(predictor).protocol == Protocol(tile=sliding.tile, stride=sliding.stride)
    for protocol in (Protocol(), Protocol(tile=64, mirror=True)):
        given = Predictor(predictor.model, device="cpu", protocol=protocol)
        assert limits_of(given).protocol == protocol


@pytest.mark.parametrize(
    ("way", "products", "has_polygons", "words"),
    [
        ("windows", Products(color=True, overlay=True), False, "--color and --overlay"),
        ("windows", Products(probabilities=True), True, "--probabilities and --polygons"),
        ("windows", Products(ids="voc"), False, "--ids voc"),
        ("windows", Products(confidence=True, ids="ade20k"), False, None),
        ("video", Products(color=True, confidence=True), False, "--color and --confidence"),
        ("video", Products(ids="ade20k"), True, "--polygons and --ids"),
        ("video", Products(overlay=True), False, None),
        ("memory", Products(True, True, True, True, "voc"), True, None),
    ],
)
def test_what_cannot_be_had_is_refused(tmp_path, way, products, has_polygons, words):
    job = Job(tmp_path / "a.tif", tmp_path / "out" / "a.tif", way)
    reason = refusal(job, products, has_polygons=has_polygons)
    if words is None:
        assert reason is None
    else:
        assert reason is not None
        assert f"which {words} cannot be had of" in reason
        assert reason.startswith(f"{tmp_path}/a.tif: ")
