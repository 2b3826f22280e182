"""COCO, GeoJSON and LabelMe files: drawn again by other code, they give the label maps back."""

import json
from dataclasses import replace

import numpy as np
import pytest
from matplotlib.path import Path as Outline
from PIL import Image

from ccnet.classes import LABEL_IDS
from ccnet.labeling.jobs import Job
from ccnet.polygons.files import COCO_FILE, PolygonOptions, joined, write_polygons
from ccnet.polygons.regions import find_regions

CLASSES = ("sky", "wüste", "tree")


def filled(polygons, shape):
    """The pixels whose centers lie in an odd number of polygons."""
    y, x = np.indices(shape) + 0.5
    centers = np.stack([x.ravel(), y.ravel()], axis=1)
    counts = sum(Outline(np.array(p)).contains_points(centers).astype(int) for p in polygons)
    return (counts % 2 == 1).reshape(shape)


@pytest.fixture
def jobs(tmp_path):
    """Two label maps with holes, in a subfolder and not, and one that was not made."""
    made = []
    for name, seed in (("a", 0), ("sub/b", 1)):
        blocks = np.random.default_rng(seed).choice([0, 1, 2, 255], (6, 8)).astype(np.uint8)
        blocks[1:4, 1:4] = 1
        blocks[2, 2] = 2
        path = tmp_path / "out" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(blocks.repeat(3, 0).repeat(3, 1)).save(path)
        made.append(Job(tmp_path / f"{name}.jpg", path))
    return [*made, Job(tmp_path / "c.jpg", tmp_path / "out" / "c.png")]


def exact(format):
    return PolygonOptions(format, tolerance=0, min_area=1)


def test_coco(jobs, tmp_path):
    seen = []
    (path,) = write_polygons(
        jobs, tmp_path / "out", CLASSES, exact("coco"), progress=lambda *c: seen.append(c)
    )
    assert path == tmp_path / "out" / COCO_FILE
    assert seen == [(1, 2), (2, 2)]
    content = json.loads(path.read_text(encoding="utf-8"))
    assert [c["name"] for c in content["categories"]] == list(CLASSES)
    assert [image["file_name"] for image in content["images"]] == ["a.jpg", "sub/b.jpg"]
    ids = [annotation["id"] for annotation in content["annotations"]]
    assert ids == list(range(1, len(ids) + 1))
    for image, job in zip(content["images"], jobs, strict=False):
        labels = np.asarray(Image.open(job.labels))
        assert labels.shape == (image["height"], image["width"])
        drawn = np.full(labels.shape, 255, np.uint8)
        for annotation in content["annotations"]:
            if annotation["image_id"] != image["id"]:
                continue
            (ring,) = annotation["segmentation"]
            pixels = filled([np.reshape(ring, (-1, 2))], labels.shape)
            drawn[pixels] = annotation["category_id"] - 1
            assert pixels.sum() == annotation["area"]
            y, x = np.nonzero(pixels)
            left, top, width, height = annotation["bbox"]
            assert (left, top) == (x.min(), y.min())
            assert (left + width, top + height) == (x.max() + 1, y.max() + 1)
        assert np.array_equal(drawn, labels)


def test_geojson(jobs, tmp_path):
    paths = write_polygons(jobs, tmp_path / "out", CLASSES, exact("geojson"))
    assert [path.name for path in paths] == ["a.geojson", "b.geojson"]
    for path in paths:
        labels = np.asarray(Image.open(path.with_suffix(".png")))
        drawn = np.full(labels.shape, 255, np.uint8)
        content = json.loads(path.read_text(encoding="utf-8"))
        for feature in content["features"]:
            rings = feature["geometry"]["coordinates"]
            assert all(ring[0] == ring[-1] for ring in rings)
            pixels = filled(rings, labels.shape)
            assert pixels.sum() == feature["properties"]["area"]
            drawn[pixels] = CLASSES.index(feature["properties"]["class"])
        assert np.array_equal(drawn, labels)


def test_labelme(jobs, tmp_path):
    paths = write_polygons(jobs, tmp_path / "out", CLASSES, exact("labelme"))
    assert [path.name for path in paths] == ["a.json", "b.json"]
    for path, job in zip(paths, jobs, strict=False):
        labels = np.asarray(Image.open(job.labels))
        content = json.loads(path.read_text(encoding="utf-8"))
        assert content["imagePath"] == job.image.name
        assert (content["imageHeight"], content["imageWidth"]) == labels.shape
        drawn = np.full(labels.shape, 255, np.uint8)
        for shape in content["shapes"]:
            drawn[filled([shape["points"]], labels.shape)] = CLASSES.index(shape["label"])
        assert np.array_equal(drawn, labels)


def test_regions_with_holes_become_one_ring():
    labels = np.zeros((20, 20), np.uint8)
    labels[2:5, 2:5] = labels[10:15, 3:12] = labels[5:9, 15:18] = 255
    (region,) = find_regions(labels)
    assert len(region.holes) == 3
    assert np.array_equal(filled([joined(region)], labels.shape), labels == 0)


def test_small_regions_and_corners_can_be_left_out(jobs, tmp_path):
    options = PolygonOptions("coco", tolerance=1.5, min_area=40)
    counts = []
    for chosen in (exact("coco"), options):
        (path,) = write_polygons(jobs, tmp_path / "out", CLASSES, chosen)
        counts.append(len(json.loads(path.read_text())["annotations"]))
    assert 0 < counts[1] < counts[0]


@pytest.mark.parametrize(("format", "name"), [("coco", COCO_FILE), ("labelme", "a.json")])
def test_a_file_of_somebody_else_stays(jobs, tmp_path, format, name):
    foreign = tmp_path / "out" / name
    foreign.write_text('{"shapes": "mine"}')
    with pytest.raises(FileExistsError, match=f"{name} was not written by ccnet predict"):
        write_polygons(jobs, tmp_path / "out", CLASSES, exact(format))
    assert foreign.read_text() == '{"shapes": "mine"}'
    for overwrite in (True, False):  # the second time it is ours
        write_polygons(jobs, tmp_path / "out", CLASSES, exact(format), overwrite=overwrite)
    assert "mine" not in foreign.read_text()


def test_label_maps_with_the_ids_of_a_data_set_give_the_same_polygons(jobs, tmp_path):
    options = exact("geojson")
    expected = [path.read_text() for path in write_polygons(jobs, tmp_path, CLASSES, options)]
    values = np.array([*LABEL_IDS["ade20k"], *[255] * 106], np.uint8)
    for job in jobs[:2]:
        Image.fromarray(values[np.asarray(Image.open(job.labels))]).save(job.labels)
    options = replace(options, ids="ade20k")
    assert [p.read_text() for p in write_polygons(jobs, tmp_path, CLASSES, options)] == expected
