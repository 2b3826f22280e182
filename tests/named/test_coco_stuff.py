"""COCO-Stuff 164k: stored values with gaps become 171 classes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.datasets import COCOStuff164k
from ccnet.named.coco_stuff import CLASSES, NEVER_LABELED, STUFF, THINGS, VALUES
from ccnet.runtime.files import DataError
from tests.named.conftest import labels_in_order
from tests.named_data import bands, coco_stuff164k, save

NUMBERED = {1: "person", 13: "stop sign", 44: "bottle", 78: "microwave", 90: "toothbrush"}
NUMBERED |= {92: "banner", 106: "clouds", 149: "road", 169: "tree", 182: "wood"}
"""Some rows of the published list of labels, which counts from 1."""


def test_stored_values_become_171_classes(opened):
    dataset = opened("coco_stuff164k", "train")
    assert labels_in_order(dataset) == [*range(171), 255]
    assert dataset.classes == CLASSES
    assert len(set(CLASSES)) == len(set(dataset.palette)) == 171


def test_classes_have_the_published_numbers():
    assert (THINGS.count(",") + 1, STUFF.count(",") + 1) == (80, 91)
    assert {number: CLASSES[VALUES.index(number - 1)] for number in NUMBERED} == NUMBERED


@pytest.mark.parametrize("value", [NEVER_LABELED[0], NEVER_LABELED[-1], 182])
def test_a_value_of_no_class_is_refused(tmp_path: Path, value: int):
    coco_stuff164k(tmp_path)
    save(tmp_path / "annotations/val2017/000000000010.png", bands([0, 1, value]))
    with pytest.raises(DataError, match=f"value {value} first .*hold 0–10, 12–24, .* 91–181, 255"):
        COCOStuff164k(tmp_path, "val")[0]


@pytest.mark.parametrize(
    ("images", "labels"),
    [(".", "stuffthingmaps"), ("images", "stuffthingmaps_trainval2017"), (".", "annotations")],
)
def test_folders_may_be_those_of_coco(tmp_path: Path, images: str, labels: str):
    coco_stuff164k(tmp_path)
    if images == ".":
        for split in ("train2017", "val2017"):
            (tmp_path / "images" / split).rename(tmp_path / split)
    (tmp_path / "annotations").rename(tmp_path / labels)
    assert len(COCOStuff164k(tmp_path, "train")) == 4
    assert len(COCOStuff164k(tmp_path, "val")) == 2


def test_label_train_ids_beside_the_maps_are_left_out_and_read_alone(tmp_path: Path):
    coco_stuff164k(tmp_path)
    before = COCOStuff164k(tmp_path, "val")[0][1]
    train_ids = np.full(256, 255, np.uint8)
    train_ids[list(VALUES)] = range(171)
    for path in list(tmp_path.rglob("annotations/*/*.png")):
        with Image.open(path) as picture:
            save(path.with_name(f"{path.stem}_labelTrainIds.png"), train_ids[np.array(picture)])
    both = COCOStuff164k(tmp_path, "val")
    assert [label.name for _, label in both.files.pairs] == [
        "000000000010.png",
        "000000000011.png",
    ]
    for _, label in both.files.pairs:
        label.unlink()
    np.testing.assert_array_equal(COCOStuff164k(tmp_path, "val")[0][1], before)
