"""The made-up data set of thin structures: it repeats, can be trained on, and is thin."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from ccnet.datasets import open_dataset

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "thin_structures.py"


@pytest.fixture(scope="module")
def script():
    return runpy.run_path(str(SCRIPT))


def test_the_same_seed_gives_the_same_images(script):
    image, label = script["sample"](3, 5, 96)
    again, same_label = script["sample"](3, 5, 96)
    assert (image == again).all()
    assert (label == same_label).all()
    assert (image != script["sample"](4, 5, 96)[0]).any()
    assert (image != script["sample"](3, 6, 96)[0]).any()
    assert image.shape == (96, 96, 3)
    assert (image.dtype, label.dtype) == (np.uint8, np.uint8)


def erode(mask: np.ndarray) -> np.ndarray:
    """Without the pixels at the border of the mask."""
    inside = np.pad(mask, 1)
    for axis in (0, 1):
        inside &= np.roll(inside, 1, axis) & np.roll(inside, -1, axis)
    return inside[1:-1, 1:-1]


def test_plants_are_thin_and_rare(script):
    labels = np.stack([script["sample"](0, index)[1] for index in range(4)])
    shares = np.bincount(labels.ravel(), minlength=3) / labels.size
    assert 0.005 < shares[2] < shares[1] < 0.06
    for label in labels:
        mask = label > 0
        assert erode(mask).sum() < 0.4 * mask.sum()  # most pixels lie at a border
        assert erode(erode(erode(erode(mask)))).sum() < 0.01 * mask.sum()  # 9 pixels wide and more


def test_it_is_a_data_set_that_can_be_trained_on(script, tmp_path):
    script["write"](tmp_path / "thin", 20, 96)
    for split, count in (("train", 14), ("val", 3), ("test", 3)):
        data = open_dataset("folder", tmp_path / "thin", split)
        assert len(data) == count
        assert data.classes == ("ground", "crop", "weed")
        assert max(data[index][1].max() for index in range(count)) == 2
