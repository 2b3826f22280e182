"""Exported files of each format: what they compute and carry, read without ccnet."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from PIL import Image

from ccnet import Predictor
from ccnet.datasets import Scenes
from ccnet.export.exporter import export
from ccnet.prediction.batches import as_batch
from tests.export.conftest import scene

pytestmark = pytest.mark.unchecked  # torch traces the annotated code

EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_predict.py"


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
    assert facts["size"] is None
    assert facts["normalized"] is facts["normalised"] is False  # the latter for older programs


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
    colors = np.array(Scenes.palette)[np.asarray(picture)]
    assert np.array_equal(np.asarray(picture.convert("RGB")), colors)
    assert [line.split()[1] for line in printed.splitlines()] == list(Scenes.classes)
    assert len(EXAMPLE.read_text().splitlines()) <= 40


@pytest.mark.slow
def test_a_torch_export_file_loads_without_ccnet_and_carries_its_facts(model, tmp_path):
    path = tmp_path / "model.pt2"
    export(model, path, "torch-export", labels=True)
    images = as_batch(scene(33, 41)).contiguous()
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
    images = as_batch(scene(33, 41)).contiguous()
    torch.save(images, tmp_path / "images.pt")
    facts, logits = run_alone(path, "torch._inductor.aoti_load_package(path)")
    assert json.loads(facts["classes"]) == list(Scenes.classes)
    expected = Predictor(model, device="cpu").logits(images)
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def run_alone(path: Path, load: str) -> tuple[dict[str, str], torch.Tensor]:
    """Facts, and logits of images.pt beside the file, from a process that cannot import ccnet."""
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
