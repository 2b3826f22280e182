"""The export: options, other channels, what is refused, and the command."""

import copy
import errno
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

from ccnet import CCNet, Predictor
from ccnet.cli import main
from ccnet.export import deployed, exporter
from ccnet.export.deployed import prepare
from ccnet.export.exporter import export
from ccnet.export.formats import FORMATS, Format
from ccnet.runtime.disk import beside
from tests.commands import environment
from tests.conftest import with_statistics
from tests.kills import killed

pytestmark = pytest.mark.unchecked  # torch traces the annotated code


@pytest.mark.slow
def test_normalized_images_are_taken_where_that_is_asked_for(model, tmp_path):
    rows = export(model, tmp_path / "plain.onnx", normalized=True)
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


# The command


def status(*arguments: object) -> int:
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code  # pyright: ignore[reportReturnType]


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["--normalized", "--normalised"])
def test_either_spelling_of_the_flag_takes_normalized_images_of_one_size(model, tmp_path, flag):
    model.save_pretrained(tmp_path / "folder")
    output = tmp_path / "model.onnx"
    assert status("export", tmp_path / "folder", "--output", output, flag, "--size=[40, 72]") == 0
    (images,) = onnxruntime.InferenceSession(output).get_inputs()
    assert (images.type, images.shape) == ("tensor(float)", ["batch", 3, 40, 72])


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
        (("--images", "nothing"), "nothing: no such folder; give a folder of images"),
        (("--images", "folder"), "folder has 0 images; at least two are needed"),
        (("--images", "folder/config.json"), "folder/config.json: no such folder"),
        (("--size", "[31, 64]"), "size must be a height and a width of at least 32, got (31, 64)"),
        (("--size", "[-64, 64]"), "size must be a height and a width of at least 32"),
        (("--size", "[4097, 4096]"), "size may have up to 16,777,216 pixels, got (4097, 4096)"),
        (("--size", f"[{10**30}, {10**30}]"), "size may have up to 16,777,216 pixels"),
        (("--min-agreement", "2"), "min_agreement must be from 0 to 1, got 2"),
        (("--min-agreement", "-1"), "min_agreement must be from 0 to 1, got -1"),
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


def test_no_agreement_is_as_little_as_nan(model, tmp_path):
    with pytest.raises(ValueError, match="min_agreement must be from 0 to 1, got nan"):
        export(model, tmp_path / "model.onnx", min_agreement=float("nan"))


@pytest.mark.parametrize("kind", ["folder", "FIFO", "link"])
def test_what_is_no_file_is_not_replaced(model, tmp_path, capsys, kind):
    model.save_pretrained(tmp_path / "folder")
    output = tmp_path / "x.pt2"
    if kind == "link":
        output.symlink_to("nowhere")
    else:
        (Path.mkdir if kind == "folder" else os.mkfifo)(output)
    arguments = ("export", tmp_path / "folder", "--format", "torch-export", "--output", output)
    assert status(*arguments) == 2
    assert "x.pt2 is there already; give a new file, or --overwrite" in capsys.readouterr().err
    if kind != "link":
        assert status(*arguments, "--overwrite") == 2
        assert "x.pt2 is" in capsys.readouterr().err


def fake_format(content: bytes):
    """A format whose file is written at once, and which agrees with every network."""
    network = {}

    def write(program, deployed, path):
        network["own"] = deployed
        path.write_bytes(content)

    return Format(".pt2", write, lambda path: lambda images: list(network["own"](images)))


@pytest.fixture
def quick(monkeypatch):
    """Exports without tracing, of which only what happens to files is real."""
    monkeypatch.setattr(exporter, "trace", lambda _: None)
    monkeypatch.setitem(FORMATS, "torch-export", fake_format(b"the file"))


@pytest.mark.usefixtures("quick")
def test_what_a_killed_export_left_is_removed_by_the_next(model, tmp_path):
    path = tmp_path / "model.pt2"
    left = beside(path)
    (left / "deep").mkdir(parents=True)
    (left / "model.pt2").write_bytes(b"half")
    with torch.no_grad():
        export(model, path, "torch-export")
        left.symlink_to(tmp_path)
        export(model, path, "torch-export")
    assert path.read_bytes() == b"the file"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit(143), MemoryError])
def test_an_export_that_is_stopped_leaves_nothing(model, tmp_path, monkeypatch, error):
    def stop(*_):
        assert beside(tmp_path / "model.pt2").is_dir()
        raise error

    monkeypatch.setattr(exporter, "compare_file", stop)
    with pytest.raises(type(error) if isinstance(error, BaseException) else error):
        export(model, tmp_path / "model.pt2", "torch-export")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.usefixtures("quick")
def test_of_two_exports_to_one_file_the_second_is_refused(model, tmp_path, monkeypatch):
    def begin_another(*_):
        monkeypatch.undo()
        with pytest.raises(ValueError, match="another command writes there now"):
            export(model, tmp_path / "model.pt2", "torch-export")
        raise KeyboardInterrupt

    monkeypatch.setattr(exporter, "compare_file", begin_another)
    with pytest.raises(KeyboardInterrupt):
        export(model, tmp_path / "model.pt2", "torch-export")


@pytest.mark.usefixtures("quick")
def test_a_name_of_255_bytes_is_written(model, tmp_path):
    path = tmp_path / f"{'x' * 251}.pt2"
    with torch.no_grad():
        export(model, path, "torch-export")
    assert list(tmp_path.iterdir()) == [path]


def compiler_without_room():
    try:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    except OSError:
        raise RuntimeError("InductorError: it failed") from None


