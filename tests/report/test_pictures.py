"""Pictures of labels that open."""

import numpy as np
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
