"""What a report says, against what can be counted by hand."""

import json

import numpy as np
import pytest

from ccnet.report.content import classes_content, errors_content, page_content, scores_content
from ccnet.report.evaluation import Evaluation
from tests.report.test_evaluation import CLASSES, PALETTE, observed


@pytest.fixture
def small() -> Evaluation:
    found = Evaluation(CLASSES, PALETTE)
    image, confidence = np.zeros((1, 4, 3), np.uint8), np.full((1, 4), 0.75, np.float32)
    for index, (label, prediction) in enumerate(
        [([0, 0, 1, 255], [0, 1, 1, 2]), ([1] * 4, [1] * 4)]
    ):
        arrays = np.array([label], np.uint8), np.array([prediction], np.uint8)
        found(index, f"{index}.png", image, *arrays, confidence)
    return found


def test_scores_by_hand(small):
    content = scores_content(small, {"model": "m"})
    assert content["facts"] == {"model": "m"}
    assert content["images"] == 2
    assert content["iou"] == {"road": 0.5, "sky": pytest.approx(5 / 6), "car": None}
    assert content["miou"] == pytest.approx((1 / 2 + 5 / 6) / 2)
    assert content["absent"] == ["car"]
    assert content["warnings"] == ["mIoU is over 2 of 3 classes; never seen: car"]
    assert content["mean_image_iou"] == pytest.approx((0.5 + 1) / 2)
    assert content["calibration_error"] == pytest.approx(6 / 7 - 0.75)
    assert content["boundary_iou"]["car"] is None
    bands = content["accuracy_by_distance"]
    assert [(band["from"], band["to"]) for band in bands[:3]] == [(1, 1), (2, 2), (3, 4)]
    assert bands[-1]["to"] is None
    assert [band["pixels"] for band in bands] == [2, 1, 0, 0, 0, 0, 4]
    assert bands[2]["accuracy"] is None
    assert sum(bin["pixels"] for bin in content["reliability"]) == 7
    assert content["suspected_label_errors"] == 0
    json.dumps(content, allow_nan=False)


def test_classes_by_hand(small):
    road, sky, car = classes_content(small)
    assert road["color"] == [10, 20, 30]
    assert (road["labeled_pixels"], road["predicted_pixels"], road["images"]) == (2, 1, 1)
    assert (road["accuracy"], road["precision"]) == (0.5, 1)
    assert (sky["labeled_pixels"], sky["images"], sky["precision"]) == (5, 2, pytest.approx(5 / 6))
    assert (car["iou"], car["accuracy"], car["precision"], car["images"]) == (None, None, None, 0)


def test_the_page_knows_which_images_hold_a_cell(small):
    content = page_content(small, "t", {}, {1})
    assert content["confusion"] == [[1, 1, 0], [0, 5, 0], [0, 0, 0]]
    assert content["cell_images"] == [1, 1, 0, 0, 2, 0, 0, 0, 0]
    assert content["cell_names"] == {1: ["0.png"]}  # the only confusion, in an image not shown
    (shown,) = content["shown"]
    assert (shown["name"], shown["cells"], shown["pixels"]) == ("1.png", [4], [4])
    assert sum(content["histogram"]) == 2
    assert page_content(small, "t", {}, {0, 1})["cell_names"] == {}


@pytest.mark.slow
def test_names_of_a_confusion_are_those_with_most_pixels():
    found = observed(range(60))
    content = page_content(found, "t", {}, set())
    rows = [row for row in found.counts.rows if 3 in row.cells]  # labeled sky, predicted road
    pixels = {row.name: row.pixels[row.cells.tolist().index(3)] for row in rows}
    names = content["cell_names"][3]
    assert len(names) == 10
    assert min(pixels[name] for name in names) >= sorted(pixels.values())[-10]


def test_errors_are_ranked():
    errors = errors_content(observed(range(3)))
    assert [error["rank"] for error in errors] == [1, 2, 3]
    assert errors[0]["score"] >= errors[1]["score"] >= errors[2]["score"]
    assert (errors[0]["label"], errors[0]["prediction"]) == (1, 0)


def test_nothing_labeled_is_an_error():
    found = Evaluation(CLASSES, PALETTE)
    image, label = np.zeros((2, 2, 3), np.uint8), np.full((2, 2), 255, np.uint8)
    found(0, "x", image, label, 0 * label, np.ones((2, 2), np.float32))
    with pytest.raises(ValueError, match="no pixel has a label"):
        scores_content(found, {})
