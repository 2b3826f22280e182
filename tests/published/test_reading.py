"""Published files: parity with recorded outputs, what became of each key, what is refused."""

import csv
import json
import math
import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from ccnet import CCNet, Predictor
from ccnet.classes import CITYSCAPES
from ccnet.cli import main
from ccnet.config import read_config
from ccnet.published import read_published
from ccnet.training.network import build_model
from tests.conftest import noise
from tests.published.conftest import AUTHORS, MMSEG, PARITY, like

CONFIGS = Path(__file__).parents[2] / "configs"
RECORDED = {AUTHORS: "official_resnet101_r2_65x97_seed0", MMSEG: "mmseg_resnet50_65x97_seed0"}


def entry(key: str, shape: list[int]) -> Tensor:
    """The recorded networks' weights are a function of their names and shapes."""
    random = torch.Generator().manual_seed(zlib.crc32(key.encode()))
    match key.rpartition(".")[2]:
        case "num_batches_tracked":
            return torch.tensor(0)
        case "running_var":
            return torch.rand(shape, generator=random) + 0.5
        case "running_mean":
            return torch.randn(shape, generator=random) * 0.1
        case "gamma" | "scale":
            return torch.full(shape, 0.7)
        case "weight" if len(shape) == 1:
            scale = torch.rand(shape, generator=random) + 0.5
            sign = torch.rand(shape, generator=random) < 0.1
            return torch.where(sign, -scale, scale)
        case "weight":
            return torch.randn(shape, generator=random) / math.sqrt(math.prod(shape[1:]))
        case _:
            return torch.randn(shape, generator=random) * 0.1


def filled(case: str) -> dict[str, Tensor]:
    keys = json.loads((PARITY / f"{case}.keys.json").read_text())
    return {key: entry(key, shape) for key, shape in keys}


