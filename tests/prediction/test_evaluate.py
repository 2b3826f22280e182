"""Scores of a predictor, against those counted by hand from its labels."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet import Predictor
from ccnet.datasets import Scenes
from ccnet.metrics import Scores
from ccnet.prediction.evaluate import evaluate
from tests.conftest import in_processes, new_tiny_model


class Photos:
    """Images of different sizes, in memory that cannot be written to."""

    classes = Scenes.classes
    palette = Scenes.palette
    ignore_index = 255

    def __init__(self, label: int | None = None, classes: tuple[str, ...] = classes):
        self.label = label
        self.classes = classes

    def __len__(self) -> int:
        return 3

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, label = (array[: 40 + index, 5 * index :] for array in Scenes()[index])
        if self.label is not None:
            label = np.full_like(label, self.label)
        image.setflags(write=False)
        label.setflags(write=False)
        return image, label

    def name(self, index: int) -> str:
        return f"photo {index}"


def counted_by_hand(predictor, dataset) -> np.ndarray:
    counts = np.zeros((4, 4))
    for index in range(len(dataset)):
        image, label = dataset[index]
        prediction = predictor.predict(image)
        seen = label != 255
        np.add.at(counts, (label[seen], prediction[seen]), 1)
    return counts


@pytest.mark.usefixtures("_every_warning")
@pytest.mark.parametrize("dataset", [Scenes("val", num_images=5), Photos()], ids=["scenes", "own"])
def test_scores_are_those_counted_by_hand(predictor, dataset):
    counts = counted_by_hand(predictor, dataset)
    right = counts.diagonal()
    iou = right / (counts.sum(0) + counts.sum(1) - right)
    labeled = counts.sum(1) > 0
    scores = evaluate(predictor, dataset)
    assert list(scores.iou) == ["ground", "red", "green", "blue"]
    np.testing.assert_allclose(list(scores.iou.values()), iou)
    assert scores.miou == pytest.approx(iou.mean())
    assert scores.pixel_accuracy == pytest.approx(right.sum() / counts.sum())
    assert scores.mean_accuracy == pytest.approx((right / counts.sum(1).clip(1))[labeled].mean())
    assert 0 < scores.miou < 1


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("dataset", [Scenes("val", num_images=3), Photos()], ids=["scenes", "own"])
def test_a_worker_gives_the_same_scores(predictor, dataset):
    assert evaluate(predictor, dataset, num_workers=1) == evaluate(predictor, dataset)


def test_progress_counts_the_images(predictor):
    seen = []
    evaluate(predictor, Scenes("val", num_images=3), progress=lambda *counts: seen.append(counts))
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_an_observer_sees_every_image_and_the_probability_of_what_is_predicted(predictor):
    dataset, seen = Photos(), []
    evaluate(predictor, dataset, observer=lambda *content: seen.append(content))
    assert [(index, name) for index, name, *_ in seen] == [(i, f"photo {i}") for i in range(3)]
    for index, _, image, label, prediction, confidence in seen:
        np.testing.assert_array_equal(image, dataset[index][0])
        np.testing.assert_array_equal(label, dataset[index][1])
        np.testing.assert_array_equal(prediction, predictor.predict(image))
        batch = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]
        probabilities = predictor.logits(batch)[0].softmax(0).numpy()
        np.testing.assert_allclose(confidence, probabilities.max(0), rtol=1e-6)
        assert (prediction.dtype, confidence.dtype) == (np.uint8, np.float32)


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (Photos(classes=("a", "b")), "model has 4 classes, the data 2"),
        (Scenes(num_images=0), "no images to evaluate on"),
        (Photos(label=255), "no pixel has a label"),
    ],
    ids=["classes", "empty", "unlabeled"],
)
def test_data_that_do_not_fit_are_an_error(predictor, dataset, words):
    with pytest.raises(ValueError, match=words):
        evaluate(predictor, dataset)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_whose_logits_are_nan_is_named(predictor, monkeypatch, num_workers):
    whole = predictor.run_network

    def nan_for_one_size(images):
        return whole(images) * (float("nan") if images.shape[2] == 41 else 1)

    monkeypatch.setattr(predictor, "run_network", nan_for_one_size)
    with pytest.raises(FloatingPointError, match=r"^photo 1: the network gives nan or infinite"):
        evaluate(predictor, Photos(), num_workers=num_workers)


@pytest.mark.parametrize("number", [-1, 10**9])
def test_a_number_of_workers_that_cannot_be_is_refused(predictor, number):
    with pytest.raises(ValueError, match=f"num_workers must be from 0 to 256, got {number}"):
        evaluate(predictor, Photos(), num_workers=number)


def test_classes_in_another_order_are_refused(predictor):
    class Swapped(Scenes):
        classes = ("ground", "green", "red", "blue")

    with pytest.raises(ValueError, match="class 1 of the model is 'red', of the data 'green'"):
        evaluate(predictor, Swapped("val", num_images=2))


DATA = {
    "odd": Scenes("val", num_images=5),
    "different sizes": Photos(),
    "fewer images than processes": Scenes("val", num_images=1),
}


class Noting:
    """A data set that notes which images were read."""

    def __init__(self, dataset):
        self.dataset = dataset
        self.classes = dataset.classes
        self.read = []

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int):
        self.read.append(index)
        return self.dataset[index]


def evaluate_all() -> dict[str, tuple[Scores, list[int], list[tuple[int, int]]]]:
    """The scores of each data set, which images were read, and the calls of progress."""
    torch.manual_seed(0)
    predictor = Predictor(new_tiny_model(), device="cpu")
    results = {}
    for name, dataset in DATA.items():
        noting, seen = Noting(dataset), []
        scores = evaluate(
            predictor, noting, progress=lambda *counts, seen=seen: seen.append(counts)
        )
        results[name] = scores, noting.read, seen
    return results


@pytest.mark.slow
def test_two_processes_score_as_one_does_and_read_each_image_once():
    alone = evaluate_all()
    both = in_processes(2, evaluate_all)
    for name, dataset in DATA.items():
        (first, first_read, first_seen), (second, second_read, _) = (r[name] for r in both)
        assert first == second == alone[name][0], name
        assert first_read == list(range(0, len(dataset), 2))
        assert second_read == list(range(1, len(dataset), 2))
        assert first_seen == [(i + 1, len(first_read)) for i in range(len(first_read))]


@pytest.mark.slow
def test_a_file_that_one_of_two_processes_cannot_read_ends_both_and_their_workers(tmp_path):
    torch.manual_seed(0)
    new_tiny_model().save_pretrained(tmp_path / "model")
    for index in range(6):
        for kind, array in zip(("images", "labels"), Scenes()[index], strict=True):
            path = tmp_path / "val" / kind / f"{index}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    path.write_bytes(b"no image")  # the last label, which is the second process's
    (tmp_path / "dataset.yaml").write_text(f"classes: [{', '.join(Scenes.classes)}]")
    arguments = [str(tmp_path / "model"), "--root", str(tmp_path), "--device", "cpu"]
    arguments += ["--devices", "2", "--num-workers", "1"]
    result = subprocess.run(
        [sys.executable, "-m", "ccnet", "evaluate", *arguments],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=90,
    )
    assert result.returncode == 2
    assert "process 1: " in result.stderr
    assert "labels/5.png: cannot be read as an image" in result.stderr
    assert "mIoU" not in result.stdout
