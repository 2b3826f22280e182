"""One image after the other: what is skipped with a line, and what its line says."""

import errno

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet import CCNet, Predictor
from ccnet.classes import CITYSCAPES, LABEL_IDS, PUBLISHED, VOC
from ccnet.labeling import writer
from ccnet.labeling.files import Outcome
from ccnet.labeling.jobs import Products
from ccnet.labeling.manifest import read_manifests
from ccnet.prediction.protocol import Protocol
from tests.conftest import new_tiny_model
from tests.labeling.test_files import pictures_below, predict, write_images

ERRORS = [
    (RuntimeError("out of memory\nand a trace"), "out of memory"),
    (MemoryError(), "MemoryError"),
    (KeyError("tile"), "KeyError: 'tile'"),
    (AssertionError(), "AssertionError"),
    (SyntaxError("broken PNG file"), "SyntaxError: broken PNG file"),
    (ZeroDivisionError("x" * 10**6), "x" * 300),
]


@pytest.mark.parametrize("place", ["read_for", "score", "encode_png"])
@pytest.mark.parametrize(("error", "words"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_image_that_fails_in_any_way_stops_no_other(
    predictor, tmp_path, monkeypatch, place, error, words
):
    owner = predictor if place == "score" else writer
    whole, calls = getattr(owner, place), []

    def fail_at_the_second(*arguments):
        calls.append(arguments)
        if len(calls) == 2:
            raise error
        return whole(*arguments)

    write_images(tmp_path / "in", "a.png", "b.png", "c.png")
    monkeypatch.setattr(owner, place, fail_at_the_second)
    outcome = predict(predictor, tmp_path, num_workers=1)
    ((path, reason),) = outcome.failures
    assert outcome.written == 2
    assert reason == f"{path}: {words}"
    name = f"{path.stem}.png"
    assert pictures_below(tmp_path / "out") == sorted({"a.png", "b.png", "c.png"} - {name})
    assert read_manifests(tmp_path / "out")[name].reason == reason


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_network_that_gives_nan_labels_nothing(predictor, tmp_path, value, dtype):
    write_images(tmp_path / "in", "a.png", "b.png")
    with torch.no_grad():
        predictor.model.head.classifier.bias[2] = value
    predictor.dtype = dtype
    outcome = predict(predictor, tmp_path, products=Products(color=True))
    assert pictures_below(tmp_path / "out") == []
    reasons = [reason for _, reason in outcome.failures]
    assert len(reasons) == 2
    assert reasons[0].startswith(f"{tmp_path}/in/a.png: the network gives nan or infinite logits; ")


def test_names_that_get_too_long_are_skipped_and_others_of_255_bytes_are_not(predictor, tmp_path):
    names = [f"{'x' * 251}.png", f"{'ü' * 124}.jpeg", f"{'y' * 243}.png", "z.png"]
    write_images(tmp_path / "in", *names)
    assert predict(predictor, tmp_path) == Outcome(written=4)
    outcome = predict(predictor, tmp_path, products=Products(color=True, overlay=True))
    assert (outcome.written, len(outcome.failures)) == (2, 2)
    for path, reason in outcome.failures:
        assert path.name in names[:2]
        assert "would be longer than 255 bytes, which no file system allows; rename" in reason
    assert len(pictures_below(tmp_path / "out")) == 4 + 4
    assert predict(predictor, tmp_path, products=Products(color=True, overlay=True)).kept == 2


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EILSEQ])
def test_a_name_that_the_file_system_refuses_is_skipped(predictor, tmp_path, monkeypatch, number):
    whole = writer.write_picture

    def refuse(path, content):
        if path.name == "a.png":
            raise OSError(number, "Refused", str(path))
        whole(path, content)

    write_images(tmp_path / "in", "a.png", "b.png")
    monkeypatch.setattr(writer, "write_picture", refuse)
    outcome = predict(predictor, tmp_path)
    assert (outcome.written, len(outcome.failures)) == (1, 1)
    assert "Refused" in outcome.failures[0][1]


def test_probabilities_and_confidence_are_those_of_the_predictor(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png")
    wanted = Products(confidence=True, probabilities=True)
    assert predict(predictor, tmp_path, products=wanted) == Outcome(written=1)
    expected = predictor.probabilities(tmp_path / "in" / "a.png")
    numbers = np.load(tmp_path / "out" / "a.probabilities.npy")
    assert numbers.dtype == np.float16
    np.testing.assert_array_equal(numbers, expected.astype(np.float16))
    confidence = np.asarray(Image.open(tmp_path / "out" / "a.confidence.png"))
    np.testing.assert_array_equal(confidence, (expected.max(0) * 255).round())
    assert predict(predictor, tmp_path, products=wanted) == Outcome(kept=1)


def test_probabilities_of_another_model_or_with_damage_are_made_again(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png")
    wanted = Products(probabilities=True)
    predict(predictor, tmp_path, products=wanted)
    path = tmp_path / "out" / "a.probabilities.npy"
    first = path.read_bytes()
    other = Predictor(new_tiny_model(1), device="cpu")
    predict(other, tmp_path)  # its label map only
    assert path.read_bytes() == first
    assert predict(other, tmp_path, products=wanted) == Outcome(written=1)
    second = path.read_bytes()
    assert second != first
    path.write_bytes(second[:-300])
    with pytest.raises(
        FileExistsError, match=r"probabilities.npy was not written by ccnet predict"
    ):
        predict(other, tmp_path, products=wanted)
    damaged = bytearray(second)
    damaged[200] ^= 1
    path.write_bytes(damaged)
    assert predict(other, tmp_path, products=wanted) == Outcome(written=1)
    assert path.read_bytes() == second


def test_a_protocol_that_is_asked_for_makes_other_label_maps(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png")
    predict(predictor, tmp_path)
    tiled = Predictor(predictor.model, device="cpu", protocol=Protocol(tile=32))
    assert predict(tiled, tmp_path) == Outcome(written=1)
    assert predict(tiled, tmp_path) == Outcome(kept=1)


@pytest.mark.parametrize("ids", ["cityscapes", "ade20k", "voc"])
def test_values_of_a_data_set(predictor, tmp_path, ids):
    write_images(tmp_path / "in", "a.png")
    with pytest.raises(ValueError, match=f"the ids of {ids} are for its .* the model has 4"):
        predict(predictor, tmp_path, products=Products(ids=ids))
    classes = PUBLISHED[len(LABEL_IDS[ids])]
    model = CCNet(len(classes), "tiny", channels=16, classes=list(classes))
    labels = Predictor(model, device="cpu").predict(tmp_path / "in" / "a.png")
    predict(Predictor(model, device="cpu"), tmp_path, products=Products(ids=ids))
    with Image.open(tmp_path / "out" / "a.png") as picture:
        values = np.asarray(picture)
        assert picture.mode == ("P" if ids == "voc" else "L")
        if ids == "voc":
            colors = np.asarray(picture.convert("RGB"))
            np.testing.assert_array_equal(colors, np.array([*VOC.values()], np.uint8)[labels])
    np.testing.assert_array_equal(values, np.array(LABEL_IDS[ids])[labels])


def test_the_ids_of_cityscapes_are_those_of_its_label_files():
    names = dict(zip(CITYSCAPES, LABEL_IDS["cityscapes"], strict=True))
    assert names["road"] == 7
    assert names["traffic light"] == 19
    assert names["bus"] == 28
    assert names["train"] == 31
    assert names["bicycle"] == 33