def network_input() -> Tensor:
    return torch.randn(2, 3, 65, 97, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    """Both recorded networks as files, in a form that each family used."""
    folder = tmp_path_factory.mktemp("published")
    paths = {AUTHORS: folder / "CS_scenes_60000.pth", MMSEG: folder / "ccnet_r50.pth"}
    torch.save(filled(AUTHORS), paths[AUTHORS], _use_new_zipfile_serialization=False)
    meta = {"CLASSES": tuple(CITYSCAPES), "PALETTE": [list(c) for c in CITYSCAPES.values()]}
    torch.save({"meta": meta, "state_dict": filled(MMSEG)}, paths[MMSEG])
    return paths


@torch.no_grad()
def assert_recorded(model: CCNet, case: str) -> None:
    images = network_input()
    if case == AUTHORS:  # recorded on BGR
        images = images.flip(1)
    recorded = load_file(PARITY / f"{RECORDED[case]}.safetensors")
    *_, third, features = model.backbone(images)
    assert model.auxiliary_head is not None
    got = {"main": model.head(features), "auxiliary": model.auxiliary_head(third)}
    for name, logits in got.items():
        scale = recorded[name].abs().max()
        torch.testing.assert_close(logits / scale, recorded[name] / scale, rtol=0, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("case", [AUTHORS, MMSEG])
def test_logits_are_the_recorded_ones_and_so_after_saving(files, case, tmp_path):
    model = CCNet.from_published(files[case])
    assert not model.training
    assert_recorded(model, case)
    assert model.classes == tuple(CITYSCAPES)
    model.save_pretrained(tmp_path / "model")
    loaded = CCNet.from_pretrained(tmp_path / "model")
    assert_recorded(loaded, case)
    for name in ("classes", "palette", "align_corners", "in_channels"):
        assert getattr(loaded, name) == getattr(model, name)
    assert torch.equal(loaded.mean, model.mean)
    assert torch.equal(loaded.std, model.std)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("case", [AUTHORS, MMSEG])
@pytest.mark.unchecked
def test_a_published_file_is_converted_predicts_and_is_exported(files, case, tmp_path, capsys):
    image = noise(65, 97)[0]
    Image.fromarray(image).save(tmp_path / "photo.png")
    model, onnx = tmp_path / "model", tmp_path / "model.onnx"
    for arguments in (
        ["convert", files[case], model],
        ["predict", model, tmp_path / "photo.png", "--output", tmp_path / "out", "--device=cpu"],
        ["export", model, "--output", onnx, "--labels"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(list(map(str, arguments)))
        assert stop.value.code == 0, capsys.readouterr().err
    printed = capsys.readouterr().out
    assert all(size in printed for size in ("161×97", "96×129"))
    original = CCNet.from_published(files[case])
    images = torch.from_numpy(image).movedim(-1, 0)[None]
    expected = Predictor(original, device="cpu").logits(images)
    labels = np.array(Image.open(tmp_path / "out" / "photo.png"))
    assert len(np.unique(labels)) > 3, "one answer for all would agree too"
    np.testing.assert_array_equal(labels, expected[0].argmax(0))
    session = onnxruntime.InferenceSession(onnx)
    logits, exported = session.run(None, {"images": images.numpy()})
    scale = expected.abs().max().item()
    np.testing.assert_allclose(logits / scale, expected / scale, rtol=0, atol=1e-4)
    assert (exported[0] == labels).mean() > 0.999


def test_every_key_and_change_is_reported(tmp_path):
    state = like(AUTHORS)
    torch.save({f"module.{key}": value for key, value in state.items()}, tmp_path / "a.pth")
    published = read_published(tmp_path / "a.pth", recurrence=1)
    assert [c.source_key for c in published.changes if c.source_key] == list(state)
    assert {c.key for c in published.changes} == set(published.state)
    added = [c.key for c in published.changes if not c.source_key]
    assert len(added) == 110
    assert all(key.endswith("num_batches_tracked") for key in added)
    report = published.describe()
    assert "resnet101 with stem deep_64, R=1, 19 classes, auxiliary head of 512" in report
    assert "562 taken over, 110 added" in report
    assert "110 × scale → |scale| + 1e-05" in report
    assert "1 × input channels BGR → RGB" in report


@pytest.mark.slow
def test_the_report_has_every_key_whatever_the_system_s_encoding(tmp_path):
    torch.save(like(AUTHORS), tmp_path / "a.pth")
    published = read_published(tmp_path / "a.pth")
    published.save_report(tmp_path / "report.csv")
    rows = list(csv.reader((tmp_path / "report.csv").read_bytes().decode().splitlines()))
    assert rows[1:] == [[c.source_key, c.key, c.change] for c in published.changes]
    assert any("→" in change for *_, change in rows)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"decode_head.conv_seg.bias": None}, r"1 missing \(head\.classifier\.bias\)"),
        ({"decode_head.conv_seg.weight": None}, r"it has no head\.classifier\.weight"),
        (
            {"backbone.layer1.0.bn1.bias": [63]},
            r"1 of another shape \(backbone\.layer1\.0\.bn1\.bias",
        ),
        ({"backbone.stem.0.weight": [48, 3, 3, 3]}, r"a stem of \(48, 32, 64\) channels"),
        ({"backbone.layer4.3.bn1.bias": [512]}, r"a ResNet of \(3, 4, 6, 4\) blocks"),
    ],
)
@pytest.mark.slow
def test_a_file_that_is_not_whole_is_an_error(tmp_path, changes, words):
    torch.save(like(MMSEG, changes), tmp_path / "part.pth")
    with pytest.raises(ValueError, match=rf"(?s)part\.pth.*{words}"):
        CCNet.from_published(tmp_path / "part.pth")


@pytest.mark.slow
def test_a_published_network_is_taken_over_for_other_classes(tmp_path, caplog):
    torch.save(like(MMSEG), tmp_path / "ccnet.pth")
    published = read_published(tmp_path / "ccnet.pth")
    model = CCNet.from_published(published, num_classes=3, classes=("a", "b", "c"))
    assert model.classes == ("a", "b", "c")
    assert model.palette is None
    state = model.state_dict()
    renewed = {k for k, v in published.state.items() if not torch.equal(v, state[k])}
    assert renewed == {
        f"{head}.{kind}"
        for head in ("head.classifier", "auxiliary_head.4")
        for kind in ("weight", "bias")
    }
    assert "new for 3 classes instead of 19" in caplog.text


