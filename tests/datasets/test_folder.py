"""A folder of images and labels, read by what its dataset.yaml says."""

import errno
import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from ccnet.checking.check import check_dataset
from ccnet.classes import IGNORE_INDEX
from ccnet.datasets import Division, open_dataset
from ccnet.datasets.folder import EXAMPLE, FolderDataset
from ccnet.datasets.labels import LabelMap
from ccnet.datasets.pairs import write_lists
from ccnet.datasets.unmapped import LabelValueError
from ccnet.layouts.lists import write_list
from ccnet.runtime.files import DataError
from tests import annotated
from tests.datasets.conftest import CLASSES, COLORS, IMAGE, LABEL, describe, save


def test_folder_gives_images_labels_classes_and_names(root: Path):
    dataset = FolderDataset(root)
    image, label = dataset[0]
    assert len(dataset) == 2
    assert dataset.classes == ("sky", "road", "car")
    assert dataset.ignore_index == IGNORE_INDEX
    assert len(set(dataset.palette)) == 3
    assert [dataset.name(i) for i in range(2)] == ["train/images/a.png", "train/images/deep/b.png"]
    assert (image.dtype, label.dtype) == (np.uint8, np.uint8)
    np.testing.assert_array_equal(image, IMAGE)
    np.testing.assert_array_equal(label, LABEL)
    with pytest.raises(IndexError):
        dataset[2]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({}, "`classes` is missing. For example"),
        ({"classes": CLASSES, "colors": [], "size": 3}, "unknown key 'colors', 'size'; the known"),
        ({"classes": "sky"}, "must be a list of 1 to 255 names, got 'sky'"),
        ({"classes": None}, "`classes` is missing"),
        ({"classes": CLASSES, "labels": 3}, "`labels` is 3"),
        ({"classes": CLASSES, "mapping": []}, "`mapping` must be raw value: class"),
        ({"classes": CLASSES, "ignore": {1: 2}}, "raw label value {1: 2} is neither"),
        ({"classes": {"sky": None}}, "None is not a color"),
        ({"classes": CLASSES, "palette": 3}, "`palette` must list a color for each class, got 3"),
        ({"classes": CLASSES, "ignore": 0}, r"lists 0, which also stands for class 0 \('sky'\)"),
        ({"classes": CLASSES, "mapping": {5: "bus"}}, "sends 5 to 'bus', which is neither"),
    ],
)
def test_wrong_description_is_refused(root: Path, keys: dict, message: str):
    describe(root, **keys)
    with pytest.raises(DataError, match=rf"(?s)dataset\.yaml: .*{message}"):
        FolderDataset(root)


def test_a_broken_description_shows_its_line_and_without_one_values_are_classes(root: Path):
    (root / "dataset.yaml").write_text("classes: [sky\nroad: 3")
    with pytest.raises(DataError, match=r"(?s)line 2: cannot be read as YAML"):
        FolderDataset(root)
    (root / "dataset.yaml").unlink()
    assert FolderDataset(root).classes[0].startswith("class ")
    assert len(FolderDataset(root, classes=CLASSES)) == 2


def test_example_in_the_message_is_a_working_description(tmp_path: Path):
    described = LabelMap(**yaml.safe_load(EXAMPLE))
    assert described.classes == ("road", "building")


def test_a_label_without_a_class_names_the_file(root: Path):
    label = LABEL.copy()
    label[1, 2:] = 37
    path = save(root / "train/labels/a.png", label)
    with pytest.raises(LabelValueError, match=r"train/labels/a\.png: value 37 first") as caught:
        FolderDataset(root)[0]
    assert caught.value.path == path


def test_arguments_take_the_place_of_the_file(root: Path):
    describe(root, classes=["x", "y"], palette=[[1, 1, 1], [2, 2, 2]], ignore=[2])
    dataset = FolderDataset(root, classes=COLORS, ignore=7)
    assert dataset.palette == tuple(map(tuple, COLORS.values()))
    np.testing.assert_array_equal(dataset[0][1], LABEL)
    describe(root, classes=COLORS)
    assert FolderDataset(root, palette=["#010203", "#020304", "#030405"]).palette[0] == (1, 2, 3)


