"""Loading a saved model, whatever its files hold, and comparing its classes with a data set's."""

import json
import resource
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from ccnet import CCNet
from ccnet.datasets import Scenes
from ccnet.labeling.stamp import fingerprint
from ccnet.models.loading import load_model, require_same_classes
from tests.conftest import new_tiny_model

SAVED = Path(__file__).parent / "saved_by_0.1.0"


# Models that an earlier version saved


@torch.no_grad()
def test_a_model_of_version_0_1_0_gives_the_logits_that_it_gave_then():
    model = load_model(SAVED)
    images = (torch.arange(3 * 32 * 40) * 37 % 256).to(torch.uint8).view(1, 3, 32, 40)
    recorded = load_file(SAVED / "logits.safetensors")
    logits = model(model.normalize(images), auxiliary=True)
    for name, got in zip(("main", "auxiliary"), logits, strict=True):
        torch.testing.assert_close(got[..., ::4, ::4], recorded[name])
    assert model.classes == ("ground", "sky", "tree")
    assert model.palette == ((0, 0, 0), (1, 2, 3), (250, 0, 9))
    assert model.metrics is not None
    assert model.metrics["iou"] == {"ground": 0.5, "sky": 0.5, "tree": None}


def test_a_model_of_version_0_1_0_has_the_fingerprint_of_then():
    """Otherwise label maps on disk would be made again."""
    model = load_model(SAVED)
    digest = "f4478006f48eac9d0d90e1d6d783bc25cc8aa9075610f350a55e612c55e70cee"
    assert fingerprint(model, torch.float32) == digest


@pytest.mark.parametrize("row", json.loads((SAVED / "configs.json").read_text()), ids=str)
def test_config_json_is_that_of_version_0_1_0(row):
    with torch.device("meta"):
        model = CCNet(**row["call"])
        assert json.loads(json.dumps(model.arguments)) == row["config"]
        assert CCNet(**row["config"]).arguments == model.arguments


# Files that are broken or of another library


@pytest.mark.parametrize("config", ["{", "[1]", '{"hidden_size": 8}', '{"num_classes": "x"}', ""])
def test_a_broken_or_foreign_config_is_told_with_its_folder(tmp_path, config):
    new_tiny_model().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(config)
    with pytest.raises(ValueError, match=f"{tmp_path} holds no usable model: "):
        load_model(tmp_path)


def test_a_config_with_an_unknown_argument_is_told(tmp_path):
    new_tiny_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"heads": 3}))
    with pytest.raises(ValueError, match="holds no usable model: CCNet has no argument 'heads'"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda state: state.pop("head.classifier.bias"), r"1 missing \(head\.classifier\.bias\)"),
        (lambda state: state.update(extra=torch.zeros(1)), r"1 unexpected \(extra\)"),
        (
            lambda state: state.update({"head.classifier.bias": torch.zeros(9)}),
            r"1 of another shape \(head\.classifier\.bias \(9,\) for \(4,\)\)",
        ),
    ],
    ids=["missing", "extra", "other shape"],
)
def test_weights_that_do_not_fit_are_an_error(tmp_path, change, words):
    new_tiny_model().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    change(state)
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=rf"{tmp_path} holds no usable model: .*{words}"):
        load_model(tmp_path)


@pytest.mark.parametrize("content", [b"", b"no weights at all"])
def test_a_weight_file_that_can_not_be_read_is_told_with_its_folder(tmp_path, content):
    new_tiny_model().save_pretrained(tmp_path)
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(ValueError, match=rf"{tmp_path} holds no usable model: .*cannot be read"):
        load_model(tmp_path)


HOSTILE = {
    "num_classes": 10**9,
    "channels": 50_000,
    "recurrence": 10**5,
    "in_channels": 10**7,
    "reduction": 0,
    "auxiliary_channels": 10**6,
    "kernel_size": 999,
    "dropout": 7,
    "backbone": "resnet" + "1" * 10_000,
    "activation": "x" * 10_000,
    "backend": "cuda",
    "classes": ["a"] * 200_000,
    "palette": [[0, 0, 0]] * 50_000,
    "mean": [0.0] * 100_000,
    "std": [0.0, 1.0, 1.0],
    "metrics": {"miou": 0.5, "iou": {str(i): 1 for i in range(10_000)}},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_config_is_refused_by_name_before_anything_is_allocated(tmp_path, name):
    new_tiny_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {name: HOSTILE[name]}))
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    with pytest.raises(ValueError, match=f"{tmp_path} holds no usable model: .*{name}") as caught:
        load_model(tmp_path)
    assert time.process_time() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 16  # 64 MiB
    assert len(str(caught.value)) < 600


