"""Which annotations a folder holds, and each kind read to the same label maps."""

import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from ccnet.annotations.detection import KINDS, detect, find_formats, open_source
from ccnet.annotations.drawing import Drawing
from ccnet.annotations.source import Options
from ccnet.datasets.folder import FolderDataset
from ccnet.labeling.jobs import Job
from ccnet.polygons.files import PolygonFormat, PolygonOptions, write_polygons
from ccnet.runtime.files import DataError
from tests.annotated import (
    CLASSES,
    HEIGHT,
    SPLITS,
    WIDTH,
    WRITERS,
    coco_content,
    cvat,
    cvat_coco,
    label_of,
    labelme,
    metadata,
    roboflow,
    save_image,
    voc,
    write_json,
    yolo,
)

LABELS = st.sampled_from([0, 1, 2, 255])


@pytest.mark.parametrize("kind", WRITERS)
def test_each_kind_is_found_and_read_to_the_same_labels(tmp_path: Path, kind: str):
    root = WRITERS[kind](tmp_path)
    format = kind.partition("-")[0]
    assert list(find_formats(root)) == [format]
    source = open_source(root)
    assert source is not None
    assert source.kind == KINDS[format]
    assert sorted(source.splits) == ["train", "val"]
    for split, names in SPLITS.items():
        dataset = FolderDataset(root, split)
        assert dataset.classes == CLASSES
        assert [Path(dataset.name(i)).stem for i in range(len(dataset))] == list(names)
        assert [Path(sample.name).stem for sample in dataset.samples] == list(names)
        assert all("/" not in sample.name for sample in dataset.samples)
        for i, name in enumerate(names):
            image, label = dataset[i]
            assert image.shape == (HEIGHT, WIDTH, 3)
            np.testing.assert_array_equal(label, label_of(name))


@pytest.mark.parametrize("kind", WRITERS)
def test_pixels_that_nobody_labeled_are_ignored_on_request(tmp_path: Path, kind: str):
    root = WRITERS[kind](tmp_path)
    source = open_source(root, options=Options(unlabeled="ignored"))
    dataset = FolderDataset(root, "train", source=source)
    assert dataset.classes == CLASSES[1:]
    np.testing.assert_array_equal(dataset[0][1], label_of("a") - np.uint8(1))


@pytest.mark.parametrize("write", [cvat_coco, labelme, yolo])
def test_small_shapes_are_on_top_on_request(tmp_path: Path, write):
    write(tmp_path)
    for overlap, expected in (("later", 2), ("small", 2)):
        source = open_source(tmp_path, options=Options(overlap))
        assert source is not None
        drawing = source.splits["train"][0].label
        assert isinstance(drawing, Drawing)
        assert drawing.draw((HEIGHT, WIDTH))[15, 10] == expected
        assert [value for value, _ in drawing.shapes] == [1, 2]


def test_order_of_shapes_counts_where_the_small_one_comes_first(tmp_path: Path):
    content = coco_content("a")
    content["annotations"].reverse()
    cvat_coco(tmp_path)
    path = write_json(tmp_path / "annotations/instances_train.json", content)
    for place, (overlap, expected) in product((path, tmp_path), (("later", 1), ("small", 2))):
        source = open_source(place, options=Options(overlap))
        assert source is not None
        drawing = source.splits["train"][0].label
        assert isinstance(drawing, Drawing)
        assert drawing.draw((HEIGHT, WIDTH))[15, 10] == expected


def test_several_kinds_are_an_error_that_names_them_and_the_flag(tmp_path: Path):
    cvat_coco(yolo(tmp_path))
    with pytest.raises(DataError, match=r"several kinds .* coco \(.*yolo \(.*--format coco"):
        open_source(tmp_path)
    assert detect(tmp_path, "yolo") == ("yolo", [tmp_path / "data.yaml"])
    with pytest.raises(DataError, match=r"no LabelMe JSON, but COCO JSON, YOLO segmentation"):
        detect(tmp_path, "labelme")


def test_a_folder_without_annotations_has_none(tmp_path: Path):
    write_json(tmp_path / "package.json", {"name": "images"})
    (tmp_path / "other.yaml").write_text("a: [")
    (tmp_path / "metadata.csv").write_text("file_name,text\n")
    write_json(tmp_path / ".hidden/a.json", coco_content("a"))
    assert open_source(tmp_path) is None
    assert open_source(tmp_path / "package.json") is None
    with pytest.raises(DataError, match=r"no annotations that are known"):
        detect(tmp_path, "coco")
    with pytest.raises(DataError, match=r"no split 'train'") as caught:
        FolderDataset(tmp_path)
    assert caught.value.__notes__[0].startswith("nor does it hold COCO JSON, LabelMe JSON")
    for kind in ("images", "labels"):
        (tmp_path / "train" / kind).mkdir(parents=True)
    with pytest.raises(DataError, match=r"(?s)dataset.yaml: no such file.*COCO JSON, LabelMe"):
        FolderDataset(tmp_path)
    with pytest.raises(DataError, match=r"no such folder"):
        open_source(tmp_path / "absent")
    with pytest.raises(DataError, match=r"absent.json: no such file"):
        open_source(tmp_path / "absent.json")


def test_a_broken_data_yaml_is_named(tmp_path: Path):
    (yolo(tmp_path) / "data.yaml").write_text("names: [")
    with pytest.raises(DataError, match=r"data\.yaml, line 1: cannot be read as YAML"):
        open_source(tmp_path)


def test_two_descriptions_of_yolo_are_an_error(tmp_path: Path):
    text = (yolo(tmp_path) / "data.yaml").read_text()
    (tmp_path / "other.yml").write_text(text)
    with pytest.raises(DataError, match=r"several files describe .*data.yaml, other.yml"):
        open_source(tmp_path)


def test_a_single_coco_file_is_a_source(tmp_path: Path):
    path = roboflow(tmp_path) / "train/_annotations.coco.json"
    dataset = FolderDataset(path, "train")
    np.testing.assert_array_equal(dataset[1][1], label_of("b"))
    with pytest.raises(DataError, match=r"have no split 'val', but train"):
        FolderDataset(path, "val")


@pytest.mark.parametrize("write", [voc, cvat, metadata])
def test_label_files_take_more_description(tmp_path: Path, write):
    dataset = FolderDataset(write(tmp_path), ignore="#010203")
    assert len(dataset) == 2


def test_shapes_take_no_description_of_label_files(tmp_path: Path):
    with pytest.raises(ValueError, match="ignore are of label files, not of shapes"):
        FolderDataset(labelme(tmp_path), ignore=3)


@settings(deadline=None, max_examples=25)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=LABELS),
    st.sampled_from(["coco", "labelme"]),
)
def test_polygons_of_predict_give_the_same_labels_back(labels: np.ndarray, format: PolygonFormat):
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        job = Job(save_image(root / "a.jpg", (labels.shape[0], labels.shape[1])), root / "a.png")
        Image.fromarray(labels).save(job.labels)
        write_polygons([job], root, CLASSES, PolygonOptions(format, tolerance=0, min_area=1))
        job.labels.unlink()
        if format == "labelme":
            (root / "labels.txt").write_text("\n".join(CLASSES))
        source = open_source(root, options=Options(unlabeled="ignored"))
        dataset = FolderDataset(root, "train", source=source)
        assert dataset.classes == CLASSES
        np.testing.assert_array_equal(dataset[0][1], labels)
