"""A large image and a video whose command is killed at random moments."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet import Predictor
from ccnet.images.video import Video
from ccnet.prediction.protocol import Protocol
from tests.conftest import new_tiny_model
from tests.images.test_video import write_video
from tests.kills import killed
from tests.labeling.test_files_ended import run
from tests.labeling.test_singles import random_pixels, save_array, save_tiff

PROTOCOL = ("--tile", "64", "--stride", "48", "--max-pixels", "300000")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_command_that_was_killed_goes_on_and_makes_the_same_files(tmp_path):
    """An array, a GeoTIFF and a video; after the last kill, the labels are those in memory."""
    rasterio = pytest.importorskip("rasterio")
    pytest.importorskip("av")
    torch.manual_seed(0)
    new_tiny_model().save_pretrained(tmp_path / "model")
    save_array(tmp_path / "in", "a.npy", random_pixels(700, 600))
    save_tiff(tmp_path / "in", random_pixels(500, 700), "b.tif")
    write_video(tmp_path / "in" / "c.mp4", 60)
    output = tmp_path / "out"
    words = ("predict", tmp_path / "model", tmp_path / "in", "--device", "cpu", *PROTOCOL)
    num_interrupted = 0
    for _ in killed(8, output, *words, "--output", "{output}", seed=1):
        names = {path.name for path in output.iterdir()} if output.exists() else set()
        num_interrupted += bool(names & {".a.png.part", ".b.tif.part"})
        if "c.overlay.mp4" in names:
            (output / "c.overlay.mp4").unlink()
        if {"a.png", "b.tif"} <= names:  # so that there is something left to do
            (output / "a.png").unlink()
    assert num_interrupted > 0  # how many, depends on the machine's load
    command = ["ccnet", *map(str, words), "--output", str(output)]
    run(sys.executable, "-m", *command)
    names = sorted(path.name for path in output.iterdir() if not path.name.startswith(".ccnet"))
    assert [name for name in names if not name.startswith(".")] == [
        *("a.png", "b.tif", "c.overlay.mp4", "manifest.jsonl"),
    ]
    assert not [name for name in names if name.endswith(".part")]
    predictor = Predictor(tmp_path / "model", device="cpu", protocol=Protocol(tile=64, stride=48))
    labels = np.asarray(Image.open(output / "a.png"))
    np.testing.assert_array_equal(labels, predictor.predict(random_pixels(700, 600)))
    with rasterio.open(output / "b.tif") as dataset:
        np.testing.assert_array_equal(dataset.read(1), predictor.predict(random_pixels(500, 700)))
    with Video(output / "c.overlay.mp4") as video:
        assert len(list(video.frames())) == 60
    for name in ("a.png", "b.tif"):
        assert (output / name).read_bytes() == (tmp_path / "measured" / name).read_bytes()