BOMB = "a: &a [x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join(8 * [f'*{old}'])}]\n" for old, new in pairwise("abcdefghij")
)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: !!bool maybe", "cannot be read as YAML"),
        ("classes: " + 5000 * "[", "cannot be read as YAML: more than 20 levels"),
        (BOMB + "classes: *j", "aliases are not read"),
        ("classes: !!set {sky, road}", "must be a list of 1 to 255 names"),
        ("classes: [2020-01-01, x]", "class name datetime.date.2020, 1, 1. is not text"),
        (b"classes: [\xff\xfe]", "not text in UTF-8"),
        ("classes: [a, b]\n" + 2**20 * "#", "larger than"),
        ("classes: [a, b]\nclasses: [c]", "is there twice"),
        ("", "`classes` is missing"),
    ],
    ids=["bool", "deep", "aliases", "set", "date", "encoding", "size", "twice", "empty"],
)
def test_a_hostile_description_is_one_short_line(root: Path, text: str | bytes, message: str):
    (root / "dataset.yaml").write_bytes(text.encode() if isinstance(text, str) else text)
    with pytest.raises(DataError, match=message) as caught:
        FolderDataset(root)
    assert str(caught.value).startswith(f"{root / 'dataset.yaml'}")
    assert len(str(caught.value)) < len(str(root)) + 400
    assert "\n" not in str(caught.value)


def test_a_description_that_is_a_fifo_is_not_waited_for(root: Path):
    (root / "dataset.yaml").unlink()
    os.mkfifo(root / "dataset.yaml")
    with pytest.raises(DataError, match=r"dataset\.yaml: it is a FIFO"):
        FolderDataset(root)


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (Path.touch, "it is a file, not a folder"),
        (os.mkfifo, "it is a FIFO .*, not a folder"),
        (lambda path: path.symlink_to(path), "it is a loop of symbolic links"),
        (lambda path: None, "no such folder"),
    ],
    ids=["file", "FIFO", "loop", "missing"],
)
@pytest.mark.parametrize("name", ["folder", "camvid"])
def test_a_root_that_is_no_folder_is_said_to_be_what_it_is(tmp_path: Path, make, cause, name):
    make(tmp_path / "root")
    with pytest.raises(DataError, match=f"root: {cause}"):
        open_dataset(name, tmp_path / "root")


def test_an_unreadable_root_is_not_called_missing(tmp_path: Path, monkeypatch):
    def refuse(path):
        raise PermissionError(errno.EACCES, "Permission denied", path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match="no permission"):
        open_dataset("folder", tmp_path)


@pytest.mark.parametrize(
    "keys",
    [
        {"names": CLASSES},
        {"names": dict(enumerate(CLASSES))},
        {"classes": dict(enumerate(CLASSES))},
        {"classes": {name: i for i, name in enumerate(CLASSES)}, "orientation": "exif"},
    ],
)
def test_classes_may_be_numbered_and_called_names(root: Path, keys: dict):
    describe(root, **keys)
    dataset = FolderDataset(root)
    assert dataset.classes == tuple(CLASSES)
    np.testing.assert_array_equal(dataset[0][1], LABEL)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"names": ["sky"], "classes": CLASSES}, "`names` and `classes` mean the same; write one"),
        ({"classes": {1: "sky", 2: "road"}}, r"without a gap; got \[1, 2\].*mapping"),
        (
            {"classes": CLASSES, "orientation": "turned"},
            "`orientation` is 'turned'; it can be exif",
        ),
    ],
)
def test_a_wrong_description_is_told_in_one_line(root: Path, keys: dict, message: str):
    describe(root, **keys)
    with pytest.raises(DataError, match=rf"dataset\.yaml: .*{message}") as caught:
        FolderDataset(root)
    assert "\n" not in str(caught.value)


def test_masks_of_0_and_255_are_two_classes(root: Path):
    describe(root, classes=["background", "thing"])
    for name in ("a", "deep/b"):
        save(root / f"train/labels/{name}.png", np.array([[0, 255, 255, 0]] * 2, np.uint8))
    dataset = FolderDataset(root)
    assert dataset[0][1].tolist() == [[0, 1, 1, 0]] * 2
    assert "255 is 'thing'" in str(dataset.label_map.note)
    assert FolderDataset(root, ignore=255)[0][1].tolist() == [[0, 255, 255, 0]] * 2


def labelme_folder(root: Path) -> Path:
    for name in "abcd":
        annotated.save_image(root / f"{name}.jpg")
        annotated.write_json(root / f"{name}.json", annotated.labelme_content(name, ".jpg"))
    return root


