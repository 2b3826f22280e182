"""Images of every kind as a batch of one, and what is refused."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet.prediction.batches import as_batch
from ccnet.runtime.files import DataError

IMAGE = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
BATCH = torch.from_numpy(IMAGE.transpose(2, 0, 1)[None].copy())
TILE = Image.new("RGB", (8, 8))


@pytest.mark.parametrize(
    "image",
    [
        IMAGE,
        np.asfortranarray(IMAGE),
        torch.from_numpy(IMAGE).movedim(-1, 0),
        BATCH[0],
        Image.fromarray(IMAGE),
    ],
    ids=["array", "Fortran order", "channels-last tensor", "tensor", "picture"],
)
def test_the_values_of_an_image_become_a_batch_of_one(image):
    assert torch.equal(as_batch(image), BATCH)


@pytest.mark.parametrize("kind", [str, Path])
def test_the_file_at_a_path_is_read(tmp_path, kind):
    Image.fromarray(IMAGE).save(tmp_path / "ü.png")
    assert torch.equal(as_batch(kind(tmp_path / "ü.png")), BATCH)
    np.save(tmp_path / "five.npy", np.concatenate([IMAGE, IMAGE[:, :, :2]], axis=2))
    five = as_batch(kind(tmp_path / "five.npy"), channels=5)
    assert torch.equal(five, torch.cat([BATCH, BATCH[:, :2]], dim=1))
    with pytest.raises(DataError, match=r"missing\.png: no such file"):
        as_batch(kind(tmp_path / "missing.png"))


def test_a_file_is_turned_upright_and_a_picture_is_not(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # turned clockwise by 90°
    Image.fromarray(IMAGE).save(tmp_path / "a.png", exif=exif)
    upright = np.ascontiguousarray(np.rot90(IMAGE, -1))
    assert torch.equal(as_batch(tmp_path / "a.png"), as_batch(upright))
    with Image.open(tmp_path / "a.png") as picture:
        assert torch.equal(as_batch(picture), BATCH)


@pytest.mark.parametrize("dtype", ["<u2", ">u2"])
@pytest.mark.parametrize("channels", [1, 3, 5])
def test_sixteen_bits_are_kept_in_either_byte_order(dtype, channels):
    image = np.random.default_rng(0).integers(0, 65536, (5, 7, channels)).astype(dtype)
    batch = as_batch(image, channels)
    assert batch.dtype == torch.uint16
    np.testing.assert_array_equal(batch[0].movedim(0, -1).numpy(), image)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("image", "channels", "words"),
    [
        (np.zeros((8, 8, 3)), 3, r"an RGB array \(H, W, 3\) of uint8 or .*, got \(8, 8, 3\) of fl"),
        (np.zeros((8, 8, 3), np.int32), 3, r"got \(8, 8, 3\) of int32"),
        (np.zeros((8, 8), np.uint8), 3, r"got \(8, 8\) of uint8"),
        (np.zeros((3, 8, 8), np.uint8), 3, r"got \(3, 8, 8\) of uint8"),
        (np.zeros((8, 8, 3), np.uint8), 5, r"an array \(H, W, 5\) .*got \(8, 8, 3\) of uint8"),
        (torch.zeros(3, 8, 8), 3, r"tensor \(3, H, W\) .*, got \(3, 8, 8\) of torch\.float32"),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), 3, r"got \(1, 3, 8, 8\) of torch\.uint8"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), 3, r"got \(8, 8, 3\) of torch\.uint8"),
        (TILE, 5, "5 channels; give an array, a tensor or the path of a file, no PIL image"),
        (np.zeros((0, 5, 3), np.uint8), 3, r"got an empty image of shape \(0, 5, 3\)"),
        (torch.zeros(3, 5, 0, dtype=torch.uint8), 3, r"got an empty image of shape \(3, 5, 0\)"),
        (Image.new("RGB", (5, 0)), 3, r"got an empty image of shape \(0, 5, 3\)"),
    ],
)
def test_another_shape_or_data_type_is_an_error_that_names_it(image, channels, words):
    with pytest.raises(ValueError, match=words):
        as_batch(image, channels)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("image", "words"),
    [
        (None, r"an array \(H, W, 3\), a tensor \(3, H, W\), a PIL image or a path, got NoneType"),
        ([], "got list; give one image at a time"),
        ((IMAGE, IMAGE), "got tuple; give one image at a time"),
        (b"\x89PNG", r"got bytes; PIL\.Image\.open\(io\.BytesIO"),
        (7, "got int"),
    ],
    ids=["None", "list", "tuple", "bytes", "int"],
)
def test_another_object_is_an_error_that_names_it(image, words):
    with pytest.raises(TypeError, match=words):
        as_batch(image)
