"""COCO JSON as tools export it, and what is wrong with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ccnet.annotations import coco
from ccnet.annotations.detection import open_source
from ccnet.annotations.drawing import Drawing
from ccnet.annotations.source import Source
from ccnet.datasets.folder import FolderDataset
from ccnet.runtime.files import DataError
from tests.annotated import HEIGHT, WIDTH, coco_content, label_of, roboflow, save_image, write_json
from tests.annotations.test_rle import compressed, counts_of


def opened(root: Path, content: Any, name: str = "a.json") -> Source:
    source = open_source(write_json(root / name, content))
    assert source is not None
    return source


def drawn(root: Path, content: Any) -> np.ndarray:
    save_image(root / "a.png")
    label = opened(root, content).splits["train"][0].label
    assert isinstance(label, Drawing)
    return label.draw((HEIGHT, WIDTH))


def test_masks_and_crowd_regions_are_drawn(tmp_path: Path):
    content = coco_content("a")
    leaf, root = (label_of("a") == value for value in (1, 2))
    leaf |= root & (np.arange(HEIGHT) >= 12)[:, None]
    size = [HEIGHT, WIDTH]
    first, second = content["annotations"]
    first["segmentation"] = {"counts": compressed(counts_of(leaf)), "size": size}
    second["segmentation"] = {"counts": counts_of(root), "size": size}
    np.testing.assert_array_equal(drawn(tmp_path, content), label_of("a"))
    second["iscrowd"] = 1  # it is below the leaf, which is named earlier
    expected = np.where(leaf, 1, np.where(root, 255, 0))
    np.testing.assert_array_equal(drawn(tmp_path, content), expected)
    assert any("crowd regions, ignored (255): 1" in n for n in opened(tmp_path, content).notes)


def test_a_size_that_only_the_mask_states_is_compared_with_the_image(tmp_path: Path):
    content = coco_content("a")
    for key in ("height", "width"):
        del content["images"][0][key]
    content["annotations"][0]["segmentation"] = {"counts": [100], "size": [10, 10]}
    with pytest.raises(DataError, match=r"a\.json: runs of 10×10 pixels for an image of 48×32"):
        drawn(tmp_path, content)


def test_categories_that_only_group_others_are_no_class(tmp_path: Path):
    source = open_source(roboflow(tmp_path))
    assert source is not None
    assert source.description["classes"] == ["background", "leaf", "root"]
    assert "the category 'plants' only groups the others" in source.notes


@pytest.mark.parametrize("name", ["images/deep/a.png", "images\\deep\\a.png", "deep/a.png"])
def test_names_with_folders_are_found(tmp_path: Path, name: str):
    save_image(tmp_path / "images/deep/a.png")
    content = coco_content("a")
    content["images"][0]["file_name"] = name
    source = opened(tmp_path, content, "result.json")
    assert source.splits["train"][0].image == tmp_path / "images/deep/a.png"


def test_images_of_the_split_are_found_before_others_of_the_same_name(tmp_path: Path):
    for split in ("train2017", "val2017"):
        write_json(tmp_path / f"annotations/instances_{split}.json", coco_content("a"))
        write_json(tmp_path / f"annotations/captions_{split}.json", {"images": [], "x": []})
        save_image(tmp_path / f"{split}/a.png")
    source = open_source(tmp_path)
    assert source is not None
    found = {split: samples[0].image for split, samples in source.splits.items()}
    assert found == {"train": tmp_path / "train2017/a.png", "val": tmp_path / "val2017/a.png"}
    assert any("JSON files beside instances_*.json, passed over: 2" in n for n in source.notes)


@pytest.mark.parametrize("folder", ["images", "annotations"])
def test_a_file_in_annotations_finds_images_beside_that_folder_too(tmp_path: Path, folder: str):
    path = write_json(tmp_path / "annotations/instances_default.json", coco_content("ab"))
    for name in "ab":
        save_image(tmp_path / folder / f"{name}.png")
    source = open_source(path)
    assert source is not None
    assert len(source.splits["train"]) == 2


def test_what_is_passed_over_is_counted_and_named(tmp_path: Path):
    content = coco_content("ab")
    first = content["annotations"][0]
    content["annotations"][2:] = [
        first | {"id": 7, "segmentation": []},
        first | {"id": 8, "image_id": 5},
        first | {"id": 9, "segmentation": [[1, 1, 2, 2]]},
        first | {"id": 10, "segmentation": [[-1, 1, 20, 2, 9, 99]]},
    ]
    for name in ("a", "b", "x"):
        save_image(tmp_path / f"{name}.png")
    source = opened(tmp_path, content)
    path = tmp_path / "a.json"
    assert source.notes[1:] == [
        f"boxes without an outline, passed over: 1 (first: {path}, annotation 3 (id 7))",
        "annotations of images that are not listed, passed over: 1 "
        f"(first: {path}, annotation 4 (id 8))",
        f"polygons of fewer than three points, passed over: 1 (first: {path}, annotation 5 (id 9))",
        f"shapes that reach outside their image, clipped: 1 (first: {path}, annotation 6 (id 10))",
        "images without a shape, all unlabeled: 1 (first: b.png)",
        f"images that no annotation names, passed over: 1 (first: {tmp_path / 'x.png'})",
    ]


def test_missing_images_are_named(tmp_path: Path):
    save_image(tmp_path / "b.png")
    path = write_json(tmp_path / "a.json", coco_content("abc"))
    with pytest.raises(DataError, match=r"name 2 files that are not there: a\.png, c\.png\. "):
        FolderDataset(path)
    dataset = FolderDataset(path, strict=False)
    assert [dataset.name(i) for i in range(len(dataset))] == ["b.png"]
    assert [file.name for file in dataset.files.missing] == ["a.png", "c.png"]


def test_another_size_than_stated_names_both(tmp_path: Path):
    save_image(tmp_path / "a.png", (WIDTH, HEIGHT))
    dataset = FolderDataset(write_json(tmp_path / "a.json", coco_content("a")))
    with pytest.raises(DataError, match=r"a\.json: it states 48×32 .*a\.png, which has 32×48"):
        dataset[0]


def changed(key: str, number: int = 0, **values: Any) -> dict[str, Any]:
    content = coco_content("a")
    content[key][number] |= values
    return content


WRONG = [
    ([], "no COCO JSON"),
    ({"images": 3, "annotations": []}, "`images` must be a list of mappings, got 3"),
    ({"images": [3], "annotations": [], "categories": []}, "`images` must be a list of mappings"),
    ({"images": [], "annotations": [], "categories": []}, "`images` is empty"),
    ({"images": [{}], "annotations": []}, "`categories` must be a list of mappings, got None"),
    ({"images": [{}], "annotations": [], "categories": []}, "it has no classes"),
    (changed("categories", id="3"), "a category has an `id` of its own"),
    (changed("categories", 1, id=17), "a category has an `id` of its own"),
    (changed("categories", name=None), "a category has an `id` of its own"),
    (changed("categories", name="leaf"), "the class 'leaf' is there twice"),
    (changed("images", id=[1]), "image 1: its `id` must be a number of its own"),
    (changed("images", file_name="/a.png"), "image 1: the image '/a.png' may lie outside"),
    (changed("images", file_name="../a.png"), "image 1: .* may lie outside"),
    (changed("images", file_name=None), "image 1: the name of the image must be text, got None"),
    (changed("images", file_name="a.txt"), "image 1: 'a.txt' is none of"),
    (changed("images", height=-1), "image 1: height -1 and width 48"),
    (changed("images", height="32"), "image 1: height '32'"),
    (changed("annotations", category_id=4), r"annotation 1 \(id 1\): .*no category 4; .* 3, 17"),
    (changed("annotations", category_id=None), "no category None"),
    (changed("annotations", segmentation="x"), "segmentation is 'x', no polygon and no mask"),
    (changed("annotations", segmentation=[[1, 2, 3]]), "x and y of each corner in turn"),
    (changed("annotations", segmentation=[[1, 2, 3, 4, 5, 1e300]]), r"a coordinate is 1e\+300"),
    (changed("annotations", segmentation={"counts": [5], "size": [1, 5]}), "runs have the size"),
    (changed("annotations", segmentation={"counts": [5], "size": [HEIGHT, WIDTH]}), "sum to 5"),
    (changed("annotations", segmentation=[[1, 2], 3]), "a polygon is"),
]


@pytest.mark.parametrize(("content", "message"), WRONG)
def test_wrong_content_is_refused_in_one_line(tmp_path: Path, content, message: str):
    save_image(tmp_path / "a.png")
    path = write_json(tmp_path / "a.json", content)
    with pytest.raises(DataError, match=message) as caught:
        coco.read_coco(path, [path], coco.Options())
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def test_images_twice_and_boxes_only_are_errors(tmp_path: Path):
    content = coco_content("ab")
    content["images"][1]["file_name"] = "./a.png"
    with pytest.raises(DataError, match=r"the image 'a\.png' is there twice"):
        opened(tmp_path, content)
    content = coco_content("a")
    for annotation in content["annotations"]:
        del annotation["segmentation"]
    with pytest.raises(DataError, match="it has boxes only and no outlines"):
        opened(tmp_path, content)


def test_what_is_no_number_of_json_and_large_files_are_refused(tmp_path: Path, monkeypatch):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(coco_content("a")).replace("12", "NaN", 1))
    with pytest.raises(DataError, match=r"a\.json: cannot be read as JSON: NaN is no number"):
        open_source(path)
    path.write_text(json.dumps(coco_content("a")).replace("[0, 12", "[1e999, 12", 1))
    with pytest.raises(DataError, match="a coordinate is inf"):
        open_source(path)
    monkeypatch.setattr(coco, "MAX_ANNOTATIONS", 100)
    with pytest.raises(DataError, match="larger than 100 bytes"):
        open_source(path)


def test_splits_must_have_the_same_categories_and_be_there_once(tmp_path: Path):
    write_json(tmp_path / "train.json", coco_content("a"))
    path = write_json(tmp_path / "val.json", changed("categories", name="stem"))
    with pytest.raises(DataError, match=r"val\.json: its categories .*'stem'.* differ from those"):
        open_source(tmp_path)
    path.rename(tmp_path / "training.json")
    with pytest.raises(DataError, match=r"both hold the split 'train'; give one"):
        open_source(tmp_path)
