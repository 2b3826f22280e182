"""An evaluation gathers the same from one process as from several, and bounded pictures."""

import pickle

import numpy as np
import pytest

from ccnet import Predictor
from ccnet.datasets import Scenes
from ccnet.prediction.evaluate import evaluate
from ccnet.report import evaluation
from ccnet.report.evaluation import Evaluation, new_crop
from ccnet.report.page import write_report
from tests.conftest import in_processes, new_tiny_model

CLASSES = ("road", "sky", "car")
PALETTE = ((10, 20, 30), (40, 50, 60), (70, 80, 90))


def observe(found: Evaluation, index: int, wrong: int = 20) -> None:
    """A scene of two halves with a block that only the label has, and random errors."""
    rng = np.random.default_rng(index)
    label = np.zeros((80, 100), np.uint8)
    label[:, 50:] = 1
    prediction = label.copy()
    label[10 : 10 + wrong, 5:40] = 1
    prediction[rng.random(label.shape) < 0.02 * (index % 5)] = 2
    label[rng.random(label.shape) < 0.05] = 255
    image = rng.integers(0, 256, (80, 100, 3), np.uint8)
    confidence = np.where(prediction == 2, 0.5, 0.9).astype(np.float32)
    found(index, f"{index}.png", image, label, prediction, confidence)


def observed(indices: range, **options) -> Evaluation:
    found = Evaluation(CLASSES, PALETTE, **options)
    for index in indices:
        observe(found, index)
    return found


def test_the_scores_are_those_of_the_evaluation(predictor):
    data = Scenes("val", num_images=5)
    found = Evaluation(data.classes, data.palette)
    assert evaluate(predictor, data, observer=found) == found.scores
    assert [row.name for row in found.counts.rows] == [data.name(i) for i in range(5)]
    assert set(found.gallery.pictures) == set(range(5))
    assert found.calibration.pixels.sum() == found.counts.total().sum()
    assert found.boundary.band_pixels.sum() == found.counts.total().sum()


def test_suspected_errors_have_crops_with_the_region_in_them():
    found = observed(range(1))
    (region,) = found.errors.suspected()
    assert (region.label, region.prediction) == (1, 0)
    crop = found.crops[region]
    x, y, width, height = crop.box
    assert 0 <= x < x + width <= 1
    assert 0 <= y < y + height <= 1
    assert width * crop.picture.width == pytest.approx(region.box[2], abs=1)


def test_a_crop_at_the_edge_of_the_image_ends_there():
    found = observed(range(1))
    (region,) = found.errors.suspected()
    crop = new_crop(region, np.zeros((80, 100, 3), np.uint8), *np.zeros((2, 80, 100), np.uint8))
    x, _, width, height = region.box
    assert crop.picture.width == x + width + max(24, max(width, height) // 2)


def test_crops_are_bounded_and_those_of_the_largest_score(monkeypatch):
    monkeypatch.setattr(evaluation, "MAX_CROPS", 3)
    found = Evaluation(CLASSES, PALETTE)
    for index in range(8):
        observe(found, index, wrong=10 + 5 * (index % 4))
    regions = found.errors.suspected()
    assert len(regions) == 8
    assert set(found.crops) == set(regions[:3])


@pytest.mark.slow
@pytest.mark.parametrize("number", [2, 3])
def test_processes_together_gather_what_one_does(number, tmp_path):
    whole = observed(range(10), max_images=6)
    first, *others = (observed(range(rank, 10, number), max_images=6) for rank in range(number))
    for other in others:
        first.merge(pickle.loads(pickle.dumps(other)))
    pages = [
        write_report(tmp_path / name, found, title="t", facts={}).read_text()
        for name, found in (("whole", whole), ("parts", first))
    ]
    assert pages[0] == pages[1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"confidence": np.full((4, 4), 1.5, np.float32)}, "a probability, 0 to 1"),
        ({"confidence": np.full((4, 4), np.nan, np.float32)}, "a probability, 0 to 1"),
        ({"label": np.full((4, 4), 9, np.uint8)}, "labels are 0 to 2, got 9"),
        ({"prediction": np.full((4, 4), 9, np.uint8)}, "predictions are 0 to 2, got 9"),
    ],
)
def test_values_out_of_range_are_refused_and_not_counted(change, words):
    content = {
        "image": np.zeros((4, 4, 3), np.uint8),
        "label": np.zeros((4, 4), np.uint8),
        "prediction": np.zeros((4, 4), np.uint8),
        "confidence": np.ones((4, 4), np.float32),
    }
    found = Evaluation(CLASSES, PALETTE)
    with pytest.raises(ValueError, match=words):
        found(0, "x", **(content | change))
    assert found.counts.rows == []
    assert found.calibration.pixels.sum() == 0


def evaluate_scenes() -> list:
    predictor = Predictor(new_tiny_model(), device="cpu")
    data = Scenes("val", num_images=5)
    found = Evaluation(data.classes, data.palette)
    evaluate(predictor, data, observer=found)
    found = found.gathered()
    return [found.scores, [row.index for row in found.counts.rows], sorted(found.gallery.pictures)]


@pytest.mark.slow
def test_two_processes_gather_every_image():
    first, second = in_processes(2, evaluate_scenes)
    assert first == second
    assert first[1:] == [[0, 1, 2, 3, 4]] * 2