def test_the_largest_network_within_the_limits_is_not_allocated_for_other_weights(tmp_path):
    new_tiny_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    large = {"backbone": "resnet152", "channels": 4096, "kernel_size": 3, "recurrence": 16}
    large |= {"shared": False, "auxiliary_channels": 4096}
    (tmp_path / "config.json").write_text(json.dumps(config | large))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"holds no usable model: \d+ missing"):
        load_model(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 17  # 128 MiB


@pytest.mark.parametrize(
    "text",
    ['{"num_classes": 2, "num_classes": 3}', '{"num_classes": NaN}', "[" * 100_000, "7", "null"],
    ids=["twice", "nan", "deep", "number", "null"],
)
def test_a_config_that_is_no_object_of_json_is_refused(tmp_path, text):
    new_tiny_model().save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(ValueError, match=rf"{tmp_path} holds no usable model: .*config\.json"):
        load_model(tmp_path)


@pytest.mark.parametrize(
    ("key", "change", "words"),
    [
        ("head.classifier.weight", lambda x: x.fill_(float("nan")), "nan, .* in 64 of 64 values"),
        ("head.classifier.bias", lambda x: x / 0, "nan, infinity .* in 4 of 4 values"),
        ("head.fusion.1.running_var", lambda x: x - 2, "is a variance and has -1"),
        ("head.fusion.1.weight", lambda x: x.int(), r"int32 for float32"),
        ("head.fusion.1.weight", lambda x: x.bool(), r"bool for float32"),
        ("head.fusion.1.weight", lambda x: x.to(torch.complex64), r"complex64 for float32"),
        ("head.fusion.1.weight", lambda x: x.to(torch.float8_e5m2), "is of torch.float8_e5m2"),
    ],
)
def test_weights_that_no_network_has_are_told_with_folder_and_tensor(tmp_path, key, change, words):
    new_tiny_model().save_pretrained(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    state[key] = change(state[key])
    save_file(state, tmp_path / "model.safetensors")
    with pytest.raises(ValueError, match=rf"^{tmp_path} holds no usable model: .*{key} .*{words}"):
        load_model(tmp_path)


@pytest.mark.parametrize("name", ["mean", "std"])
@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e400", "1e39"])
def test_a_normalization_that_no_image_has_is_told(tmp_path, name, value):
    new_tiny_model().save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {name: ["HERE", 1, 1]}
    (tmp_path / "config.json").write_text(json.dumps(config).replace('"HERE"', value))
    with pytest.raises((ValueError, TypeError), match=f"{tmp_path} holds no usable model: "):
        load_model(tmp_path)


@pytest.mark.parametrize("backbone", ["tiny", "resnet18", "mobilenet_v2"])
def test_a_loaded_model_has_all_its_tensors_and_learns(tmp_path, backbone):
    model = CCNet(3, backbone, channels=8, auxiliary_channels=8, recurrence=3, shared=False)
    model.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    torch.testing.assert_close(loaded.state_dict(), model.state_dict())
    tensors = [*loaded.parameters(), *loaded.buffers()]
    assert {tensor.device.type for tensor in tensors} == {"cpu"}
    assert [p.requires_grad for p in loaded.parameters()] == [True] * len([*model.parameters()])
    assert repr(loaded) == repr(model.eval())
    with torch.no_grad():  # the file is not changed with the network
        loaded.head.classifier.bias.fill_(7)
    torch.testing.assert_close(load_model(tmp_path).state_dict(), model.state_dict())


# Classes


def test_a_model_fits_data_of_its_classes_and_without_names_any_data(tiny_model):
    require_same_classes(tiny_model, Scenes.classes)
    require_same_classes(CCNet(4, "tiny", channels=8), Scenes.classes)


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (Scenes.classes[:3], "the model has 4 classes, the data 3"),
        (("red", *Scenes.classes[1:]), "class 0 of the model is 'ground', of the data 'red'"),
    ],
)
def test_other_classes_are_told(tiny_model, classes, words):
    with pytest.raises(ValueError, match=words):
        require_same_classes(tiny_model, classes)
