"""Which list or folders a split is in, and how images without splits are divided."""

from pathlib import Path

import pytest

from ccnet.layouts.search import IMAGES, LABELS, find_pairs
from ccnet.layouts.splits import Division
from ccnet.runtime.files import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def images(root: Path, split: str, division: Division | None = None) -> list[str]:
    found = find_pairs(root, split, division=division)
    return [image.relative_to(root).as_posix() for image, _ in found.pairs]


@pytest.mark.parametrize("part", IMAGES)
@pytest.mark.parametrize("layout", ["{split}/{part}", "{part}/{split}", "{split}_{part}"])
def test_folders_of_images_have_many_names(tmp_path: Path, part: str, layout: str):
    for name in (part, part.upper()):
        root = tmp_path / name
        place = layout.format(split="train", part=name)
        touch(root, f"{place}/a.jpg", f"{layout.format(split='train', part='Masks')}/a.png")
        assert images(root, "train") == [f"{place}/a.jpg"]


@pytest.mark.parametrize("part", LABELS)
@pytest.mark.parametrize("layout", ["{split}/{part}", "{part}/{split}", "{part}_{split}"])
def test_folders_of_labels_have_many_names(tmp_path: Path, part: str, layout: str):
    touch(tmp_path, f"{layout.format(split='train', part='images')}/a.jpg")
    touch(tmp_path, f"{layout.format(split='train', part=part)}/a.png")
    assert len(images(tmp_path, "train")) == 1


def test_a_folder_of_a_split_may_hold_both(tmp_path: Path):
    touch(tmp_path, "train/a.jpg", "train/a_mask.png", "val/b.jpg", "val/b_mask.png")
    assert images(tmp_path, "train") == ["train/a.jpg"]
    assert images(tmp_path, "val", Division()) == ["val/b.jpg"]


def test_images_of_a_split_beside_its_labels(tmp_path: Path):
    touch(tmp_path, "train/a.jpg", "train_masks/a_mask.gif")
    found = find_pairs(tmp_path, "train")
    assert found.layout == "train + train_masks"
    assert found.notes == ("labels are named IMAGE with IMAGE_mask",)


@pytest.mark.parametrize("name", ["valid", "validation", "Val"])
def test_other_names_of_a_split_are_found_and_said(tmp_path: Path, name: str):
    touch(tmp_path, f"{name}/images/b.jpg", f"{name}/labels/b.png")
    found = find_pairs(tmp_path, "val")
    assert len(found.pairs) == 1
    assert found.notes == ((f"{name} is the split val",) if name != "Val" else ())


def test_a_list_wins_over_folders_and_says_so(tmp_path: Path):
    touch(tmp_path, "train/images/a.jpg", "train/labels/a.png", "x.png", "y.png")
    (tmp_path / "train.txt").write_text("x.png y.png")
    found = find_pairs(tmp_path, "train")
    assert found.layout == "train.txt"
    assert len(found.pairs) == 1
    assert found.notes == ("train.txt says the pairs, not the folders train/images + train/labels",)


def test_several_folders_that_may_be_meant_are_named(tmp_path: Path):
    touch(tmp_path, "train/images/a.jpg", "train/labels/a.png", "train/masks/a.png")
    touch(tmp_path, "train/annotations/a.xml")
    with pytest.raises(
        DataError, match=r"may be meant: train/images \+ train/labels; train/images \+ train/m"
    ):
        find_pairs(tmp_path, "train")
    (tmp_path / "train/labels/a.png").rename(tmp_path / "train/labels/other.png")
    assert find_pairs(tmp_path, "train").layout == "train/images + train/masks"


@pytest.mark.parametrize(
    "pattern",
    [
        "images/{i}.jpg masks/{i}.png",
        "{i}.jpg {i}.png",
        "{i}.png {i}_mask.png",
        "p/{i}.jpg p/{i}_gt.png",
    ],
)
def test_a_data_set_without_splits_is_divided(tmp_path: Path, pattern: str):
    for index in range(30):
        touch(tmp_path, *pattern.format(i=index).split())
    train, val = (images(tmp_path, split, Division()) for split in ("train", "val"))
    assert len(train) + len(val) == 30
    assert not set(train) & set(val)
    assert 1 <= len(val) <= 12
    notes = find_pairs(tmp_path, "val", division=Division()).notes
    assert notes[0] == (
        f"divided by the hash of names, 20% val: train {len(train)}, val {len(val)}"
    )
    with pytest.raises(DataError, match="no split 'train'"):
        find_pairs(tmp_path, "train")
    with pytest.raises(DataError, match="no split 'test'"):
        find_pairs(tmp_path, "test", division=Division())