def linker_without_room():
    raise RuntimeError("g++: fatal error: error writing to a.o: No space left on device")


def file_without_room():
    raise OSError(errno.EDQUOT, os.strerror(errno.EDQUOT))


@pytest.mark.usefixtures("quick")
@pytest.mark.parametrize("fail", [compiler_without_room, linker_without_room, file_without_room])
def test_a_full_disk_is_said_with_the_name_of_the_file(model, tmp_path, monkeypatch, fail):
    written = Format(".pt2", lambda *_: fail(), FORMATS["aot"].open)
    monkeypatch.setitem(FORMATS, "torch-export", written)
    path = tmp_path / "model.pt2"
    with pytest.raises(OSError, match=r"/model\.pt2 could not be written: .*; make room"):
        export(model, path, "torch-export")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_kills_leave_the_old_file_or_the_new_one(model, tmp_path):
    model.save_pretrained(tmp_path / "folder")
    path = tmp_path / "model.pt2"
    words = ("export", tmp_path / "folder", "--format", "torch-export", "--output", "{output}")
    for _ in killed(20, path, *words, "--overwrite"):
        if path.exists():
            with zipfile.ZipFile(path) as file:
                assert file.testzip() is None
            path.unlink()
    assert status(*words[:-1], path) == 0
    with zipfile.ZipFile(path) as file:
        assert file.testzip() is None
    names = sorted(found.name for found in tmp_path.iterdir())
    assert names == ["folder", "measured.pt2", "model.pt2"]


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
from ccnet.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("format", ["torch-export", "onnx", "int8"])
def test_a_disk_that_takes_no_more_ends_in_one_line(model, photos, tmp_path, format):
    """With a limit on the size of files, which fails as a full disk does, in C++ as well."""
    model.save_pretrained(tmp_path / "folder")
    path = tmp_path / f"x.{'pt2' if format == 'torch-export' else 'onnx'}"
    flags = ["--format", format]
    if format == "int8":
        flags = ["--precision", "int8", "--images", str(photos)]
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, "export", tmp_path / "folder", "--output", path, *flags],
        capture_output=True,
        text=True,
        env=environment(),
    )
    assert result.returncode == 2, result.stderr
    assert f"ccnet export: {path} could not be written: the file would be larger" in result.stderr
    assert "Traceback" not in result.stderr
    assert [found.name for found in tmp_path.iterdir()] == ["folder"]


def test_a_missing_package_is_named_with_what_installs_it(model, tmp_path, monkeypatch, capsys):
    model.save_pretrained(tmp_path / "folder")
    monkeypatch.setattr(exporter, "find_spec", lambda name: None if name == "onnxscript" else name)
    assert status("export", tmp_path / "folder", "--output", tmp_path / "x.onnx") == 2
    error = capsys.readouterr().err
    assert "ONNX needs onnxscript," in error
    assert "criss-cross[onnx]" in error


@pytest.mark.slow
def test_a_file_that_differs_is_refused_and_not_left(model, tmp_path, monkeypatch):
    def damaged(model):
        network, folded = prepare(model)
        with torch.no_grad():
            network.head.classifier.bias += 3e-4
        return network, folded

    monkeypatch.setattr(deployed, "prepare", damaged)
    path = tmp_path / "model.pt2"
    path.write_bytes(b"an older file")
    with pytest.raises(ValueError, match=r"logits on 1 images of 161×97 differ .* by 0.0003"):
        export(model, path, "torch-export")
    assert path.read_bytes() == b"an older file"
    assert list(tmp_path.iterdir()) == [path]


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
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_a_model_of_lower_precision_is_written_in_float32(model, tmp_path, dtype):
    lower = CCNet(**{**model.arguments, "mean": [128.0] * 3, "std": [64.0] * 3})
    lower.load_state_dict(model.state_dict())
    lower = lower.to(dtype)
    rows = export(lower, tmp_path / "model.onnx")
    assert all(row.labels > 0.999 and row.difference < 1e-4 for row in rows)
    assert {parameter.dtype for parameter in lower.parameters()} == {dtype}
    images = torch.randint(0, 256, (1, 3, 40, 57), dtype=torch.uint8)
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (logits,) = session.run(None, {"images": images.numpy()})
    expected = Predictor(lower.float(), device="cpu").logits(images)
    np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-5)


@pytest.mark.slow
def test_a_file_for_one_size_is_calibrated_and_compared_at_that_size(model, photos, tmp_path):
    options = {"precision": "int8", "min_agreement": 0.5, "images": photos}
    rows = export(model, tmp_path / "model.onnx", size=(40, 72), **options)
    assert [row.size for row in rows] == [(1, 40, 72)]
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert session.get_inputs()[0].shape == ["batch", 3, 40, 72]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.usefixtures("torchvision_operators")
@pytest.mark.parametrize("name", ["convnext_atto", "vit_tiny_patch16_224"])
def test_an_onnx_file_of_a_timm_backbone_takes_any_size(name, tmp_path):
    network = with_statistics(CCNet(3, f"timm/{name}", channels=8, auxiliary_channels=None))
    export(network, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    for size in [(1, 3, 32, 32), (2, 3, 33, 47), (1, 3, 130, 75)]:
        images = torch.randint(0, 256, size, dtype=torch.uint8)
        (logits,) = session.run(None, {"images": images.numpy()})
        expected = Predictor(network, device="cpu").logits(images)
        np.testing.assert_allclose(logits, expected, rtol=0, atol=1e-4)
