"""The predictor: images of any kind in, labels at their size out; which models it accepts."""

import copy
import pickle
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.distributed import HashStore
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from ccnet import CCNet, Predictor
from ccnet.datasets import Scenes
from ccnet.inference import prepared as inference
from ccnet.inference.prepared import prepare
from ccnet.prediction.batches import as_batch
from ccnet.prediction.protocol import PROTOCOLS, Protocol
from tests.conftest import new_tiny_model


def random_image(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


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
    images = as_batch(image)
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
def test_the_model_is_in_evaluation_mode_from_the_start_and_nothing_else_changes(training):
    model = new_tiny_model().train(training)
    before = copy.deepcopy(model.state_dict())
    predictor = Predictor(model, device="cpu")
    assert predictor.model is model
    assert not any(module.training for module in model.modules())
    predictor.predict(Scenes()[0][0])
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)


def test_many_threads_predict_as_one_does(monkeypatch):
    model = new_tiny_model().train()
    before = copy.deepcopy(model.state_dict())
    images = [Scenes()[index][0][: 40 + index % 3] for index in range(32)]
    alone = Predictor(copy.deepcopy(model), device="cpu")
    serial = [alone.predict(image) for image in images]
    predictor = Predictor(model, device="cpu")
    prepared = []

    def slowly(*arguments):
        time.sleep(0.05)
        prepared.append(prepare(*arguments))
        return prepared[-1]

    monkeypatch.setattr(inference, "prepare", slowly)
    with ThreadPoolExecutor(4) as pool:
        parallel = list(pool.map(predictor.predict, images))
    wrong = [not np.array_equal(*pair) for pair in zip(parallel, serial, strict=True)]
    assert sum(wrong) == 0
    assert len(prepared) == 1
    torch.testing.assert_close(dict(model.state_dict()), dict(before), rtol=0, atol=0)


def test_the_network_is_prepared_and_follows_the_model(predictor, tiny_model):
    images = as_batch(Scenes()[0][0])
    first = predictor.logits(images)
    folded = predictor.network.network
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert not any(module.training for module in folded.modules())
    with torch.no_grad():
        tiny_model.backbone.conv1[0].weight *= 1.2
        expected = tiny_model(tiny_model.normalize(images))
    torch.testing.assert_close(predictor.logits(images), expected)
    assert (expected - first).abs().max() > 0.01
    assert predictor.network.network is not folded


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))])
def test_a_copy_of_a_predictor_predicts_the_same(predictor, copied):
    image, _ = Scenes()[0]
    expected = predictor.predict(image)
    other = copied(predictor)
    assert other.model is other.network.model is not predictor.model
    np.testing.assert_array_equal(other.predict(image), expected)


@pytest.mark.slow
@pytest.mark.unchecked  # torch traces the annotated code
@pytest.mark.filterwarnings("ignore")  # of torch's compiler
def test_a_compiled_network_predicts_the_same(predictor, tiny_model):
    images = as_batch(Scenes()[0][0])
    compiled = Predictor(tiny_model, device="cpu", compile=True)
    torch.testing.assert_close(compiled.logits(images), predictor.logits(images))
    torch.compiler.reset()


@pytest.mark.parametrize("part", ["", "backbone"])
def test_a_model_that_is_put_into_training_mode_is_refused(predictor, tiny_model, part):
    tiny_model.get_submodule(part).train()
    before = copy.deepcopy(tiny_model.state_dict())
    with pytest.raises(RuntimeError, match=r"training mode.*call model\.eval\(\) first"):
        predictor.predict(Scenes()[0][0])
    torch.testing.assert_close(dict(tiny_model.state_dict()), dict(before), rtol=0, atol=0)


def test_prediction_leaves_no_gradients_and_training_can_follow(predictor, tiny_model):
    logits = predictor.logits(torch.zeros(1, 3, 32, 32, dtype=torch.uint8))
    assert not logits.requires_grad
    assert all(parameter.grad is None for parameter in tiny_model.parameters())
    tiny_model(torch.randn(1, 3, 32, 32)).sum().backward()
    assert all(parameter.grad is not None for parameter in tiny_model.parameters())


