"""LabelMe JSON as LabelMe writes it, and what is wrong with it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ccnet.annotations.detection import open_source
from ccnet.annotations.drawing import Drawing
from ccnet.annotations.source import Source
from ccnet.runtime.files import DataError
from tests.annotated import HEIGHT, WIDTH, labelme_content, save_image, write_json


def opened(root: Path, **values: Any) -> Source:
    save_image(root / "a.png")
    write_json(root / "a.json", labelme_content("a") | values)
    source = open_source(root)
    assert source is not None
    return source


def shape(kind: str, *points: tuple[float, float], label: str = "leaf") -> dict[str, Any]:
    return {"label": label, "shape_type": kind, "points": points, "group_id": None}


def drawn(source: Source) -> np.ndarray:
    label = source.splits["train"][0].label
    assert isinstance(label, Drawing)
    return label.draw((HEIGHT, WIDTH))


def test_rectangles_and_circles_are_drawn(tmp_path: Path):
    boxes = [
        shape("rectangle", (20, 10), (4, 2)),
        shape("rectangle", (30, 5), (40, 5), (40, 9), (30, 9)),
        shape("circle", (10, 22), (10, 27), label="root"),
    ]
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    expected[2:10, 4:20] = expected[5:9, 30:40] = 1
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    expected[(x - 10) ** 2 + (y - 22) ** 2 <= 25] = 2
    np.testing.assert_array_equal(drawn(opened(tmp_path, shapes=boxes)), expected)


def test_what_is_passed_over_is_counted_and_named(tmp_path: Path):
    shapes = [
        shape("point", (3, 3)),
        shape("linestrip", (3, 3), (4, 5)),
        shape("linestrip", (3, 3), (4, 5)),
        shape("mask", (3, 3), (4, 5)),
        shape("polygon", (3, 3), (4, 5)),
        shape("circle", (2, 2), (2, 9)),
    ]
    save_image(tmp_path / "deep/b.png")
    source = opened(tmp_path, shapes=shapes, imageData="AAAA", flags={})
    path = tmp_path / "a.json"
    none = "shapes of the type"
    assert source.notes[1:] == [
        f"{none} point, which have no area, passed over: 1 (first: {path}, shape 1)",
        f"{none} linestrip, which have no area, passed over: 2 (first: {path}, shape 2)",
        f"{none} 'mask', passed over: 1 (first: {path}, shape 4)",
        f"polygons of fewer than three points, passed over: 1 (first: {path}, shape 5)",
        f"shapes that reach outside their image, clipped: 1 (first: {path}, shape 6)",
        f"images without a JSON file, passed over: 1 (first: {tmp_path / 'deep/b.png'})",
    ]


def test_an_image_without_shapes_is_background_and_said(tmp_path: Path):
    save_image(tmp_path / "b.png")
    write_json(tmp_path / "b.json", labelme_content("b") | {"shapes": []})
    source = opened(tmp_path)
    assert any("images without a shape, all unlabeled: 1" in note for note in source.notes)
    assert len(source.splits["train"]) == 2


def test_labels_txt_says_the_order_and_what_is_ignored(tmp_path: Path):
    (tmp_path / "labels.txt").write_text("__ignore__\n_background_\nroot\nleaf\n")
    shapes = [
        shape("rectangle", (0, 0), (9, 9), label="__ignore__"),
        shape("rectangle", (0, 9), (9, 12), label="leaf"),
    ]
    source = opened(tmp_path, shapes=shapes)
    assert source.description["classes"] == ["_background_", "root", "leaf"]
    assert [drawn(source)[y, 0] for y in (0, 9, 20)] == [255, 2, 0]
    with pytest.raises(DataError, match=r"labels\.txt: the label 'stem' of shapes is not in it"):
        opened(tmp_path, shapes=[shape("polygon", (0, 0), (9, 9), (0, 9), label="stem")])


def test_the_image_is_found_beside_its_file_or_where_it_says(tmp_path: Path):
    for path in ("../photos/a.png", "C:\\Users\\me\\a.png", "/home/me/a.png"):
        assert opened(tmp_path, imagePath=path).splits["train"][0].image == tmp_path / "a.png"
    (tmp_path / "photos").mkdir()
    (tmp_path / "jsons").mkdir()
    (tmp_path / "a.png").rename(tmp_path / "photos/a.png")
    (tmp_path / "a.json").unlink()
    content = labelme_content("a") | {"imagePath": "..\\photos\\a.png"}
    write_json(tmp_path / "jsons/a.json", content)
    source = open_source(tmp_path)
    assert source is not None
    assert source.splits["train"][0].image == tmp_path / "photos/a.png"
    (tmp_path / "photos/a.png").unlink()
    source = open_source(tmp_path)
    assert source is not None
    assert source.missing == {"train": [tmp_path / "photos/a.png"]}
    write_json(tmp_path / "jsons/a.json", content | {"imagePath": "../../a.png"})
    with pytest.raises(DataError, match=r"a\.json, imagePath: .* may lie outside of the source"):
        open_source(tmp_path)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"shapes": 3}, "has no list `shapes`"),
        ({"shapes": [3]}, "shape 1: its `label` must be text, got None"),
        ({"shapes": [shape("polygon", label="")]}, "shape 1: its `label` must be text, got ''"),
        ({"shapes": [shape("circle", (1, 1))]}, "shape 1: a circle has two points"),
        ({"shapes": [shape("rectangle", (1, 1), (1, 1), (1, 1))]}, "a rectangle has two points"),
        ({"shapes": [shape("polygon", (1, 1), (2, 2), (3, 1e9))]}, "shape 1: a coordinate is 1e"),
        ({"shapes": [{"label": "a", "points": None}]}, "shape 1: a polygon is x and y"),
        ({"imageHeight": 0}, "imagePath: height 0 and width 48"),
        ({"shapes": []}, "it has no classes"),
    ],
)
def test_wrong_content_is_refused(tmp_path: Path, values, message: str):
    with pytest.raises(DataError, match=message):
        opened(tmp_path, **values)


def test_two_files_of_one_image_are_an_error(tmp_path: Path):
    write_json(tmp_path / "b.json", labelme_content("a"))
    with pytest.raises(DataError, match=r"the image 'a\.png' is there twice"):
        opened(tmp_path)
