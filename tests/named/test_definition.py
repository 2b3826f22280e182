"""What all published data sets share: joined splits, lists, roots that are wrong."""

from pathlib import Path

import pytest

from ccnet.datasets import ADE20K, DATASETS, Cityscapes, open_dataset
from ccnet.datasets.named import NamedDataset
from ccnet.datasets.pairs import write_lists
from ccnet.runtime.files import DataError
from tests.named_data import WRITERS, ade20k, cityscapes, folder, voc2012

NAMES = sorted(WRITERS.keys() - {"folder"})

each_name = pytest.mark.parametrize("name", NAMES)


def names(dataset) -> list[str]:
    return [dataset.name(index) for index in range(len(dataset))]


@each_name
def test_splits_are_joined_in_their_order(opened, name: str):
    parts = [opened(name, split) for split in ("train", "val")]
    joined = opened(name, "train+val")
    assert names(joined) == names(parts[0]) + names(parts[1])
    assert joined.notes == parts[0].notes + parts[1].notes
    joined[len(joined) - 1]


def test_an_image_that_would_be_there_twice_is_refused(tmp_path: Path):
    voc2012(tmp_path)
    with pytest.raises(
        DataError, match=r"JPEGImages/2007_000032.jpg is in several of the splits train\+trainaug"
    ):
        open_dataset("voc2012", tmp_path, "train+trainaug")


@each_name
def test_a_folder_of_something_else_is_told_what_it_needs(tmp_path: Path, name: str):
    folder(tmp_path / "data")
    (tmp_path / "data/train").rename(tmp_path / "data/photos")
    with pytest.raises(
        DataError,
        match=r"data: the split train of .* needs .*, which holds: dataset.yaml, photos, val. Give",
    ):
        open_dataset(name, tmp_path / "data", "train")


def test_a_folder_too_deep_or_too_high_is_told_the_right_one(tmp_path: Path):
    cityscapes(tmp_path / "data/streets")
    right = tmp_path / "data/streets"
    for wrong in (right / "leftImg8bit", right / "gtFine/val", right.parent):
        with pytest.raises(DataError, match=f"They are in {right}: give that folder"):
            Cityscapes(wrong, "val")
    with pytest.raises(DataError, match="nowhere: no such folder"):
        Cityscapes(tmp_path / "nowhere", "val")


def test_an_unknown_split_is_told_those_there_are(tmp_path: Path):
    ade20k(tmp_path)
    with pytest.raises(DataError, match="ADE20K has no split 'training', but train, val, several"):
        ADE20K(tmp_path, "train+training")


@each_name
def test_a_list_that_was_written_can_be_a_split(opened, tmp_path: Path, name: str):
    dataset = opened(name, "val")
    write_lists(tmp_path / "lists", val=dataset)
    again = opened(name, str(tmp_path / "lists/val.txt"))
    assert names(again) == names(dataset)
    assert (again[1][1] == dataset[1][1]).all()


@each_name
def test_a_list_may_name_images_alone(opened, tmp_path: Path, name: str):
    dataset = opened(name, "train")
    image = dataset.files.pairs[1][0]
    (tmp_path / "some.txt").write_text(f"{image.stem}\n")
    assert opened(name, "some.txt").files.pairs == (dataset.files.pairs[1],)


def test_a_list_of_other_labels_is_refused(tmp_path: Path):
    cityscapes(tmp_path)
    image = next(tmp_path.glob("leftImg8bit/val/*/*.png")).relative_to(tmp_path)
    color = next(tmp_path.glob("gtFine/val/*/*_color.png")).relative_to(tmp_path)
    (tmp_path / "some.txt").write_text(f"{image} {color}\n")
    with pytest.raises(DataError, match="Cityscapes ends in _labelIds or _labelTrainIds"):
        Cityscapes(tmp_path, "some.txt")


@each_name
def test_each_knows_its_own_layout_and_not_an_empty_folder(opened, tmp_path: Path, name: str):
    kind = DATASETS[name]
    assert issubclass(kind, NamedDataset)
    assert not kind.is_in(tmp_path)
    opened(name, "train")
    assert kind.is_in(tmp_path)