@pytest.mark.unchecked
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32])
def test_logits_of_other_numbers_than_8_or_16_bits_are_refused(predictor, dtype):
    with pytest.raises(ValueError, match=r"a batch \(B, 3, H, W\) of uint8 or uint16, got .*2"):
        predictor.logits(torch.rand(1, 3, 32, 32).to(dtype))


def test_the_file_at_a_path_is_predicted(predictor, tmp_path):
    image, _ = Scenes()[0]
    Image.fromarray(image).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        np.testing.assert_array_equal(predictor.predict(path), predictor.predict(image))


# Wrapped models


def in_one_process(model: nn.Module) -> DistributedDataParallel:
    torch.distributed.init_process_group("gloo", store=HashStore(), rank=0, world_size=1)
    try:
        return DistributedDataParallel(model)
    finally:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize(
    "wrap",
    [
        torch.compile,
        DataParallel,
        in_one_process,
        AveragedModel,
        lambda model: torch.compile(DataParallel(model)),
    ],
    ids=["compile", "DataParallel", "DistributedDataParallel", "AveragedModel", "nested"],
)
@pytest.mark.slow
def test_the_network_inside_a_wrapper_of_pytorch_predicts(predictor, wrap):
    image, _ = Scenes()[0]
    twin = copy.deepcopy(predictor.model).train()
    wrapped = Predictor(wrap(twin), device="cpu")
    assert isinstance(wrapped.model, CCNet)
    assert not wrapped.model.training
    np.testing.assert_array_equal(wrapped.predict(image), predictor.predict(image))


@pytest.mark.parametrize(
    ("model", "name"),
    [(nn.Conv2d(3, 3, 1), "Conv2d"), (DataParallel(nn.ReLU()), "DataParallel"), (None, "NoneType")],
    ids=["layer", "wrapped layer", "None"],
)
def test_what_holds_no_ccnet_is_an_error_that_names_it(model, name):
    with pytest.raises(TypeError, match=f"expected a CCNet, .* hub id of a saved one; got {name}"):
        Predictor(model, device="cpu")


# Precision and device


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_lower_precision_gives_nearly_the_same(predictor, tiny_model, precision):
    images = as_batch(Scenes()[0][0])
    lower = Predictor(tiny_model, device="cpu", precision=precision)
    logits, exact = lower.logits(images), predictor.logits(images)
    assert logits.dtype == torch.float32
    assert 0 < (logits - exact).norm() < 0.1 * exact.norm()


def test_automatic_precision_is_one_of_the_known(tiny_model):
    assert Predictor(tiny_model, device="cpu", precision="auto").dtype in (
        torch.float32,
        torch.bfloat16,
    )


def test_an_unknown_precision_is_named(tiny_model):
    with pytest.raises(ValueError, match="auto, float32, bfloat16, float16, got 'int8'"):
        Predictor(tiny_model, precision="int8")


BATCH = torch.zeros(1, 3, 5, 7, dtype=torch.uint8)


@pytest.mark.unchecked
@pytest.mark.parametrize(
    ("images", "error", "words"),
    [
        (BATCH.float() / 255, ValueError, r"a batch \(B, 3, H, W\) of uint8 or .* torch\.float32"),
        (BATCH.int(), ValueError, r"got \(1, 3, 5, 7\) of torch\.int32"),
        (BATCH[0], ValueError, r"got \(3, 5, 7\) of torch\.uint8"),
        (BATCH[:, :2], ValueError, r"got \(1, 2, 5, 7\)"),
        (BATCH[:0], ValueError, r"empty image of shape \(0, 3, 5, 7\)"),
        (
            BATCH.numpy(),
            TypeError,
            r"\(B, 3, H, W\), got ndarray; `Predictor\.predict` takes",
        ),
        (None, TypeError, "got NoneType"),
    ],
    ids=["floats", "int32", "one image", "channels", "empty", "array", "None"],
)
def test_what_is_no_batch_of_images_is_an_error_that_names_it(predictor, images, error, words):
    with pytest.raises(error, match=words):
        predictor.logits(images)


