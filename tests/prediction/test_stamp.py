"""Stamps: what changes them, and that reading one reads no pixels."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet import CCNet
from ccnet.prediction.stamp import fingerprint, inspect_picture, stamp_of, write_png

FLOAT = torch.float32
LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_a_saved_model_has_its_fingerprint_again(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    assert fingerprint(CCNet.from_pretrained(str(tmp_path)), FLOAT) == fingerprint(
        tiny_model, FLOAT
    )


def change_weight(model):
    with torch.no_grad():
        model.head.classifier.bias[0] += 1e-6


def change_statistics(model):
    next(b for n, b in model.named_buffers() if "running_mean" in n)[0] += 1


def change_palette(model):
    model.arguments["palette"] = ((0, 0, 0),) * 4


@pytest.mark.parametrize("change", [change_weight, change_statistics, change_palette])
def test_what_changes_labels_changes_the_fingerprint(tiny_model, change):
    before = fingerprint(tiny_model, FLOAT)
    assert fingerprint(tiny_model, FLOAT) == before
    change(tiny_model)
    assert fingerprint(tiny_model, FLOAT) != before


@pytest.mark.parametrize(
    ("dtype", "recorded"),
    [
        (torch.float32, "cb839c5eb9fc4bd9b376824b2f79bfaca013eca85d82133effb7dd87e47c94ef"),
        (torch.bfloat16, "be48f37bad2eb53ea0a03aee97df30ce2b281c6c3b1c434a16465c887f5206a1"),
        (torch.float16, "e01621c6c57687b2f693cf3f4491a453bf3e867e53dd553d2f46f58d6ffa95a7"),
    ],
    ids=str,
)
def test_label_maps_of_earlier_versions_are_kept(dtype, recorded):
    """The fingerprints were recorded when dtype was hashed as one of the predictor's attributes."""
    model = CCNet(2, "tiny", channels=4, kernel_size=1, auxiliary_channels=None)
    state = {
        name: torch.arange(value.numel()).view(value.shape).to(value.dtype) / 8
        if value.is_floating_point()
        else torch.zeros_like(value)
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(state)
    assert fingerprint(model, dtype) == recorded


def test_an_image_that_is_changed_gets_another_stamp(tmp_path):
    image = tmp_path / "a.jpg"
    image.write_bytes(b"1234")
    os.utime(image, ns=(5, 7))
    assert stamp_of(image, "abc") == "model=abc image=4/7"
    os.utime(image, ns=(5, 8))
    assert stamp_of(image, "abc") == "model=abc image=4/8"
    assert stamp_of(tmp_path / "missing.jpg", "abc") is None


def test_a_stamp_is_read_without_the_pixels(tmp_path, monkeypatch):
    path = tmp_path / "sub" / "a.png"
    write_png(path, LABELS, "who and what")
    np.testing.assert_array_equal(Image.open(path), LABELS)

    def decode(*_):
        raise AssertionError("decoded")

    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", decode)
    picture = inspect_picture(path)
    assert picture is not None
    assert (picture.stamp, picture.is_complete, picture.size) == ("who and what", True, (4, 3))


def test_a_picture_is_not_flushed_to_disk_and_leaves_no_other_file(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: pytest.fail("flushed"))
    write_png(tmp_path / "a.png", LABELS, "s")
    assert [path.name for path in tmp_path.iterdir()] == ["a.png"]


def test_a_truncated_file_is_not_complete(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, LABELS, "s")
    path.write_bytes(path.read_bytes()[:-5])
    picture = inspect_picture(path)
    assert picture is not None
    assert (picture.stamp, picture.is_complete) == ("s", False)


@pytest.mark.parametrize(
    "content", ["other PNG", b"no image", b"\x89PNG\r\n\x1a\n", "jpeg"], ids=str
)
def test_a_file_without_a_stamp_is_somebody_else_s(tmp_path, content):
    path = tmp_path / "a.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        Image.fromarray(LABELS).save(path, format="JPEG" if content == "jpeg" else "PNG")
    picture = inspect_picture(path)
    assert picture is not None
    assert picture.stamp is None


def test_no_file_and_an_empty_file_are_none(tmp_path):
    assert inspect_picture(tmp_path / "a.png") is None
    (tmp_path / "a.png").touch()
    assert inspect_picture(tmp_path / "a.png") is None
