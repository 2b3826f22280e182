"""One image after the other: what is skipped with a line, and what its line says."""

import errno

import pytest
import torch

from ccnet.labeling import writer
from ccnet.labeling.files import Outcome
from ccnet.labeling.manifest import read_manifests
from tests.labeling.test_files import pictures_below, predict, write_images

ERRORS = [
    (RuntimeError("out of memory\nand a trace"), "out of memory"),
    (MemoryError(), "MemoryError"),
    (KeyError("tile"), "KeyError: 'tile'"),
    (AssertionError(), "AssertionError"),
    (SyntaxError("broken PNG file"), "SyntaxError: broken PNG file"),
    (ZeroDivisionError("x" * 10**6), "x" * 300),
]


@pytest.mark.parametrize("place", ["read_image", "predict", "encode_png"])
@pytest.mark.parametrize(("error", "words"), ERRORS, ids=lambda value: type(value).__name__)
def test_an_image_that_fails_in_any_way_stops_no_other(
    predictor, tmp_path, monkeypatch, place, error, words
):
    owner = predictor if place == "predict" else writer
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
    outcome = predict(predictor, tmp_path, color=True)
    assert pictures_below(tmp_path / "out") == []
    reasons = [reason for _, reason in outcome.failures]
    assert len(reasons) == 2
    assert reasons[0].startswith(f"{tmp_path}/in/a.png: the network gives nan or infinite logits; ")


def test_names_that_get_too_long_are_skipped_and_others_of_255_bytes_are_not(predictor, tmp_path):
    names = [f"{'x' * 251}.png", f"{'ü' * 124}.jpeg", f"{'y' * 243}.png", "z.png"]
    write_images(tmp_path / "in", *names)
    assert predict(predictor, tmp_path) == Outcome(written=4)
    outcome = predict(predictor, tmp_path, color=True, overlays=True)
    assert (outcome.written, len(outcome.failures)) == (2, 2)
    for path, reason in outcome.failures:
        assert path.name in names[:2]
        assert "would be longer than 255 bytes, which no file system allows; rename" in reason
    assert len(pictures_below(tmp_path / "out")) == 4 + 4
    assert predict(predictor, tmp_path, color=True, overlays=True).kept == 2


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
