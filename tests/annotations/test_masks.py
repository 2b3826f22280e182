"""Pascal VOC, CVAT's masks and Hugging Face's tables, and what is wrong with them."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.annotations.detection import open_source
from ccnet.annotations.masks import label_column
from ccnet.annotations.source import Source
from ccnet.classes import VOC
from ccnet.datasets.folder import FolderDataset
from ccnet.runtime.files import DataError
from tests.annotated import CLASSES, COLORS, cvat, label_of, metadata, save_image, voc


def opened(root: Path) -> Source:
    source = open_source(root)
    assert source is not None
    return source


def test_voc_without_names_has_its_own_classes_and_says_so(tmp_path: Path):
    (voc(tmp_path) / "class_names.txt").unlink()
    source = opened(tmp_path)
    assert source.description["classes"] == list(VOC)
    assert any("those of the 21 classes of VOC" in note for note in source.notes)


def test_the_border_of_voc_is_ignored_and_other_values_are_errors(tmp_path: Path):
    label = label_of("a")
    label[:, 3] = 255
    path = voc(tmp_path) / "SegmentationClass/a.png"
    Image.fromarray(label).save(path)
    np.testing.assert_array_equal(FolderDataset(tmp_path)[0][1], label)
    label[0, 0] = 3
    Image.fromarray(label).save(path)
    with pytest.raises(DataError, match=r"SegmentationClass/a\.png: value 3 first at \(x=0, y=0\)"):
        FolderDataset(tmp_path)[0]


def test_without_lists_every_label_is_of_train(tmp_path: Path):
    for path in (voc(tmp_path) / "ImageSets/Segmentation").iterdir():
        path.unlink()
    source = opened(tmp_path)
    assert [sample.name for sample in source.splits["train"]] == [f"{x}.jpg" for x in "abcd"]
    assert any("every label is of the split train" in note for note in source.notes)


def test_a_single_list_of_another_name_is_train_and_more_are_said(tmp_path: Path):
    lists = voc(tmp_path) / "ImageSets/Segmentation"
    (lists / "trainval.txt").write_text("a\nb\nc\nd\n")
    assert any("no split, passed over: trainval.txt" in note for note in opened(tmp_path).notes)
    for split in ("train", "val"):
        (lists / f"{split}.txt").unlink()
    (lists / "trainval.txt").rename(lists / "default.txt")
    assert len(opened(tmp_path).splits["train"]) == 4


def test_files_that_lists_name_must_be_there_and_inside(tmp_path: Path):
    root = voc(tmp_path)
    (root / "JPEGImages/a.jpg").unlink()
    (root / "SegmentationClass/b.png").unlink()
    assert [path.name for path in opened(root).missing["train"]] == ["a.jpg", "b.png"]
    with pytest.raises(DataError, match=r"name 2 files that are not there: JPEGImages/a\.jpg, Seg"):
        FolderDataset(root)
    listed = root / "ImageSets/Segmentation/train.txt"
    listed.write_text("c\nc\n")
    with pytest.raises(DataError, match="the image 'c' is there twice"):
        opened(root)
    listed.write_text("../../a\n")
    with pytest.raises(DataError, match=r"train\.txt: .* may lie outside of the source"):
        opened(root)


def test_names_of_cvat_are_read_by_their_colors(tmp_path: Path):
    root = cvat(tmp_path)
    dataset = FolderDataset(root)
    assert dataset.classes == CLASSES
    assert dataset.palette == tuple(COLORS.values())
    rgb = np.array(list(COLORS.values()), np.uint8)[label_of("a")]
    Image.fromarray(rgb).save(root / "SegmentationClass/a.png")
    np.testing.assert_array_equal(FolderDataset(root)[0][1], label_of("a"))
    rgb[0, 0] = 9
    Image.fromarray(rgb).save(root / "SegmentationClass/a.png")
    with pytest.raises(DataError, match=r"a\.png: color \(9, 9, 9\) first at"):
        FolderDataset(root)[0]


def test_a_label_of_cvat_called_ignore_is_none(tmp_path: Path):
    path = cvat(tmp_path) / "labelmap.txt"
    path.write_text(path.read_text().replace("root:", "ignore:"))
    dataset = FolderDataset(tmp_path)
    assert dataset.classes == CLASSES[:2]
    expected = label_of("a")
    expected[expected == 2] = 255
    np.testing.assert_array_equal(dataset[0][1], expected)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("stem", "line 5: must be name:red,green,blue"),
        ("stem:1,2::", "line 5: must be name:red,green,blue"),
        ("stem:1,2,x::", "line 5: must be name:red,green,blue"),
        (":1,2,3::", "line 5: must be name:red,green,blue"),
        ("leaf:1,2,3::", "line 5: the class 'leaf' is there twice"),
        ("stem:1,2,300::", "is not a color"),
        ("stem:0,200,0::", "have the same color"),
    ],
)
def test_wrong_lines_of_labelmap_are_refused(tmp_path: Path, line: str, message: str):
    with (cvat(tmp_path) / "labelmap.txt").open("a") as file:
        file.write(line)
    with pytest.raises(DataError, match=message):
        FolderDataset(tmp_path)


def test_a_jsonl_in_the_root_names_files_in_folders_of_splits(tmp_path: Path):
    root = metadata(tmp_path)
    rows = []
    for split, names in (("train", "ab"), ("val", "cd")):
        (root / split / "metadata.csv").unlink()
        (root / split).rename(root / {"val": "validation"}.get(split, split))
        folder = {"val": "validation"}.get(split, split)
        rows += [
            {"file_name": f"{folder}/{name}.png", "mask": f"{folder}/masks/{name}.png"}
            for name in names
        ]
    (root / "metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    dataset = FolderDataset(root, "val")
    assert [sample.name for sample in dataset.samples] == ["c.png", "d.png"]
    np.testing.assert_array_equal(dataset[0][1], label_of("c"))


def test_columns_of_label_files_have_known_names():
    assert label_column(["file_name", "mask", "label"]) == "label"
    assert label_column(["file_name", "text"]) is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file_name,label\n", "it has no rows with `file_name` and 'label'"),
        ("file_name,label\n/a.png,masks/a.png\n", "row 1: the image '/a.png' may lie outside"),
        ("file_name,label\na.png,../../x.png\n", "row 1: the image '../../x.png' may lie"),
        ("file_name,label\na.png\n", "row 1: the name of the image must be text, got None"),
        ("file_name,label\na.txt,masks/a.png\n", r"row 1: 'train/a\.txt' is none of"),
        ("file_name,label\na.png,masks/a.png\na.png,masks/a.png\n", "'a.png' is there twice"),
        ("name,label\na.png,masks/a.png\n", "row 1: the name of the image must be text, got None"),
    ],
)
def test_wrong_tables_are_refused(tmp_path: Path, text: str, message: str):
    table = metadata(tmp_path) / "train/metadata.csv"
    table.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        open_source(tmp_path)
    assert str(caught.value).startswith(str(table))


def test_wrong_lines_of_json_are_refused(tmp_path: Path):
    table = metadata(tmp_path) / "metadata.jsonl"
    table.write_text('{"file_name": "train/a.png", "label": "b.png"}\n{\n')
    with pytest.raises(DataError, match=r"metadata\.jsonl: cannot be read"):
        open_source(tmp_path)
    table.write_text("{\n")
    with pytest.raises(DataError, match=r"metadata\.jsonl, row 1: not a line of JSON"):
        open_source(tmp_path)
    table.write_text('{"file_name": "train/a.png", "label": "b.png"}\n3\n')
    with pytest.raises(DataError, match="it has no rows with"):
        open_source(tmp_path)


def test_a_table_needs_names_of_its_classes(tmp_path: Path):
    names = metadata(tmp_path) / "id2label.json"
    for content, message in (
        ({"0": "a", "2": "b"}, "must give a name to each number from 0"),
        ([1], "must give a name to each number from 0"),
        ({"0": 3}, "must give a name to each number from 0"),
        ({"0": "a", "1": "a"}, "1 to 255 different names"),
    ):
        names.write_text(json.dumps(content))
        with pytest.raises(DataError, match=message):
            open_source(tmp_path)
    names.unlink()
    with pytest.raises(DataError, match=r"nothing names the classes .* write id2label\.json"):
        open_source(tmp_path)
    (tmp_path / "classes.txt").write_text("background\nleaf\nroot\n")
    np.testing.assert_array_equal(FolderDataset(tmp_path)[1][1], label_of("b"))


def test_missing_files_of_a_table_are_named(tmp_path: Path):
    (metadata(tmp_path) / "train/masks/a.png").unlink()
    assert opened(tmp_path).missing["train"] == [tmp_path / "train/masks/a.png"]
    save_image(tmp_path / "train/other.png")
    source = opened(tmp_path)
    assert len(source.splits["train"]) == 1
    assert source.notes == [
        f"images that no annotation names, passed over: 2 (first: {tmp_path / 'train/a.png'})"
    ]
