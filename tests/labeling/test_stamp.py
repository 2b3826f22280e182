"""Stamps: what changes them, and which damage and changes of a file its stamp shows."""

import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ccnet import CCNet
from ccnet.images.writing import write_labels
from ccnet.labeling.stamp import (
    PictureFile,
    encode_png,
    fingerprint,
    inspect_file,
    inspect_picture,
    stamp_of,
)

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


def stamped(path: Path, array: np.ndarray = LABELS) -> bytes:
    """Write a picture with the stamp "who and what"."""
    path.write_bytes(encode_png(array, "who and what"))
    return path.read_bytes()


def stamped_by_version_0_1(path: Path, array: np.ndarray = LABELS) -> bytes:
    chunks = PngInfo()
    chunks.add_text("ccnet", "who and what")
    Image.fromarray(array).save(path, pnginfo=chunks)
    return path.read_bytes()


@pytest.mark.parametrize("write", [stamped, stamped_by_version_0_1])
@pytest.mark.parametrize("array", [LABELS, np.stack([LABELS] * 3, axis=2)], ids=["labels", "color"])
def test_a_stamp_is_read_without_decoding(tmp_path, monkeypatch, write, array):
    path = tmp_path / "a.png"
    write(path, array)
    np.testing.assert_array_equal(Image.open(path), array)
    monkeypatch.setattr(Image, "open", lambda *_: pytest.fail("decoded"))
    picture = inspect_picture(path)
    assert picture is not None
    assert (picture.stamp, picture.is_whole, picture.size) == ("who and what", True, (4, 3))


@pytest.mark.parametrize("write", [stamped, stamped_by_version_0_1])
def test_no_damaged_byte_passes_as_whole(tmp_path, write):
    path = tmp_path / "a.png"
    content = write(path)
    for index in range(len(content)):
        damaged = bytearray(content)
        damaged[index] ^= 16
        path.write_bytes(damaged)
        picture = inspect_picture(path)
        assert picture is not None
        assert not picture.has_stamp("who and what"), index
        if index >= content.index(b"IDAT"):  # pixels can be made again
            assert picture.stamp == "who and what", index
    for length in range(1, len(content)):
        path.write_bytes(content[:length])
        picture = inspect_picture(path)
        assert picture is not None
        assert not picture.is_whole, length
    path.write_bytes(content + b"more")
    picture = inspect_picture(path)
    assert picture is not None
    assert not picture.is_whole


def test_pixels_that_somebody_changed_are_somebody_else_s(tmp_path):
    """Programs that keep the text chunks of a file keep its stamp too."""
    path = tmp_path / "a.png"
    stamped(path)
    with Image.open(path) as picture:
        chunks = PngInfo()
        chunks.add_text("ccnet", picture.info["ccnet"])
    Image.fromarray(LABELS + 1).save(path, pnginfo=chunks)
    found = inspect_picture(path)
    assert found is not None
    assert found.stamp is None


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


BOMB = zlib.compress(bytes(10**8))


@pytest.mark.parametrize(
    "chunks",
    [
        chunk(b"iTXt", b"ccnet\0\1\0\0\0" + BOMB),
        chunk(b"zTXt", b"ccnet\0\0" + BOMB),
        chunk(b"tEXt", b"ccnet\0" + b"x" * 10**6),
        b"\x7f\xff\xff\xfftEXtccnet\0who and what",
        b"\xff\xff\xff\xfftEXtccnet\0who and what",
        chunk(b"tEXt", b"ccnet"),
        chunk(b"tEXt", b"other\0who and what"),
        b"\0\0\0",
    ],
    ids=["iTXt", "zTXt", "long", "longer than the file", "negative", "short", "other", "torn"],
)
def test_chunks_made_to_harm_are_no_stamp_and_are_not_unpacked(tmp_path, chunks):
    path = tmp_path / "a.png"
    content = stamped(path)
    path.write_bytes(content[:33] + chunks + content[content.index(b"IDAT") - 4 :])
    picture = inspect_picture(path)
    assert picture is not None
    assert picture.stamp is None


@pytest.mark.timeout(20)
@pytest.mark.parametrize("kind", ["FIFO", "folder", "link", "loop", "device"])
def test_what_is_no_regular_file_is_somebody_else_s_and_is_not_opened(tmp_path, kind):
    stamped(tmp_path / "other.png")
    path = tmp_path / "a.png"
    targets = {"link": "other.png", "loop": "a.png", "device": "/dev/zero"}
    if kind == "FIFO":
        os.mkfifo(path)
    elif kind == "folder":
        path.mkdir()
    else:
        path.symlink_to(targets[kind])
    picture = inspect_picture(path)
    assert picture is not None
    assert picture.stamp is None


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


def test_a_tiff_of_labels_has_its_stamp_and_other_files_have_none(tmp_path):
    pytest.importorskip("rasterio")
    path = tmp_path / "a.tif"
    assert inspect_file(path) is None
    for stamp, is_own in (("model=x image=1/2", True), ("by somebody else", False)):
        write_labels(path, lambda *at: np.zeros(at[2:], np.uint8), (3, 4), stamp)
        assert inspect_file(path) == PictureFile(path, stamp if is_own else None, is_own)
    Image.new("L", (4, 3)).save(path)
    assert inspect_file(path) == PictureFile(path)
    (tmp_path / "b.tif").symlink_to(path)
    assert inspect_file(tmp_path / "b.tif") == PictureFile(tmp_path / "b.tif")
    path.write_bytes(b"")
    assert inspect_file(path) is None
