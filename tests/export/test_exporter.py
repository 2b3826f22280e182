"""Exported files: what they compute, what they carry, and that a wrong one is refused."""

import copy
import json
import logging
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image
from torch import nn

from ccnet import CCNet, Predictor
from ccnet.cli import main
from ccnet.datasets import Scenes
from ccnet.export import writers as module
from ccnet.export.agreement import Agreement, as_batch
from ccnet.export.quantization import without_advice
from ccnet.export.writers import export, prepare, require_agreement, without_ceil_mode
from tests.conftest import new_tiny_model

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_predict.py"


@pytest.fixture(scope="module")
def model() -> CCNet:
    torch.manual_seed(0)
    return new_tiny_model(auxiliary_channels=8)


@pytest.fixture(scope="module")
def onnx_file(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    export(model, path, labels=True)
    return path


def scene(height: int = 50, width: int = 64) -> np.ndarray:
    return Scenes("val", num_images=1)[0][0][:height, :width]


# ONNX


@pytest.mark.slow
@pytest.mark.parametrize("size", [(1, 32, 32), (1, 33, 47), (4, 50, 128)], ids=str)
def test_an_onnx_file_takes_any_batch_and_size(model, onnx_file, size):
    batch, height, width = size
    images = torch.randint(0, 256, (batch, 3, height, width), dtype=torch.uint8)
    logits, labels = onnxruntime.InferenceSession(onnx_file).run(None, {"images": images.numpy()})
    expected = Predictor(model, device="cpu").logits(images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)
    assert labels.dtype == np.uint8
    assert (labels == expected.argmax(1).numpy()).mean() > 0.999


@pytest.mark.slow
def test_an_onnx_file_has_standard_operators_only_and_names_its_axes(onnx_file):
    content = onnx.load(onnx_file)
    onnx.checker.check_model(content, full_check=True)
    assert {node.domain for node in content.graph.node} == {""}
    assert not content.functions
    assert "BatchNormalization" not in {node.op_type for node in content.graph.node}
    session = onnxruntime.InferenceSession(onnx_file)
    shapes = {x.name: x.shape for x in [*session.get_inputs(), *session.get_outputs()]}
    assert shapes == {
        "images": ["batch", 3, "height", "width"],
        "logits": ["batch", 4, "height", "width"],
        "labels": ["batch", "height", "width"],
    }


@pytest.mark.slow
def test_an_onnx_file_names_nothing_of_the_machine_that_made_it(onnx_file):
    assert str(Path(torch.__file__).parents[1]).encode() not in onnx_file.read_bytes()
    assert str(EXAMPLE.parents[1]).encode() not in onnx_file.read_bytes()


@pytest.mark.slow
def test_an_onnx_file_carries_its_facts(onnx_file):
    metadata = onnxruntime.InferenceSession(onnx_file).get_modelmeta().custom_metadata_map
    facts = {name: json.loads(value) for name, value in metadata.items()}
    assert facts["classes"] == list(Scenes.classes)
    assert facts["palette"] == [list(color) for color in Scenes.palette]
    assert facts["mean"] == [123.675, 116.28, 103.53]
    assert facts["std"] == [58.395, 57.12, 57.375]
    assert facts["backend"] == "reference"
    assert facts["batch_norm"] == "folded"
    assert facts["precision"] == "float32"
    assert facts["normalised"] is False


@pytest.mark.slow
def test_normalised_images_are_taken_where_that_is_asked_for(model, tmp_path):
    rows = export(model, tmp_path / "plain.onnx", normalised=True)
    assert [row.size for row in rows] == [(1, 161, 97), (3, 96, 129)]
    session = onnxruntime.InferenceSession(tmp_path / "plain.onnx")
    assert [x.name for x in session.get_outputs()] == ["logits"]
    images = torch.randn(1, 3, 40, 33)
    (logits,) = session.run(None, {"images": images.numpy()})
    with torch.no_grad():
        np.testing.assert_allclose(logits, model.eval()(images), rtol=0, atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("training", [False, True])
def test_the_model_is_left_as_it_was(model, tmp_path, training):
    model = copy.deepcopy(model).train(training)
    before = copy.deepcopy(model)
    export(model, tmp_path / "model.pt2", "torch-export")
    assert [m.backend for m in model.head.attention.passes] == [None]
    assert [type(m) for m in model.modules()] == [type(m) for m in before.modules()]
    assert [m.training for m in model.modules()] == [training] * len(list(model.modules()))
    assert all(p.requires_grad for p in model.parameters())
    state = model.state_dict()
    assert any(key.startswith("auxiliary_head.") for key in state)
    torch.testing.assert_close(state, before.state_dict(), rtol=0, atol=0)


@pytest.mark.slow
def test_the_example_needs_the_file_alone_and_finds_the_predictor_s_classes(
    model, onnx_file, tmp_path
):
    photo, output = tmp_path / "photo.png", tmp_path / "classes.png"
    Image.fromarray(scene()).save(photo)
    program = f"""
import sys
sys.modules["torch"] = sys.modules["ccnet"] = None
sys.argv[1:] = {[str(onnx_file), str(photo), str(output)]!r}
exec(compile(open({str(EXAMPLE)!r}).read(), "example", "exec"))
"""
    printed = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=120, capture_output=True, text=True
    ).stdout
    picture = Image.open(output)
    labels = Predictor(model, device="cpu").predict(scene())
    assert (np.asarray(picture) == labels).mean() > 0.999
    colours = np.array(Scenes.palette)[np.asarray(picture)]
    assert np.array_equal(np.asarray(picture.convert("RGB")), colours)
    assert [line.split()[1] for line in printed.splitlines()] == list(Scenes.classes)
    assert len(EXAMPLE.read_text().splitlines()) <= 40


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    scenes = Scenes("val", num_images=6)
    for index in range(len(scenes)):
        Image.fromarray(scenes[index][0]).save(folder / f"{index}.png")
    return folder


@pytest.mark.slow
def test_float16_halves_the_file_and_keeps_the_classes(model, onnx_file, photos, tmp_path):
    path = tmp_path / "model.onnx"
    rows = export(model, path, precision="float16", images=photos)
    assert [row.size for row in rows] == [(1, 64, 64), (1, 32, 32)]
    assert all(row.labels >= 0.99 and 0 < row.difference < 1e-2 for row in rows)
    weights = onnx.load(path).graph.initializer
    assert sum(len(w.raw_data) for w in weights if w.data_type == onnx.TensorProto.FLOAT) < 100
    assert path.stat().st_size < 0.7 * onnx_file.stat().st_size
    session = onnxruntime.InferenceSession(path)
    assert [x.type for x in session.get_outputs()] == ["tensor(float)"]


@pytest.mark.slow
def test_int8_has_its_convolutions_on_bytes_and_keeps_most_classes(model, photos, tmp_path):
    path = tmp_path / "model.onnx"
    rows = export(model, path, labels=True, precision="int8", images=photos)
    assert all(row.labels >= 0.9 and row.difference > 0 for row in rows)
    content = onnx.load(path)
    makers = {output: node for node in content.graph.node for output in node.output}
    convolutions = [node for node in content.graph.node if node.op_type == "Conv"]
    assert len(convolutions) == 2 + 3 + 1
    assert all(
        makers[name].op_type == "DequantizeLinear"
        for node in convolutions
        for name in node.input[:2]
    )
    assert {fact.key: json.loads(fact.value) for fact in content.metadata_props}[
        "precision"
    ] == "int8"


# Other channels, other backbones


@pytest.mark.slow
@pytest.mark.parametrize("channels", [1, 5])
def test_a_model_of_other_channels_is_written_and_compared_on_its_images(channels, tmp_path):
    network = CCNet(3, "tiny", channels=8, kernel_size=1, in_channels=channels)
    assert len(export(network, tmp_path / "noise.onnx")) == 2
    rng = np.random.default_rng(0)
    for index, dtype in enumerate((np.uint8, np.uint16, np.uint16)):
        image = rng.integers(0, np.iinfo(dtype).max + 1, (70, 90, channels), dtype)
        np.save(tmp_path / f"{index}.npy", image)
    options = {"precision": "int8", "min_agreement": 0.5}
    rows = export(network, tmp_path / "int8.onnx", images=tmp_path, **options)
    assert [row.size for row in rows] == [(1, 70, 90), (1, 35, 45)]
    session = onnxruntime.InferenceSession(tmp_path / "noise.onnx")
    assert session.get_inputs()[0].shape == ["batch", channels, "height", "width"]


def test_sixteen_bits_become_eight_before_they_are_compared(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)
    np.save(tmp_path / "a.npy", image.astype(np.uint16) * 257 + 100)
    np.save(tmp_path / "b.npy", image)
    for (read,) in module.read_images(tmp_path, 3):
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, image)


