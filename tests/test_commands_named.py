"""Published data sets through the commands, end to end: checked, trained on, scored, predicted."""

import json
from pathlib import Path

import numpy as np
import pytest

from ccnet import CCNet, Predictor
from ccnet.classes import ADE20K, CITYSCAPES, VOC
from ccnet.datasets import open_dataset
from ccnet.datasets.pairs import PairedDataset
from tests.commands import status
from tests.named_data import WRITERS

NAMES = sorted(WRITERS.keys() - {"folder"})
SMALL = ("--model.backbone=tiny", "--model.channels=8", "--model.kernel_size=1", "--num-workers=0")
SMALL += ("--model.auxiliary_channels=null", "--steps=2", "--batch-size=2", "--device=cpu")
CROP = "--data.augment={crop_size: [40, 40]}"


@pytest.mark.parametrize("name", NAMES)
def test_each_is_fit_for_training(tmp_path: Path, capsys, name: str):
    WRITERS[name](tmp_path)
    report = tmp_path / "report.json"
    assert status("check-data", tmp_path, "--data", name, "--output", report) == 0
    assert capsys.readouterr().out.count("fit for training") == 2
    found = json.loads(report.read_text())["val"]
    assert min(found["class_pixels"]) > 0
    assert found["problems"] == []


@pytest.mark.slow
def test_a_run_on_fine_and_coarse_labels_is_scored_and_resumed(tmp_path: Path, capsys):
    data, run = tmp_path / "data", tmp_path / "run"
    WRITERS["cityscapes"](data)
    words = ("--data.name=cityscapes", "--data.train_split=train+train_extra", CROP)
    assert status("train", *SMALL, *words, "--data.root", data, "--run", run) == 0
    assert "train_extra has 2 images; 19998 were published" in capsys.readouterr().err
    assert CCNet.from_pretrained(run / "model").classes == tuple(CITYSCAPES)
    given = ("--data", "cityscapes", "--root", data, "--device=cpu")
    for split in ("val", "train_extra", run / "lists/val.txt"):
        scores = tmp_path / "scores.json"
        assert status("evaluate", run / "model", *given, "--split", split, "--output", scores) == 0
        assert json.loads(scores.read_text())["images"] == 2
    assert status("train", "--resume", run) == 0


@pytest.mark.parametrize(
    ("ids", "name", "classes"),
    [
        ("cityscapes", "cityscapes", CITYSCAPES),
        ("ade20k", "ade20k", ADE20K),
        ("voc", "voc2012", VOC),
    ],
)
def test_predicted_ids_are_read_as_the_predicted_classes(tmp_path: Path, ids, name, classes):
    WRITERS[name](tmp_path / "data")
    model = CCNet(len(classes), "tiny", channels=8, auxiliary_channels=None, classes=list(classes))
    model.save_pretrained(tmp_path / "model")
    dataset = open_dataset(name, tmp_path / "data", "val")
    assert isinstance(dataset, PairedDataset)
    (image, label), *_ = dataset.files.pairs
    words = ("--output", tmp_path / "out", "--ids", ids, "--device=cpu")
    assert status("predict", tmp_path / "model", image, *words) == 0
    (tmp_path / "out" / f"{image.stem}.png").replace(label)
    predicted = Predictor(tmp_path / "model", device="cpu").predict(image)
    assert len(np.unique(predicted)) > 1
    np.testing.assert_array_equal(dataset[0][1], predicted)


@pytest.mark.slow
def test_a_run_is_planned_for_a_data_set_by_its_name(tmp_path: Path, capsys):
    WRITERS["voc2012"](tmp_path)
    words = ("--data.name=voc2012", "--data.train_split=trainaug", "--device=cpu", "--plan-only")
    assert status("train", tmp_path, *words) == 0
    assert {"  name: voc2012", "  train_split: trainaug"} <= set(
        capsys.readouterr().out.split("\n")
    )


def test_a_wrong_root_ends_in_one_line(tmp_path: Path, capsys):
    WRITERS["ade20k"](tmp_path / "ade")
    assert status("check-data", tmp_path / "ade", "--data", "cityscapes") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"ccnet check-data: {tmp_path}/ade: the split train of Cityscapes needs")
    assert line.endswith("which holds: ADEChallengeData2016. Give the folder that these lie in.")


@pytest.mark.parametrize("name", ["cityscapes", "ade20k", "coco_stuff164k", "lip"])
def test_a_folder_with_a_known_layout_is_told_its_name(tmp_path: Path, capsys, name: str):
    WRITERS[name](tmp_path)
    assert status("check-data", tmp_path) == 2
    assert f"it looks like the data set {name}" in capsys.readouterr().err
