"""YOLO segmentation as exporters write it, and what is wrong with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ccnet.annotations.detection import open_source
from ccnet.annotations.drawing import Drawing
from ccnet.annotations.source import Source
from ccnet.runtime.files import DataError
from tests.annotated import HEIGHT, WIDTH, label_of, save_image, yolo


def described(root: Path, **values: Any) -> Source:
    content = {"path": ".", "train": "images/train", "val": "images/val", "names": ["leaf", "root"]}
    (root / "data.yaml").write_text(yaml.safe_dump(content | values))
    source = open_source(root)
    assert source is not None
    return source


def drawn(source: Source) -> np.ndarray:
    label = source.splits["train"][0].label
    assert isinstance(label, Drawing)
    return label.draw((HEIGHT, WIDTH))


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"path": "../datasets/elsewhere"},
        {"path": "/datasets/plants"},
        {"path": None, "train": "../images/train"},
        {"train": "./images/train/"},
        {"train": ["images/train"], "test": None, "nc": 2},
        {"train": "list.txt"},
        {"names": {1: "root", 0: "leaf"}},
    ],
)
def test_folders_and_lists_of_images_are_found(tmp_path: Path, values):
    yolo(tmp_path)
    (tmp_path / "list.txt").write_text("./images/train/a.png\nimages\\train\\b.png\n\n")
    source = described(tmp_path, **values)
    assert {split: len(samples) for split, samples in source.splits.items()} == {
        "train": 2,
        "val": 2,
    }
    np.testing.assert_array_equal(drawn(source), label_of("a"))


def test_text_files_may_lie_beside_images(tmp_path: Path):
    save_image(tmp_path / "photos/a.png")
    (tmp_path / "photos/a.txt").write_text("1 0 0 1 0 1 1 0 1\n")
    assert (drawn(described(tmp_path, train="photos", val=None)) == 2).all()


def test_joined_parts_are_drawn_as_parts(tmp_path: Path):
    """Two squares, joined by a line there and back as exporters join them."""
    save_image(tmp_path / "photos/a.png")
    corners = [(8, 8), (16, 8), (16, 16), (8, 16), (8, 8), (32, 8), (40, 8), (40, 16), (32, 16)]
    corners += [(32, 8)]
    shares = " ".join(f"{x / WIDTH!r} {y / HEIGHT!r}" for x, y in corners)
    (tmp_path / "photos/a.txt").write_text(f"0 {shares}\n")
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[8:16, 8:16] = expected[8:16, 32:40] = 1
    np.testing.assert_array_equal(drawn(described(tmp_path, train="photos", val=None)), expected)


def test_what_is_passed_over_is_counted_and_named(tmp_path: Path):
    yolo(tmp_path)
    (tmp_path / "labels/train/a.txt").unlink()
    path = tmp_path / "labels/train/b.txt"
    (tmp_path / "labels/train/x.txt").write_text("")
    path.write_text("1 0.1 0.1 1.01 0.5 0.1 0.9\n\n0 0.1 0.1\n")
    source = described(tmp_path)
    assert source.notes[1:] == [
        f"images without a text file, all unlabeled: 1 (first: {tmp_path / 'images/train/a.png'})",
        f"shapes that reach outside their image, clipped: 1 (first: {path}, line 1)",
        f"polygons of fewer than three points, passed over: 1 (first: {path}, line 3)",
        "text files without an image in the splits, passed over: 1 "
        f"(first: {tmp_path / 'labels/train/x.txt'})",
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("0 0.5 0.5 0.2 0.2", "line 2: it has 5 numbers, which is a box of YOLO detection"),
        ("0 0.5 0.5 0.2 0.2 0.1 0.1 0.1", "line 2: a class and pairs of x and y make an odd"),
        ("2 0.1 0.1 0.2 0.2 0.3 0.1", "line 2: there is no class '2'; `names` has 2"),
        ("-1 0.1 0.1 0.2 0.2 0.3 0.1", "there is no class '-1'"),
        ("² 0.1 0.1 0.2 0.2 0.3 0.1", "there is no class '²'"),
        ("0.0 0.1 0.1 0.2 0.2 0.3 0.1", "there is no class '0.0'"),
        ("0 0.1 0.1 0.2 x 0.3 0.1", "not all of it is numbers"),
        ("0 0.1 0.1 0.2 nan 0.3 0.1", "a coordinate is nan"),
        ("0 0.1 0.1 0.2 inf 0.3 0.1", "a coordinate is inf"),
        ("0 100 100 200 200 300 100", "a coordinate is 100, where shares of the size"),
    ],
)
def test_wrong_lines_are_refused(tmp_path: Path, line: str, message: str):
    path = yolo(tmp_path) / "labels/train/a.txt"
    path.write_text(f"0 0 0 1 0 1 1\n{line}\n")
    with pytest.raises(DataError, match=message) as caught:
        open_source(tmp_path)
    assert str(caught.value).startswith(f"{path}, line 2: ")


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"names": None}, "`names` must list the names"),
        ({"names": {1: "a", 2: "b"}}, "`names` must number the classes from 0"),
        ({"names": [1, 2]}, "`names` must list the names of the classes as text"),
        ({"names": ["a", "a"]}, "the class 'a' is there twice"),
        ({"train": 3}, "a split must be a folder of images, got 3"),
        ({"train": "absent"}, "there is no 'absent' in"),
        ({"train": "/etc"}, "there is no '/etc' in"),
        ({"train": "x/../../../etc"}, "there is no 'x/"),
        ({"train": None, "val": None}, "no images; `train` and `val` must name"),
        ({"train": "list.txt"}, r"list\.txt, line 1: '\.\./a\.png' is no path of an image"),
    ],
)
def test_wrong_descriptions_are_refused(tmp_path: Path, values, message: str):
    yolo(tmp_path)
    (tmp_path / "list.txt").write_text("../a.png\n")
    with pytest.raises(DataError, match=message):
        described(tmp_path, **values)


def test_listed_images_that_are_missing_are_named(tmp_path: Path):
    yolo(tmp_path)
    (tmp_path / "list.txt").write_text("images/train/a.png\nimages/train/x.png\n")
    source = described(tmp_path, train="list.txt")
    assert source.missing == {"train": [tmp_path / "images/train/x.png"]}
