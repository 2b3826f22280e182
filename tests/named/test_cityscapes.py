"""Cityscapes: labelIds and labelTrainIds, fine and coarse labels, the sample of the real files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.classes import CITYSCAPES
from ccnet.datasets import Cityscapes, CityscapesCoarse, open_dataset
from ccnet.named.cityscapes import LABEL_ID_FILES, TRAIN_ID_FILES
from ccnet.runtime.files import DataError
from tests.named.conftest import labels_in_order
from tests.named_data import bands, cityscapes, save

IDS = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
"""The labelIds that the benchmark scores."""


def write_train_ids(root: Path) -> None:
    """What the scripts of the makers do: a labelTrainIds file beside each labelIds file."""
    for path in root.rglob("*_labelIds.png"):
        with Image.open(path) as picture:
            raw = np.array(picture)
        train_ids = np.full(256, 255, np.uint8)
        train_ids[list(IDS)] = range(19)
        save(path.with_name(path.name.replace("labelIds", "labelTrainIds")), train_ids[raw])


def test_label_ids_become_the_19_classes(opened):
    dataset = opened("cityscapes", "train")
    found = labels_in_order(dataset)
    assert [index for index in found if index != 255] == list(range(19))
    expected = np.full(34, 255)
    expected[list(IDS)] = range(19)
    np.testing.assert_array_equal(np.unique(dataset[0][1]), np.unique(expected))
    assert dict(LABEL_ID_FILES.values) == dict(enumerate(expected.tolist()))
    assert dataset.classes == tuple(CITYSCAPES)
    assert dataset.palette == tuple(CITYSCAPES.values())


def test_images_and_labels_pair_below_the_folders_of_towns(opened):
    dataset = opened("cityscapes", "train")
    towns = [dataset.name(index).split("/")[2] for index in range(4)]
    assert towns == ["aachen", "aachen", "bochum", "bochum"]
    for image, label in dataset.files.pairs:
        assert image.name.removesuffix("_leftImg8bit.png") == label.name.removesuffix(
            "_gtFine_labelIds.png"
        )
    assert opened("cityscapes", "val").name(0).startswith("leftImg8bit/val/frankfurt/")
    assert dataset.notes == ["train has 4 images; 2975 were published"]


def test_label_train_ids_are_read_where_there_are_no_others(tmp_path: Path):
    cityscapes(tmp_path)
    before = Cityscapes(tmp_path, "val")[0][1]
    write_train_ids(tmp_path)
    both = Cityscapes(tmp_path, "val")
    assert {label.name[-12:] for _, label in both.files.pairs} == {"labelIds.png"}
    for path in tmp_path.rglob("*_labelIds.png"):
        path.unlink()
    only = Cityscapes(tmp_path, "val")
    assert only.label_map.targets.keys() == TRAIN_ID_FILES.values.keys()
    np.testing.assert_array_equal(only[0][1], before)


def test_labels_of_both_kinds_are_refused(tmp_path: Path):
    cityscapes(tmp_path)
    write_train_ids(tmp_path)
    for path in tmp_path.glob("gtCoarse/**/*_labelIds.png"):
        path.unlink()
    with pytest.raises(DataError, match=r"several kinds, such as gtFine/.*whose values differ"):
        Cityscapes(tmp_path, "train+train_extra")


def test_train_ids_under_the_name_of_label_ids_are_refused(tmp_path: Path):
    cityscapes(tmp_path)
    path = min(tmp_path.glob("gtFine/val/frankfurt/*_labelIds.png"))
    save(path, bands([0, 1, 255]))
    with pytest.raises(
        DataError, match=r"_labelIds.png: value 255 first.*Cityscapes hold 0–33 as downloaded, so"
    ):
        Cityscapes(tmp_path, "val")[0]


def test_coarse_labels_are_extra_images_beside_fine_ones(opened):
    dataset = opened("cityscapes", "train+train_extra")
    kinds = [label.name.split("_")[-2] for _, label in dataset.files.pairs]
    assert kinds == ["gtFine"] * 4 + ["gtCoarse"] * 2
    assert dataset[4][0].shape == (48, 64, 3)


def test_all_coarse_labels_to_train_on_and_fine_ones_to_score_on(opened):
    kinds = {}
    for split in ("train", "train_extra", "val"):
        files = opened("cityscapes_coarse", split).files
        (kinds[split],) = {label.name.split("_")[-2] for _, label in files.pairs}
    assert kinds == {"train": "gtCoarse", "train_extra": "gtCoarse", "val": "gtFine"}
    assert len(opened("cityscapes_coarse", "train+train_extra")) == 6


@pytest.mark.parametrize("kind", ["leftImg8bit", "gtFine"])
def test_archives_may_be_unpacked_each_to_its_own_folder(tmp_path: Path, kind: str):
    cityscapes(tmp_path)
    (tmp_path / f"{kind}_trainvaltest").mkdir()
    (tmp_path / kind).rename(tmp_path / f"{kind}_trainvaltest" / kind)
    assert len(Cityscapes(tmp_path, "val")) == 2


def test_an_image_without_a_label_says_how_the_label_is_named(tmp_path: Path):
    cityscapes(tmp_path)
    next(tmp_path.glob("gtFine/val/frankfurt/*_labelIds.png")).unlink()
    with pytest.raises(
        DataError, match=r"without a label \(1\).*IMAGE_leftImg8bit with IMAGE_gtFine_labelIds or"
    ):
        Cityscapes(tmp_path, "val")
    assert len(CityscapesCoarse(tmp_path, "val", strict=False)) == 1


def test_the_real_sample_agrees_with_its_own_train_ids(shared_data: Path):
    dataset = open_dataset("cityscapes", shared_data / "samples/cityscapes")
    (image, label) = dataset[0]
    assert image.shape == (128, 256, 3)
    path = next((shared_data / "samples/cityscapes").rglob("*_labelTrainIds.png"))
    with Image.open(path) as picture:
        agreement = (np.asarray(picture) == label).mean()
    assert agreement > 0.997  # its two label files were reduced apart, and differ at borders
