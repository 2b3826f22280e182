"""What is done with an image, and its files."""

import json

import numpy as np
import pytest
from PIL import Image

from ccnet.app.storage import Storage
from ccnet.app.workbench import Workbench, top_classes
from ccnet.images.colors import overlay
from ccnet.polygons.regions import find_regions
from ccnet.runtime.files import DataError
from tests.app.serving import loaded


@pytest.fixture
def bench(model_folder, tmp_path) -> Workbench:
    return Workbench(loaded(model_folder), Storage(tmp_path))


def test_a_result_is_kept_for_the_same_image_and_protocol(bench, scene):
    (model,) = bench.models
    found = bench.segmentation(model, scene)
    assert bench.segmentation(model, scene) is found
    assert bench.segmentation(model, scene, "sliding") is not found


def test_the_files_are_the_labels_the_overlay_and_the_polygons(bench, scene):
    (model,) = bench.models
    found = bench.segmentation(model, scene)
    labels, covered, polygons = bench.downloads(model, scene, found, 0.5)
    np.testing.assert_array_equal(np.asarray(Image.open(labels)), found.labels)
    expected = overlay(found.image, found.labels, model.palette, 0.5)
    np.testing.assert_array_equal(np.asarray(Image.open(covered)), expected)
    content = json.loads(polygons.read_text())
    assert content["images"] == [{"id": 1, "file_name": "scene.png", "width": 64, "height": 64}]
    assert [category["name"] for category in content["categories"]] == list(model.predictor.classes)
    regions = find_regions(found.labels, tolerance=1.0, min_area=16)
    assert len(content["annotations"]) == len(regions)
    assert [labels.name, covered.name] == ["scene.png", "scene.overlay.png"]


def test_messages_name_the_file_and_not_where_it_is(bench, tmp_path):
    path = tmp_path / "letter.jpg"
    path.write_bytes(b"%!PS-Adobe")
    with pytest.raises(
        DataError, match=r"^letter.jpg: cannot be read .* PostScript; save it as JP"
    ):
        bench.segmentation(bench.models[0], path)
    with pytest.raises(DataError, match=r"^gone.jpg: the page keeps this file no longer"):
        bench.segmentation(bench.models[0], tmp_path / "gone.jpg")


def test_facts_and_classes_are_of_the_model(bench, scene):
    (model,) = bench.models
    found = bench.segmentation(model, scene)
    facts = bench.facts(model, found)
    assert list(facts["shares"]) == list(model.predictor.classes)
    assert sum(facts["shares"].values()) == pytest.approx(1)
    assert json.loads(json.dumps(facts)) == facts
    names = [name for name, _ in top_classes(model, found, 5, 6)]
    assert names[0] == model.predictor.classes[found.labels[6, 5]]
    assert sorted(names) == sorted(model.predictor.classes)


def test_a_model_is_found_by_its_name(bench):
    (model,) = bench.models
    assert bench.model_named("") is model
    assert bench.model_named(model.name) is model
    with pytest.raises(ValueError, match="there is no model 'other'; there is "):
        bench.model_named("other")