@pytest.mark.slow
@pytest.mark.usefixtures("torchvision_operators")
@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_a_backbone_that_can_not_be_traced_for_any_size_is_told(name, tmp_path):
    network = CCNet(3, f"timm/{name}", channels=8, auxiliary_channels=None)
    with pytest.raises(ValueError, match="backbone can't be written for any size: Constraints"):
        export(network, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("level", [logging.NOTSET, logging.ERROR])
def test_logging_is_as_quiet_afterwards_as_before(level):
    logging.disable(level)
    try:
        with without_advice():
            assert not logging.getLogger().isEnabledFor(logging.WARNING)
        assert logging.root.manager.disable == level
    finally:
        logging.disable(logging.NOTSET)


# The command


def status(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code  # pyright: ignore[reportReturnType]


@pytest.mark.slow
def test_the_command_writes_the_file_and_prints_the_comparison(
    model, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("folder")
    assert status("export", "folder", "--format", "torch-export", "--labels") == 0
    printed = capsys.readouterr().out
    assert all(word in printed for word in ("161×97", "96×129", "100.000", "PyTorch ms"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder", "folder.pt2"]
    # a second time only when told to
    monkeypatch.chdir("folder")
    arguments = ("export", ".", "--format", "torch-export")
    assert status(*arguments, "--output", "../folder.pt2") == 2
    assert "folder.pt2 is there already; give a new file, or --overwrite" in capsys.readouterr().err
    written = (tmp_path / "folder.pt2").read_bytes()
    assert status(*arguments, "--output", "../folder.pt2", "--overwrite") == 0
    assert (tmp_path / "folder.pt2").read_bytes() != written
    # a folder that is named by a dot
    assert status(*arguments) == 0
    assert Path("folder.pt2").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--output", "model.pt2"), "must end in .onnx, got model.pt2"),
        (("--precision", "int8"), "int8 needs a folder of images"),
        (("--precision", "float16", "--format", "aot"), "float16 is for format onnx"),
        (("--images", "nothing"), "nothing has 0 images"),
    ],
)
def test_what_can_not_be_written_is_one_clear_line(
    model, arguments, words, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    model.save_pretrained("folder")
    assert status("export", "folder", *arguments) == 2
    assert words in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_missing_package_is_named_with_what_installs_it(model, tmp_path, monkeypatch, capsys):
    model.save_pretrained(tmp_path / "folder")
    monkeypatch.setattr(module, "find_spec", lambda name: None if name == "onnxscript" else name)
    assert status("export", tmp_path / "folder", "--output", tmp_path / "x.onnx") == 2
    error = capsys.readouterr().err
    assert "ONNX needs onnxscript," in error
    assert "criss-cross[onnx]" in error


# What is compared


@pytest.mark.slow
def test_a_file_that_differs_is_refused_and_not_left(model, tmp_path, monkeypatch):
    def damaged(model):
        network, folded = prepare(model)
        with torch.no_grad():
            network.head.classifier.bias += 3e-4
        return network, folded

    monkeypatch.setattr(module, "prepare", damaged)
    path = tmp_path / "model.pt2"
    path.write_bytes(b"an older file")
    with pytest.raises(ValueError, match=r"logits on 1 images of 161×97 differ .* by 0.0003"):
        export(model, path, "torch-export")
    assert path.read_bytes() == b"an older file"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("difference", "labels", "words"),
    [
        (9e-5, 0.9995, None),
        (1.1e-4, 1.0, "logits on 3 images of 40×50 differ"),
        (0.0, 0.998, r"99.800 % of the labels on 3 images of 40×50 .* 99.9 % are wanted"),
        (math.nan, 1.0, "by nan"),
        (0.0, math.nan, "nan % of the labels"),
    ],
)
def test_every_row_of_the_comparison_must_agree(difference, labels, words):
    good = Agreement((1, 33, 33), 0.0, 1.0, 1.0, 1.0)
    rows = [good, Agreement((3, 40, 50), difference, labels, 1.0, 1.0)]
    if words is None:
        require_agreement(rows, 0.999, exact=True)
    else:
        with pytest.raises(ValueError, match=words):
            require_agreement(rows, 0.999, exact=True)


def test_logits_of_less_than_float32_are_judged_by_their_labels():
    require_agreement([Agreement((1, 33, 33), 0.1, 0.95, 1.0, 1.0)], 0.9, exact=False)


@pytest.mark.slow
def test_a_network_that_can_not_be_folded_is_written_as_it_is(model, tmp_path):
    twin = new_tiny_model()

    class Branching(type(twin.backbone)):
        def forward(self, images):
            return super().forward(images) if images.shape[0] > 0 else []

    twin.backbone.__class__ = Branching
    export(twin, tmp_path / "model.pt2", "torch-export")
    extra = {"ccnet.json": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    assert json.loads(extra["ccnet.json"])["batch_norm"] == "kept"


@pytest.mark.parametrize("side", [5, 6, 7, 8])
@pytest.mark.parametrize("arguments", [(3, 2, 1), (2, 2, 0), (3, 3, 0), (5, 2, 2)], ids=str)
def test_pooling_without_ceil_mode_is_the_same(side, arguments):
    pool = nn.MaxPool2d(*arguments, ceil_mode=True)
    features = torch.randn(2, 3, side, 9) - 3
    assert torch.equal(without_ceil_mode(pool)(features), pool(features))


# torch.export and AOTInductor


@pytest.mark.slow
def test_a_torch_export_file_loads_without_ccnet_and_carries_its_facts(model, tmp_path):
    path = tmp_path / "model.pt2"
    export(model, path, "torch-export", labels=True)
    images = as_batch(scene(33, 41))
    torch.save(images, tmp_path / "images.pt")
    facts, logits = run_alone(path, "torch.export.load(path, extra_files=extra).module()")
    assert json.loads(facts["ccnet.json"])["classes"] == list(Scenes.classes)
    expected = Predictor(model, device="cpu").logits(images)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_aot_without_a_compiler_says_what_is_missing(model, tmp_path):
    without = torch._inductor.config.patch({"cpp.cxx": ("no-such-compiler",)})
    with without, pytest.raises(FileNotFoundError, match=r"needs a C\+\+ compiler, such as g\+\+"):
        export(model, tmp_path / "model.pt2", "aot")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_an_aot_package_loads_without_ccnet_and_carries_its_facts(model, tmp_path):
    path = tmp_path / "model.pt2"
    export(model, path, "aot", labels=True)
    images = as_batch(scene(33, 41))
    torch.save(images, tmp_path / "images.pt")
    facts, logits = run_alone(path, "torch._inductor.aoti_load_package(path)")
    assert json.loads(facts["classes"]) == list(Scenes.classes)
    expected = Predictor(model, device="cpu").logits(images)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def run_alone(path: Path, load: str) -> tuple[dict[str, str], torch.Tensor]:
    """Facts, and logits of images.pt beside the file, from a process that can't import ccnet."""
    program = f"""
import sys
sys.modules["ccnet"] = None
import torch
path, extra = {str(path)!r}, {{"ccnet.json": ""}}
network = {load}
facts = extra if extra["ccnet.json"] else network.loader.get_metadata()
with torch.no_grad():
    logits = network(torch.load(path.replace("model.pt2", "images.pt")))[0]
torch.save((facts, logits), path + ".out")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=300)
    return torch.load(f"{path}.out")
