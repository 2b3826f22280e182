"""Pictures of labels that open."""

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.datasets import Scenes
from ccnet.report.pictures import classes_to_name, save_comparison


def read_png(path) -> np.ndarray:
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.array(picture.convert("RGB"))


def test_a_comparison_shows_the_colors_of_its_classes(tmp_path):
    image, label = Scenes()[0]
    path = tmp_path / "new folder" / "comparison.png"
    save_comparison(path, [(image, label, label)] * 2, Scenes.classes, Scenes.palette)
    shown = {tuple(color) for color in read_png(path).reshape(-1, 3).tolist()}
    assert set(Scenes.palette[1:]) <= shown


def test_of_many_classes_the_most_frequent_that_occur_are_named(tmp_path):
    label = np.zeros((10, 20), np.uint8)
    label[0, :5], label[1, :3], label[2, 0] = 140, 7, 255
    other = np.full((10, 20), 9, np.uint8)
    samples = [(np.zeros((10, 20, 3), np.uint8), label, other)]
    assert classes_to_name(samples, 150) == [0, 7, 9, 140]
    assert classes_to_name(samples, 19) == list(range(19))
    spread = np.arange(200, dtype=np.uint8).reshape(10, 20)
    assert classes_to_name([(samples[0][0], spread, label)], 150) == [*range(23), 140]
    names = [f"a name of a class that is long, {index}" for index in range(150)]
    colors = [(index, 100, 0) for index in range(150)]
    save_comparison(tmp_path / "a.png", samples, names, colors)  # its warnings are errors
    shown = {tuple(color) for color in read_png(tmp_path / "a.png").reshape(-1, 3).tolist()}
    assert {(7, 100, 0), (140, 100, 0)} <= shown


def test_a_full_disk_names_the_picture_and_leaves_no_part_of_it(tmp_path, monkeypatch):
    def write_a_part(self, content):
        with self.open("wb") as file:
            file.write(content[:10])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", write_a_part)
    image, label = Scenes()[0]
    with pytest.raises(OSError, match=r"a\.png could not be written: no space is left"):
        save_comparison(tmp_path / "a.png", [(image, label, label)], Scenes.classes, Scenes.palette)
    assert list(tmp_path.iterdir()) == []
