"""`ccnet explain` end to end."""

import json

import numpy as np
import pytest
from PIL import Image

from tests.commands import status
from tests.conftest import new_tiny_model, noise, small

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("models") / "model"
    new_tiny_model(2).save_pretrained(path)
    return path


@pytest.fixture
def image(tmp_path):
    path = tmp_path / "a b.png"
    Image.fromarray(noise(40, 72)[0]).save(path)
    return path


def test_it_writes_a_folder_and_says_what_the_pixel_is(model, image, tmp_path, capsys):
    output = tmp_path / "out"
    arguments = ("--at", "50,21", "--to", "9, 37", "--output", output, "--device", "cpu")
    assert status("explain", model, image, *arguments) == 0
    content = json.loads((output / "explanation.json").read_text())
    assert content["to"] == [9, 37]
    assert content["model"] == str(model)
    said = capsys.readouterr()
    assert f"pixel 50,21: {content['class']}" in said.out
    assert "index.html opens in a browser" in said.out
    assert "explaining" in said.err


def test_tiles_turned_photographs_and_fewer_passes(model, tmp_path):
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(noise(40, 72)[0]).save(path, exif=exif)  # upright 40 wide and 72 high
    output = tmp_path / "out"
    flags = ("--tile", 32, "--passes", 1, "--animation", "none", "--output", output)
    assert status("explain", model, path, "--at", "39,71", *flags) == 0
    content = json.loads((output / "explanation.json").read_text())
    assert content["size"] == [40, 72]
    assert content["passes"] == 1
    assert content["seen"] == {"left": 7.5, "top": 39.5, "right": 39.5, "bottom": 71.5}


def test_images_of_several_bands_are_explained(tmp_path):
    small(in_channels=5).save_pretrained(tmp_path / "model")
    np.save(tmp_path / "a.npy", np.zeros((40, 48, 5), np.uint16))
    output = tmp_path / "out"
    flags = ("--at", "3,4", "--animation", "none", "--output", output)
    assert status("explain", tmp_path / "model", tmp_path / "a.npy", *flags) == 0
    assert (output / "index.html").is_file()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ((), "there is no --at"),
        (("--at", "5"), "at must be x,y, two whole numbers"),
        (("--at", "1,2,3"), "at must be x,y"),
        (("--at", "72,0"), "which is 72 pixels wide and 40 high: x is 0 to 71 and y is 0 to 39"),
        (("--at=-1,0",), "the pixel -1,0 is outside the image"),
        (("--at", "5,5", "--to", "5,40"), "the pixel 5,40 is outside the image"),
        (("--at", "5,5", "--passes", "3"), "passes must be 1 to 2"),
        (("--at", "5,5", "--animation", "webp"), "animation must be gif, mp4 or none"),
    ],
    ids=str,
)
def test_errors_are_one_line_and_nothing_is_written(model, image, tmp_path, capsys, flags, message):
    output = tmp_path / "out"
    assert status("explain", model, image, *flags, "--output", output) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert said.startswith("ccnet explain: ")
    assert "Traceback" not in said
    assert not output.exists()


def test_a_model_without_attention_and_files_that_are_missing_are_named(
    model, image, tmp_path, capsys
):
    new_tiny_model(0).save_pretrained(tmp_path / "none")
    assert status("explain", tmp_path / "none", image, "--at", "5,5") == 2
    assert f"{tmp_path / 'none'}: the model has no pass" in capsys.readouterr().err
    assert status("explain", model, tmp_path / "b.png", "--at", "5,5") == 2
    assert "b.png: no such file" in capsys.readouterr().err
    (tmp_path / "file").write_text("mine")
    assert status("explain", model, image, "--at", "5,5", "--output", tmp_path / "file") == 2
    assert "is a file; give the name of a folder" in capsys.readouterr().err
    assert (tmp_path / "file").read_text() == "mine"
