"""Pictures of labels that open."""

import errno
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.datasets import Scenes
from ccnet.report.pictures import save_comparison


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