def test_annotations_without_a_validation_split_are_divided_by_their_names(tmp_path):
    root = labelme_folder(tmp_path)
    names = {"train": ["b", "c", "d"], "val": ["a"]}
    for split in names:
        dataset = FolderDataset(root, split, division=Division())
        names[split] = [Path(sample.name).stem for sample in dataset.samples]
        assert [image.stem for image, _ in dataset.files.pairs] == names[split]
        assert dataset.files.notes[0].endswith("20% val: train 3, val 1")
        for index, name in enumerate(names[split]):
            np.testing.assert_array_equal(dataset[index][1], annotated.label_of(name))
    assert sorted(names["train"] + names["val"]) == list("abcd")
    with pytest.raises(DataError, match="have no split 'val', but train"):
        FolderDataset(root, "val")


def test_annotations_are_divided_as_label_files_of_the_same_names_are(tmp_path):
    root = labelme_folder(tmp_path)
    drawn = FolderDataset(root, "val", division=Division(0.5))
    for name in "abcd":
        Image.fromarray(annotated.label_of(name)).save(root / f"{name}_mask.png")
    (root / "dataset.yaml").write_text("classes: [background, leaf, root]\n")
    stored = FolderDataset(root, "val", division=Division(0.5))
    assert [image for image, _ in stored.files.pairs] == [image for image, _ in drawn.files.pairs]
    np.testing.assert_array_equal(stored[0][1], drawn[0][1])


def test_divided_annotations_take_no_groups(tmp_path):
    root = annotated.cvat_coco(tmp_path)
    assert len(FolderDataset(root, "val", division=Division())) == 2
    with pytest.raises(DataError, match="there is a split val already"):
        FolderDataset(root, "val", division=Division(group_by="(.)"))


@pytest.mark.parametrize("place", ["{name}_mask.png", "{name}.png"])
def test_label_files_beside_annotations_are_an_error_with_both_ways_out(tmp_path, place):
    root = labelme_folder(tmp_path)
    for name in "abcd":
        Image.fromarray(annotated.label_of(name)).save(root / place.format(name=name))
    mask = root / place.format(name="a")
    with pytest.raises(DataError) as error:
        FolderDataset(root, division=Division())
    said = str(error.value)
    assert f"{mask})" in said
    assert f"LabelMe JSON (such as {root / 'a.json'})" in said
    assert f"classes in {root / 'dataset.yaml'}" in said
    assert f"`ccnet import {root} FOLDER`" in said
    (root / "dataset.yaml").write_text("classes: [background, leaf, root]\n")
    assert not FolderDataset(root, division=Division()).is_drawn


@pytest.mark.parametrize("write", [annotated.voc, annotated.metadata])
def test_lists_count_before_the_splits_of_annotations_that_are_label_files(tmp_path, write):
    root = write(tmp_path)
    other = FolderDataset(root, "val")
    write_list(root / "train.txt", other.files.pairs, root, "# by hand")
    listed = FolderDataset(root, "train", division=Division())
    assert listed.files.layout == "train.txt"
    assert [image for image, _ in listed.files.pairs] == [image for image, _ in other.files.pairs]
    np.testing.assert_array_equal(listed[0][1], other[0][1])
    assert len(FolderDataset(root, "train.txt")) == 2


def test_shapes_lie_on_the_image_as_it_is_viewed_and_leave_no_turn_open(tmp_path):
    root = labelme_folder(tmp_path)
    turn = Image.Exif()
    turn[0x0112] = 3
    for name in "abcd":
        with Image.open(root / f"{name}.jpg") as picture:
            picture.save(root / f"{name}.jpg", exif=turn)
    dataset = FolderDataset(root)
    np.testing.assert_array_equal(dataset[0][1], annotated.label_of("a"))
    report = check_dataset(dataset, compare_edges=True)
    assert (report.num_usable, report.open_turns) == (4, [])
    with pytest.raises(ValueError, match="orientation are of label files, not of shapes"):
        FolderDataset(root, orientation="stored")


def test_annotations_have_no_lists_of_label_files(tmp_path):
    drawn = FolderDataset(labelme_folder(tmp_path / "data"))
    stored = FolderDataset(annotated.voc(tmp_path / "voc"))
    write_lists(tmp_path, train=drawn, val=stored)
    assert not (tmp_path / "train.txt").exists()
    assert len((tmp_path / "val.txt").read_text().splitlines()) == 3


def test_a_list_of_names_counts_in_a_folder_of_masks(tmp_path: Path):
    root = annotated.voc(tmp_path / "voc")
    whole = FolderDataset(root, "train")
    name = whole.files.pairs[-1][0].stem
    (root / "train.txt").write_text(f"{name}\n")
    assert [image.stem for image, _ in FolderDataset(root, "train").files.pairs] == [name]
