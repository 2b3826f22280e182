"""Stamps: what changes them, and that reading one reads no pixels."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet import CCNet
from ccnet.prediction.stamp import fingerprint, read_picture, stamp_of, write_png

LABELS = np.arange(12, dtype=np.uint8).reshape(3, 4)


def test_a_saved_model_has_its_fingerprint_again(tiny_model, tmp_path):
    tiny_model.save_pretrained(tmp_path)
    assert fingerprint(CCNet.from_pretrained(str(tmp_path))) == fingerprint(tiny_model)


def change_weight(model):
    with torch.no_grad():
        model.head.classifier.bias[0] += 1e-6


def change_statistics(model):
    next(b for n, b in model.named_buffers() if "running_mean" in n)[0] += 1


def change_palette(model):
    model.arguments["palette"] = ((0, 0, 0),) * 4


@pytest.mark.parametrize("change", [change_weight, change_statistics, change_palette])
def test_what_changes_labels_changes_the_fingerprint(tiny_model, change):
    before = fingerprint(tiny_model)
    assert fingerprint(tiny_model) == before
    change(tiny_model)
    assert fingerprint(tiny_model) != before


def test_options_are_part_of_the_fingerprint(tiny_model):
    one, other = (fingerprint(tiny_model, dtype=d) for d in (torch.float32, torch.bfloat16))
    assert one != other


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
    picture = read_picture(path)
    assert picture is not None
    assert (picture.stamp, picture.whole, picture.size) == ("who and what", True, (4, 3))


def test_what_is_cut_off_is_not_whole(tmp_path):
    path = tmp_path / "a.png"
    write_png(path, LABELS, "s")
    path.write_bytes(path.read_bytes()[:-5])
    picture = read_picture(path)
    assert picture is not None
    assert (picture.stamp, picture.whole) == ("s", False)


@pytest.mark.parametrize(
    "content", ["other PNG", b"no image", b"\x89PNG\r\n\x1a\n", "jpeg"], ids=str
)
def test_a_file_without_a_stamp_is_somebody_else_s(tmp_path, content):
    path = tmp_path / "a.png"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        Image.fromarray(LABELS).save(path, format="JPEG" if content == "jpeg" else "PNG")
    picture = read_picture(path)
    assert picture is not None
    assert picture.stamp is None


def test_nothing_and_an_empty_file_are_nothing(tmp_path):
    assert read_picture(tmp_path / "a.png") is None
    (tmp_path / "a.png").touch()
    assert read_picture(tmp_path / "a.png") is None