SHAPES = ([], [0], [1], [0, 0, 0, 0], [1, 1, 1, 1], [3, 3], [2, 0, 3, 3], [1] * 6)


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("case", [AUTHORS, MMSEG])
def test_a_state_dict_of_odd_shapes_is_an_error_and_no_crash(tmp_path, case, shape):
    decisive = [key for key in like(case) if key.endswith(("weight", "gamma", "scale", "bias"))]
    parts = ("cca.", "conv1.w", "stem.0.w", "conv_seg", "dsn.", "auxiliary", "head", "layer4.2.")
    keys = [key for key in decisive if any(part in key for part in parts)]
    for key in keys[:: len(keys) // 4]:
        if key.endswith(("gamma", "scale")) and shape in ([], [1]):
            continue
        torch.save(like(case, {key: shape}), tmp_path / "odd.pth")
        with pytest.raises(ValueError, match=r"odd\.pth(:| does not fit)"):
            CCNet.from_published(tmp_path / "odd.pth")


@pytest.mark.parametrize("dtype", [torch.int64, torch.bool, torch.complex64])
def test_weights_of_another_type_are_an_error(tmp_path, dtype):
    state = like(MMSEG)
    key = "decode_head.conv_seg.weight"
    torch.save(state | {key: state[key].to(dtype)}, tmp_path / "odd.pth")
    with pytest.raises(
        ValueError, match=r"odd\.pth does not fit.* 1 of another type \(head\.class"
    ):
        CCNet.from_published(tmp_path / "odd.pth")


def test_nan_in_a_published_file_is_told_with_the_key_of_the_file(tmp_path):
    state = like(AUTHORS, {"head.cca.gamma": [1]})
    state["head.cca.gamma"] = torch.tensor([float("nan")])
    torch.save(state, tmp_path / "odd.pth")
    with pytest.raises(ValueError, match=r"odd\.pth holds no usable weights: head\.cca\.gamma has"):
        read_published(tmp_path / "odd.pth")


# The networks as configurations


def configured(name: str, **changes) -> CCNet:
    """The network of a shipped configuration, without its weights."""
    config = read_config(CONFIGS / f"cityscapes_{name}.yaml")
    model = replace(config.model, pretrained=None, **changes)
    with torch.device("meta"):
        return build_model(replace(config, model=model), Cityscapes())


class Cityscapes:
    classes, palette = tuple(CITYSCAPES), tuple(CITYSCAPES.values())


@pytest.mark.parametrize(
    ("name", "case", "changes", "entries"),
    [("authors", AUTHORS, {}, 562), ("mmsegmentation", MMSEG, {"backbone": "resnet50"}, 365)],
)
def test_a_shipped_configuration_is_the_published_network(tmp_path, name, case, changes, entries):
    state = like(case)
    assert len(state) == entries
    torch.save(state, tmp_path / "ccnet_769x769.pth")
    published = read_published(tmp_path / "ccnet_769x769.pth")
    model = configured(name, **changes)
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    assert shapes == {key: value.shape for key, value in published.state.items()}
    with torch.device("meta"):
        expected = CCNet(**published.architecture)
    assert repr(model) == repr(expected)  # strides, dilation, rounding, activations, passes
    for attribute in ("classes", "palette", "align_corners"):
        assert getattr(model, attribute) == getattr(expected, attribute)


def test_the_authors_configuration_has_the_published_number_of_parameters():
    assert sum(parameter.numel() for parameter in configured("authors").parameters()) == 71_287_911


@pytest.mark.parametrize(
    ("name", "file"),
    [("authors", "resnet101-imagenet.pth"), ("mmsegmentation", "resnet101_v1c-e67eebb6.pth")],
)
def test_a_shipped_configuration_starts_from_its_family_s_imagenet_weights(monkeypatch, name, file):
    def fetch(url):
        raise ConnectionError(url)

    monkeypatch.setattr("ccnet.backbones.pretrained.fetch", fetch)
    config = read_config(CONFIGS / f"cityscapes_{name}.yaml")
    with torch.device("meta"), pytest.raises(ConnectionError, match=rf"/{file}$"):
        build_model(config, Cityscapes())