@pytest.mark.parametrize(
    ("value", "precision", "words"),
    [
        (float("nan"), "float32", "its weights are damaged"),
        (float("inf"), "float32", "its weights are damaged"),
        (float("nan"), "bfloat16", "compute in float32, or check its weights"),
        (1e6, "float16", "compute in float32, or check its weights"),
    ],
)
def test_no_labels_come_of_logits_that_are_nan_or_infinite(tiny_model, value, precision, words):
    model = Predictor(tiny_model, device="cpu", precision=precision)
    with torch.no_grad():
        tiny_model.head.classifier.weight[1, 0] = value
    with pytest.raises(FloatingPointError, match=f"gives nan or infinite logits; {words}$"):
        model.predict(np.full((40, 40, 3), 255, np.uint8))


def test_of_equal_logits_the_first_class_is_the_label(predictor, monkeypatch):
    logits = torch.tensor([1.0, 3.0, 3.0, -float("inf")]).view(1, 4, 1, 1).expand(1, 4, 50, 60)
    monkeypatch.setattr(predictor, "run_network", lambda _: logits)
    assert (predictor.predict(np.zeros((50, 60, 3), np.uint8)) == 1).all()


def test_probabilities_are_those_of_the_logits(predictor):
    image = random_image(41, 53)
    found = predictor.probabilities(image)
    logits = predictor.logits(as_batch(image))[0]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, logits.softmax(0).numpy(), rtol=1e-5)
    np.testing.assert_array_equal(found.argmax(0), predictor.predict(image))


@pytest.mark.unchecked  # the check takes height and width for the same in all images of a list
def test_a_protocol_changes_what_the_network_sees(predictor):
    seen = []

    def note(images):
        seen.append(tuple(images.shape))
        return torch.zeros(len(images), 4, *images.shape[2:])

    sliding = Predictor(
        predictor.model, device="cpu", protocol=Protocol(tile=48, stride=32, mirror=True)
    )
    sliding.run_network = note
    assert sliding.predict(random_image(64, 100)).shape == (64, 100)
    assert seen == [(1, 3, 48, 48)] * 2 * 2 * 3
    assert [s.shape for s in sliding.score([random_image(9, 50), random_image(70, 48)])] == [
        (4, 9, 50),
        (4, 70, 48),
    ]


def test_the_protocol_of_the_validation_is_the_default(predictor):
    model = predictor.model
    assert predictor.protocol == Protocol()
    model.metrics = {"miou": 0.5, "protocol": Protocol(tile=64, scales=(0.5, 1)).to_dict()}
    try:
        assert Predictor(model, device="cpu").protocol == Protocol(tile=64, scales=(0.5, 1))
        assert Predictor(model, device="cpu", protocol="whole").protocol == Protocol()
        model.metrics = {"miou": 0.5, "protocol": {"tile": -3}}
        with pytest.raises(ValueError, match=r"protocol.tile must be"):
            Predictor(model, device="cpu")
    finally:
        model.metrics = None
    with pytest.raises(ValueError, match="protocol must be whole, sliding, multiscale"):
        Predictor(model, device="cpu", protocol="tiled")


def test_an_image_too_large_to_be_seen_whole_is_cut_and_that_is_said(predictor, caplog):
    assert predictor.protocol_for(4000, 4000) == Protocol()
    assert predictor.protocol_for(4000, 4001) == PROTOCOLS["sliding"]
    assert "4001×4000 is too large to be seen whole: tiles 769, stride 513" in caplog.text
    asked = Predictor(predictor.model, device="cpu", protocol="whole")
    assert asked.protocol_for(9000, 9000) == Protocol()
