"""Pascal VOC 2012: palette PNGs, the border, the official lists, the augmented labels."""

from pathlib import Path

import numpy as np
import pytest

from ccnet.classes import VOC
from ccnet.datasets import VOC2012
from ccnet.runtime.files import DataError
from tests.named.conftest import labels_in_order
from tests.named_data import bands, save, voc2012

HOME = "VOCdevkit/VOC2012"


def stems(dataset: VOC2012) -> list[str]:
    return [image.stem for image, _ in dataset.files.pairs]


def test_palette_files_are_read_by_number_and_the_border_is_ignored(opened):
    dataset = opened("voc2012", "val")
    assert labels_in_order(dataset) == [*range(21), 255]
    assert dataset.classes == tuple(VOC)
    assert dataset.palette == tuple(VOC.values())


def test_the_official_lists_are_the_splits(opened):
    assert stems(opened("voc2012", "train")) == ["2007_000032", "2007_000039"]
    assert stems(opened("voc2012", "val")) == ["2007_000033", "2007_000042"]
    assert len(opened("voc2012", "trainval")) == 4
    assert opened("voc2012", "train").name(0) == f"{HOME}/JPEGImages/2007_000032.jpg"


def test_trainaug_is_all_that_is_labeled_except_val(opened):
    dataset = opened("voc2012", "trainaug")
    assert stems(dataset) == ["2007_000032", "2007_000039", "2008_000002", "2008_000003"]
    folders = [label.parent.name for _, label in dataset.files.pairs]
    assert folders == ["SegmentationClass"] * 2 + ["SegmentationClassAug"] * 2
    assert labels_in_order(dataset, 3) == list(range(21))


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("trainaug.txt", "2008_000002"),
        ("train_aug.txt", "/JPEGImages/2008_000002.jpg /SegmentationClassAug/2008_000002.png"),
    ],
)
def test_a_list_of_trainaug_counts(tmp_path: Path, name: str, line: str):
    voc2012(tmp_path)
    (tmp_path / HOME / "ImageSets/Segmentation" / name).write_text(f"{line}\n")
    assert stems(VOC2012(tmp_path, "trainaug")) == ["2008_000002"]


def test_trainaug_without_the_augmented_labels_says_what_is_missing(tmp_path: Path):
    voc2012(tmp_path)
    (tmp_path / HOME / "SegmentationClassAug").rename(tmp_path / "elsewhere")
    with pytest.raises(
        DataError, match=r"trainaug of Pascal VOC 2012 needs .* SegmentationClassAug"
    ):
        VOC2012(tmp_path, "trainaug")
    assert len(VOC2012(tmp_path / HOME, "train")) == 2


def test_listed_images_that_are_not_there_are_named(tmp_path: Path):
    voc2012(tmp_path)
    (tmp_path / HOME / "SegmentationClass/2007_000032.png").unlink()
    with pytest.raises(DataError, match=r"missing \(1\): .*SegmentationClass/2007_000032.png"):
        VOC2012(tmp_path, "train")
    (tmp_path / HOME / "ImageSets/Segmentation/val.txt").write_text("\n")
    with pytest.raises(DataError, match=r"val.txt: it names no image"):
        VOC2012(tmp_path, "val")


def test_labels_of_colors_are_refused(tmp_path: Path):
    voc2012(tmp_path)
    colors = np.array([*VOC.values()], np.uint8)
    save(tmp_path / HOME / "SegmentationClass/2007_000033.png", colors[bands(range(21))])
    with pytest.raises(DataError, match=r"2007_000033.png: .*has colors") as caught:
        VOC2012(tmp_path, "val")[0]
    assert caught.value.__notes__ == ["labels of Pascal VOC 2012 hold numbers, 0–20, 255"]
