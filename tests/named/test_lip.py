"""LIP: 20 classes, and the ways in which its archives are unpacked."""

from pathlib import Path

import pytest

from ccnet.datasets import LIP
from tests.named.conftest import labels_in_order
from tests.named_data import lip


def test_numbers_are_the_classes_and_the_background_is_one(opened):
    dataset = opened("lip", "train")
    assert labels_in_order(dataset) == list(range(20))
    assert len(dataset.classes) == len(set(dataset.palette)) == 20
    assert [dataset.classes[i] for i in (0, 5, 13, 14, 19)] == [
        "Background",
        "UpperClothes",
        "Face",
        "Left-arm",
        "Right-shoe",
    ]
    assert dataset.ignore_index == 255


@pytest.mark.parametrize("layout", ["beside", "nested"])
def test_archives_are_found_however_they_are_unpacked(tmp_path: Path, layout: str):
    lip(tmp_path)
    for name in ("TrainVal_images", "TrainVal_parsing_annotations"):
        if layout == "nested":
            (tmp_path / name).rename(tmp_path / "moved")
            (tmp_path / name).mkdir()
            (tmp_path / "moved").rename(tmp_path / name / name)
        else:
            for path in (tmp_path / name).iterdir():
                path.rename(tmp_path / path.name)
    assert len(LIP(tmp_path, "train")) == 4
    assert len(LIP(tmp_path, "val")) == 2


def test_the_real_samples_are_read(shared_data: Path):
    for split, size in (("train", (220, 154)), ("val", (377, 130))):
        dataset = LIP(shared_data / "samples/lip", split)
        image, label = dataset[0]
        assert label.shape == image.shape[:2] == size
        assert label.max() == 15
