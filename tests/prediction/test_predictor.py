"""The predictor: images of any kind in, labels at their size out, the model left as it was."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from ccnet import Predictor
from ccnet.datasets import Scenes
from ccnet.runtime.device import pick_device, pick_precision

MODES = ["RGB", "L", "RGBA", "P", "1", "CMYK"]


@pytest.mark.parametrize("size", [(64, 64), (33, 47), (65, 32)], ids=str)
def test_array_picture_and_tensor_give_the_same_labels(predictor, size):
    image = np.tile(Scenes()[1][0], (2, 2, 1))[: size[0], : size[1]]
    labels = predictor.predict(image)
    assert (labels.dtype, labels.shape) == (np.uint8, size)
    assert len(np.unique(labels)) > 1
    tensor = torch.from_numpy(image.copy()).movedim(-1, 0)
    for same in (Image.fromarray(image), tensor, tensor.contiguous(), np.asfortranarray(image)):
        np.testing.assert_array_equal(predictor.predict(same), labels)


@pytest.mark.parametrize("mode", MODES)
def test_pictures_of_every_mode_are_taken_as_rgb(predictor, mode):
    picture = Image.fromarray(Scenes()[0][0]).convert(mode)
    expected = predictor.predict(np.array(picture.convert("RGB")))
    np.testing.assert_array_equal(predictor.predict(picture), expected)


def test_labels_are_the_most_likely_classes(predictor, tiny_model):
    image, _ = Scenes()[0]
    images = torch.from_numpy(image).movedim(-1, 0)[None]
    with torch.no_grad():
        logits = tiny_model(tiny_model.normalize(images))
    torch.testing.assert_close(predictor.logits(images), logits)
    np.testing.assert_array_equal(predictor.predict(image), logits[0].argmax(0))


@pytest.mark.usefixtures("_every_warning")
def test_read_only_images_are_taken(predictor):
    image, _ = Scenes()[0]
    expected = predictor.predict(image)
    image.setflags(write=False)
    np.testing.assert_array_equal(predictor.predict(image), expected)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((8, 8, 3)), r"array \(H, W, 3\) of uint8 or uint16, got \(8, 8, 3\) of float64"),
        (np.zeros((8, 8), np.uint8), r"got \(8, 8\) of uint8"),
        (np.zeros((3, 8, 8), np.uint8), r"got \(3, 8, 8\) of uint8"),
        (np.zeros((8, 8, 4), np.uint8), r"got \(8, 8, 4\) of uint8"),
        (
            torch.zeros(3, 8, 8),
            r"tensor \(3, H, W\) of uint8 or uint16, got \(3, 8, 8\) of torch.float32",
        ),
        (torch.zeros(1, 3, 8, 8, dtype=torch.uint8), r"got \(1, 3, 8, 8\) of torch.uint8"),
        (torch.zeros(8, 8, 3, dtype=torch.uint8), r"got \(8, 8, 3\) of torch.uint8"),
    ],
)
def test_other_arrays_and_tensors_are_named(predictor, image, words):
    with pytest.raises(ValueError, match=words):
        predictor.predict(image)


@pytest.mark.parametrize("channels", [1, 3, 5])
def test_sixteen_bits_give_the_labels_of_eight(tiny_model, channels):
    predictor = Predictor(tiny_model.adapted(in_channels=channels), device="cpu")
    image = np.random.default_rng(0).integers(0, 256, (40, 48, channels), np.uint8)
    labels = predictor.predict(image)
    assert len(np.unique(labels)) > 1
    wide = image.astype(np.uint16) * 257
    for same in (wide, wide.astype(">u2"), torch.from_numpy(wide).movedim(-1, 0)):
        np.testing.assert_array_equal(predictor.predict(same), labels)
    if channels == 1:
        for picture in (Image.fromarray(image[:, :, 0]), Image.fromarray(wide[:, :, 0])):
            np.testing.assert_array_equal(predictor.predict(picture), labels)


def test_an_image_of_other_channels_is_told(tiny_model):
    predictor = Predictor(tiny_model.adapted(in_channels=5), device="cpu")
    with pytest.raises(ValueError, match=r"array \(H, W, 5\) .*got \(8, 8, 3\) of uint8"):
        predictor.predict(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match="5 channels; give an array, no PIL image"):
        predictor.predict(Image.new("RGB", (8, 8)))


# Loading


def test_a_saved_model_predicts_as_before(predictor, tiny_model, tmp_path):
    image, _ = Scenes()[0]
    tiny_model.save_pretrained(tmp_path / "modèle")
    for folder in (tmp_path / "modèle", str(tmp_path / "modèle")):
        loaded = Predictor(folder, device="cpu")
        np.testing.assert_array_equal(loaded.predict(image), predictor.predict(image))
        assert loaded.classes == Scenes.classes
        assert loaded.palette == Scenes.palette


# What the model is left as


@pytest.mark.parametrize("training", [True, False])
def test_the_models_mode_is_restored(predictor, tiny_model, training):
    image, _ = Scenes()[0]
    before = {key: value.clone() for key, value in tiny_model.state_dict().items()}
    expected = predictor.predict(image)
    tiny_model.train(training)
    np.testing.assert_array_equal(predictor.predict(image), expected)
    assert {module.training for module in tiny_model.modules()} == {training}
    torch.testing.assert_close(dict(tiny_model.state_dict()), before, rtol=0, atol=0)


def test_the_models_mode_is_restored_after_an_error(tiny_model):
    class Broken(nn.Module):
        def forward(self, features):
            raise RuntimeError("broken")

    predictor = Predictor(tiny_model.train(), device="cpu")
    tiny_model.head.smoothing = Broken()
    with pytest.raises(RuntimeError, match="broken"):
        predictor.predict(Scenes()[0][0])
    assert tiny_model.training


def test_prediction_leaves_no_gradients_and_training_can_follow(predictor, tiny_model):
    logits = predictor.logits(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert not logits.requires_grad
    assert all(parameter.grad is None for parameter in tiny_model.parameters())
    tiny_model(torch.randn(1, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in tiny_model.parameters())


# Precision and device


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_gives_nearly_the_same(predictor, tiny_model, precision):
    images = torch.from_numpy(Scenes()[0][0]).movedim(-1, 0)[None]
    lower = Predictor(tiny_model, device="cpu", precision=precision)
    logits, exact = lower.logits(images), predictor.logits(images)
    assert logits.dtype == torch.float32
    assert 0 < (logits - exact).norm() < 0.1 * exact.norm()


def test_automatic_precision_is_one_of_the_known(tiny_model):
    assert Predictor(tiny_model, device="cpu", precision="auto").dtype in (
        torch.float32,
        torch.bfloat16,
    )
    assert pick_precision("auto", torch.device("mps")) == "float32"


def test_an_unknown_precision_is_named(tiny_model):
    with pytest.raises(ValueError, match="auto, float32, bfloat16, float16, got 'int8'"):
        Predictor(tiny_model, precision="int8")


@pytest.mark.parametrize(
    ("cuda", "mps", "expected"),
    [(True, True, "cuda"), (False, True, "mps"), (False, False, "cpu")],
)
def test_the_fastest_device_is_picked(monkeypatch, cuda, mps, expected):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert pick_device("auto").type == expected
    assert pick_device("cpu").type == "cpu"


@pytest.mark.parametrize(("device", "words"), [("foo", "got 'foo'"), ("cuda", "no cuda device")])
def test_a_device_that_there_is_not_is_an_error(monkeypatch, device, words):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=words):
        pick_device(device)


def test_a_gpu_beyond_the_last_is_an_error(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert pick_device("cuda:1") == torch.device("cuda", 1)
    assert pick_device("cuda") == torch.device("cuda")
    with pytest.raises(ValueError, match="there is no cuda:2 here; the last is cuda:1"):
        pick_device("cuda:2")