def test_training_images_without_val_are_divided_and_a_list_too(tmp_path: Path):
    touch(tmp_path, *(f"train/images/{i}.jpg" for i in range(10)))
    touch(tmp_path, *(f"train/labels/{i}.png" for i in range(10)))
    whole = images(tmp_path, "train")
    train, val = (images(tmp_path, split, Division()) for split in ("train", "val"))
    assert sorted(train + val) == sorted(whole)
    touch(tmp_path, "val/images/v.jpg", "val/labels/v.png")
    assert images(tmp_path, "train", Division()) == whole
    assert images(tmp_path, "val", Division()) == ["val/images/v.jpg"]
    lines = [f"train/images/{i}.jpg train/labels/{i}.png\n" for i in range(6)]
    (tmp_path / "all.txt").write_text("".join(lines))
    division = Division(train="all", val="held_out")
    parts = [images(tmp_path, split, division) for split in ("all", "held_out")]
    assert len(parts[0]) + len(parts[1]) == 6


def test_groups_are_refused_where_a_split_is_there(tmp_path: Path):
    touch(tmp_path, *(f"{s}/images/a.jpg" for s in ("train", "val")))
    touch(tmp_path, *(f"{s}/labels/a.png" for s in ("train", "val")))
    for split in ("train", "val"):
        with pytest.raises(DataError, match="a split val already, so nothing is divided by groups"):
            find_pairs(tmp_path, split, division=Division(group_by="a"))


def test_a_list_file_may_be_the_split(tmp_path: Path, monkeypatch):
    touch(tmp_path, "data/x.png", "data/y.png", "runs/x")
    (tmp_path / "runs/some.txt").write_text("x.png y.png")
    monkeypatch.chdir(tmp_path)
    for split in ("runs/some.txt", str(tmp_path / "runs/some.txt")):
        assert images(Path("data"), split) == ["x.png"]
    with pytest.raises(DataError, match=r"data/gone\.txt: no such file"):
        find_pairs(Path("data"), "gone.txt")


def test_one_image_cannot_be_divided(tmp_path: Path):
    touch(tmp_path, "images/a.jpg", "labels/a.png")
    with pytest.raises(DataError, match=f"^{tmp_path}: 1 images cannot be divided into train, val"):
        find_pairs(tmp_path, "val", division=Division())


@pytest.mark.parametrize("name", ["val", "valid", "test"])
def test_images_of_a_split_are_never_divided_into_others(tmp_path: Path, name: str):
    for index in range(9):
        touch(tmp_path, f"{name}/{index}.jpg", f"{name}/{index}.png")
    with pytest.raises(DataError, match="no split 'train'"):
        find_pairs(tmp_path, "train", division=Division())


def test_a_list_beside_a_division_is_not_divided_again(tmp_path: Path):
    touch(tmp_path, *(f"images/{i}.jpg" for i in range(9)), *(f"labels/{i}.png" for i in range(9)))
    lines = [f"images/{i}.jpg labels/{i}.png\n" for i in range(9)]
    (tmp_path / "some.txt").write_text("".join(lines))
    division = Division(train="some.txt")
    assert len(images(tmp_path, "some.txt", division)) == 9
    with pytest.raises(DataError, match="no split 'val'"):
        find_pairs(tmp_path, "val", division=division)


@pytest.mark.parametrize(
    ("files", "listed"),
    [
        (("images/{}.jpg", "labels/{}.png"), "train.txt"),
        (("images/{}.jpg", "masks/{}_mask.png"), "train.txt"),
        (("images/train/{}.jpg", "labels/train/{}.png"), "train.txt"),
        (("{}.jpg", "{}.png"), "train.txt"),
        (("JPEGImages/{}.jpg", "SegmentationClass/{}.png"), "ImageSets/Segmentation/train.txt"),
    ],
)
def test_a_list_of_names_takes_the_files_of_the_folders(tmp_path: Path, files, listed: str):
    for name in "abc":
        touch(tmp_path, *(file.format(name) for file in files))
    (tmp_path / listed).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / listed).write_text("a\nc\n")
    found = find_pairs(tmp_path, "train")
    assert found.layout == Path(listed).name
    assert [image.stem for image, _ in found.pairs] == ["a", "c"]
    assert find_pairs(tmp_path, listed).pairs == found.pairs
