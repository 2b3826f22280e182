"""Images of five bands and labels without names, from a folder to a file of another program."""

import json
from itertools import count

import numpy as np
import pytest
import yaml
from PIL import Image

from ccnet import CCNet, Predictor
from ccnet.config import read_config
from ccnet.datasets import DataError, open_dataset
from ccnet.datasets.folder import FolderDataset
from ccnet.images.bands import Bands
from ccnet.planning import pretrained
from ccnet.training.loop import train
from tests.banded import pixels_of, write_folder
from tests.commands import status

SMALL = ("--model.backbone", "tiny", "--model.channels", "16", "--model.kernel_size", "1")
SMALL += ("--steps", "4", "--batch_size", "2", "--num_workers", "0", "--device", "cpu")


@pytest.fixture(autouse=True)
def no_downloads(monkeypatch):
    monkeypatch.setattr(pretrained, "fetch", lambda url: None)


@pytest.mark.slow
def test_twelve_bits_and_floats_train_and_predict_alike(tmp_path, capsys):
    pytest.importorskip("onnx")
    models, images = {}, {}
    for kind in ("tif", "npy"):
        root = write_folder(tmp_path / kind, kind, named=kind == "tif")
        assert status("train", root, "--run", tmp_path / f"run_{kind}", *SMALL) == 0
        printed = "".join(capsys.readouterr())
        assert "[1,2,3,4,5]" in printed
        assert "percentiles" in printed
        model = models[kind] = CCNet.from_pretrained(tmp_path / f"run_{kind}" / "model")
        assert (model.in_channels, model.bands.of) == (5, 5)
        data = open_dataset("folder", root, "train")
        images[kind] = data.with_bands(model.bands)[0][0]
        out = tmp_path / f"out_{kind}"
        assert (
            status(
                "predict", model_path(tmp_path, kind), root / "train" / "images", "--output", out
            )
            == 0
        )
        found = Predictor(model, device="cpu").predict(root / "train" / "images" / f"0.{kind}")
        np.testing.assert_array_equal(np.asarray(Image.open(out / "0.png")), found)
        assert status("evaluate", model_path(tmp_path, kind), "--root", root) == 0
    assert models["tif"].bands.dtype == "uint16"
    assert models["npy"].bands.dtype == "float32"
    assert models["npy"].classes == ("class 0", "class 1")
    assert images["tif"].dtype == images["npy"].dtype == np.uint16
    np.testing.assert_array_equal(images["tif"], images["npy"])
    stored = Predictor(models["tif"], device="cpu")
    path = tmp_path / "tif" / "train" / "images" / "0.tif"
    np.testing.assert_array_equal(stored.predict(pixels_of(0)[0]), stored.predict(path))
    capsys.readouterr()
    others = tmp_path / "npy" / "train" / "images"
    out = tmp_path / "others"
    assert status("predict", model_path(tmp_path, "tif"), others, "--output", out) == 1
    assert "5 bands of float32 where 5 bands of uint16 are wanted" in capsys.readouterr().err
    assert status("export", model_path(tmp_path, "tif"), "--output", tmp_path / "m.onnx") == 0
    compare_export(tmp_path / "m.onnx", models["tif"], path)


@pytest.mark.slow
def test_a_run_that_stopped_goes_on_with_the_same_bands(tmp_path):
    root = write_folder(tmp_path / "data", "tif", named=True)
    assert status("train", root, "--run", tmp_path / "first", *SMALL) == 0
    config = read_config(tmp_path / "first" / "config.yaml")
    calls = count(1)

    def fail_in_the_third_step(image, label):
        if next(calls) == 6:
            raise DataError("0.tif: cannot be read")
        return image, label

    def same(image, label):
        return image, label

    with pytest.raises(DataError, match="cannot be read"):
        train(config, tmp_path / "run", transform=fail_in_the_third_step)
    train(config, tmp_path / "run", resume=True, transform=same)
    train(config, tmp_path / "whole", transform=same)
    found, expected = (CCNet.from_pretrained(tmp_path / name / "last") for name in ("run", "whole"))
    assert found.bands == expected.bands == Bands.from_dict(expected.arguments["bands"])
    for (name, one), other in zip(
        found.state_dict().items(), expected.state_dict().values(), strict=True
    ):
        np.testing.assert_array_equal(one.numpy(), other.numpy(), err_msg=name)


def model_path(tmp_path, kind):
    return tmp_path / f"run_{kind}" / "model"


def compare_export(file, model, path):
    """The file takes the values of the bands, and gives the network's logits."""
    onnxruntime = pytest.importorskip("onnxruntime")
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    facts = session.get_modelmeta().custom_metadata_map
    assert Bands.from_dict(json.loads(facts["bands"])) == model.bands
    values = np.moveaxis(pixels_of(0)[0].astype(np.float32), 2, 0)[None]
    (logits, *_) = session.run(None, {session.get_inputs()[0].name: values})
    (scores,) = Predictor(model, device="cpu").score([path])
    np.testing.assert_allclose(logits[0], scores.numpy(), atol=1e-4)


def test_check_data_reads_all_bands_and_writes_names(tmp_path, capsys):
    root = write_folder(tmp_path / "data", "npy", named=False)
    assert status("check-data", root, "--write-names", "--picture", tmp_path / "a.png") == 0
    printed = "".join(capsys.readouterr())
    assert "the images have 5 bands of float32" in printed
    assert "class 0 (value 0," in printed.replace("\n", " ")
    described = yaml.safe_load((root / "dataset.yaml").read_text())
    assert described["classes"] == ["class 0", "class 1"]
    (root / "dataset.yaml").write_text(
        (root / "dataset.yaml").read_text().replace("class 1", "thing")
    )
    data = FolderDataset(root, "train")
    assert data.classes == ("class 0", "thing")
    assert data.legend is None
    assert status("check-data", root, "--write-names") == 2
    assert "these have names already" in capsys.readouterr().err


def test_bands_that_nobody_chose_are_never_cut(tmp_path, capsys):
    root = write_folder(tmp_path / "data", "tif")
    run = ("--data.name", "folder", "--data.root", root, *SMALL, "--run", tmp_path / "run")
    assert status("train", *run) == 2
    assert "5 bands, where RGB has 3, and none is left out" in capsys.readouterr().err
    assert status("train", *run, "--data.bands", "[1,6]") == 2
    assert "data.bands are numbers from 1 to 5" in capsys.readouterr().err
    assert status("train", *run, "--data.bands", "[1,5]") == 2
    assert "give --data.value_range [LOW,HIGH], or percentiles" in capsys.readouterr().err
