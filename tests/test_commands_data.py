"""Commands about data, end to end: check-data, split, and training on what they find."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from tests.commands import TRAIN, status, write_scenes


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_scenes(tmp_path_factory.mktemp("data"))


def test_check_data_says_by_its_status_whether_data_are_fit(folder, tmp_path, capsys):
    report = tmp_path / "report.json"
    assert status("check-data", folder, "--output", report) == 0
    assert capsys.readouterr().out.count("fit for training") == 2
    assert set(json.loads(report.read_text())) == {"train", "val"}
    broken = tmp_path / "broken"
    for kind, value in (("images", 0), ("labels", 9)):
        (broken / "train" / kind).mkdir(parents=True)
        for name in "01":
            label = Image.fromarray(np.full((8, 8), value, np.uint8))
            label.save(broken / "train" / kind / f"{name}.png")
    (broken / "dataset.yaml").write_text("classes: [a, b]")
    assert status("check-data", broken, "--split", "train") == 1
    printed = capsys.readouterr().out
    assert "value 9 first" in printed
    assert "divided by the hash of names, 20% val: train 1, val 1" in printed
    (broken / "train" / "images" / "1.png").unlink()
    (broken / "train" / "labels" / "1.png").unlink()
    assert status("check-data", broken) == 2
    assert "1 images cannot be divided into train, val" in capsys.readouterr().err


def unsplit(folder, root):
    """The images of a data set in one folder, without splits, and a label for each beside it."""
    root.mkdir()
    for split, number in (("train", 6), ("val", 3)):
        for index in range(number):
            name = f"drive{index % 3}_{split}{index}"
            for kind, end in (("images", ""), ("labels", "_mask")):
                Image.open(folder / split / kind / f"{index}.png").save(root / f"{name}{end}.png")
    (root / "dataset.yaml").write_bytes((folder / "dataset.yaml").read_bytes())
    return root


def names_in(path):
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    return {line.split(",")[0] for line in lines}


def test_split_writes_lists_and_replaces_only_its_own(folder, tmp_path, capsys):
    root = unsplit(folder, tmp_path / "data")
    assert status("split", root) == 0
    printed = capsys.readouterr().out
    assert "in one folder: IMAGE with IMAGE_mask" in printed
    train, val = (names_in(root / f"{name}.txt") for name in ("train", "val"))
    assert (len(train | val), len(train & val)) == (9, 0)
    assert val
    by_drive = ("--val-share", 0.3, "--test-share", 0.3, "--group-by", "drive\\d")
    assert status("split", root, *by_drive) == 0
    drives = [
        {name.split("_")[0] for name in names_in(root / f"{name}.txt")}
        for name in ("train", "val", "test")
    ]
    assert [len(drive) for drive in drives] == [1, 1, 1]
    assert len(set.union(*drives)) == 3
    assert status("split", root) == 0
    assert not (root / "test.txt").exists()
    assert names_in(root / "val.txt") == val
    assert status("check-data", root) == 0
    capsys.readouterr()
    (root / "val.txt").write_text("mine")
    assert status("split", root) == 2
    assert "`ccnet split` did not write it; rename or remove it" in capsys.readouterr().err
    assert (root / "val.txt").read_text() == "mine"
    assert status("split", folder) == 2
    assert "there is a split val already, in val/images + val/labels" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert status("split", tmp_path / "empty") == 2
    assert "no images with label files" in capsys.readouterr().err
    (root / "train.txt").unlink()
    (root / "val.txt").unlink()
    assert status("split", root, "--group-by", "drive(\\d)_train") == 2
    assert "finds nothing in this name; every image needs a group" in capsys.readouterr().err
    assert not (root / "train.txt").exists()


@pytest.mark.slow
def test_a_folder_without_splits_trains_and_the_run_keeps_its_lists(folder, tmp_path, capsys):
    root, config, run = unsplit(folder, tmp_path / "data"), tmp_path / "c.yaml", tmp_path / "run"
    config.write_text(TRAIN)
    arguments = ("--data.root", root, "--run", run, "--num-workers", 0, "--data.val-share", 0.4)
    assert status("train", "--config", config, *arguments, "--data.group-by", "drive\\d") == 0
    assert f"{root}: divided by the hash of what 'drive" in capsys.readouterr().err
    train, val = (names_in(run / "lists" / f"{name}.txt") for name in ("train", "val"))
    assert len(train | val) == 9
    assert not {name[:6] for name in train} & {name[:6] for name in val}
    scores = tmp_path / "scores.json"
    arguments = (run / "model", "--root", root, "--device", "cpu", "--output", scores)
    assert status("evaluate", *arguments, "--split", run / "lists/val.txt") == 0
    found = json.loads(scores.read_text())
    metrics = json.loads((run / "model/config.json").read_text())["metrics"]
    assert found["images"] == len(val)
    assert found["miou"] == pytest.approx(metrics["miou"], abs=1e-6)
    again = ("--data.train-split", run / "lists/train.txt", "--data.val-split")
    again += (run / "lists/val.txt", "--data.root", root, "--run", tmp_path / "again")
    assert status("train", "--config", config, *again, "--num-workers", 0) == 0
    for name in ("train", "val"):
        lists = (path / "lists" / f"{name}.txt" for path in (run, tmp_path / "again"))
        assert len({frozenset(names_in(path)) for path in lists}) == 1


@pytest.mark.skipif(os.name == "nt", reason="file systems of Windows have Unicode names only")
def test_names_that_are_no_unicode_are_in_valid_json(folder, tmp_path, capsys):
    root, report = tmp_path / "data", tmp_path / "report.json"
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            (root / split / kind).mkdir(parents=True)
            source = folder / split / kind / "0.png"
            (root / split / kind / "a\udcff.png").write_bytes(source.read_bytes())
        (root / split / "images" / "b\udcfe.png").write_bytes(b"")
    (root / "dataset.yaml").write_bytes((folder / "dataset.yaml").read_bytes())
    assert status("check-data", root, "--output", report) == 1
    content = json.loads(report.read_bytes().decode("utf-8"))
    (name,) = content["val"]["unmatched_images"]
    assert os.fsencode(name) == b"val/images/b\xfe.png"


def test_check_data_draws_a_sheet_and_writes_a_page(folder, tmp_path, capsys):
    sheet, page = tmp_path / "sheet.png", tmp_path / "report"
    assert status("check-data", folder, "--picture", sheet, "--report", page) == 0
    assert f"the page is {page / 'data.html'}" in capsys.readouterr().out
    with Image.open(sheet) as picture:
        assert picture.format == "PNG"
    assert "share of labeled" in (page / "data.html").read_text()


def test_training_on_masks_of_0_and_255_says_how_they_are_read(tmp_path, capsys):
    data = tmp_path / "data"
    for split in ("train", "val"):
        for i in range(3):
            mask = np.zeros((32, 48), np.uint8)
            mask[4 * i : 4 * i + 12, 10:30] = 255
            for kind, array in (("images", mask // 2 + 40), ("labels", mask)):
                path = data / split / kind / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    (data / "dataset.yaml").write_text("classes: [background, thing]")
    flags = ("--num-workers=0", "--device=cpu", "--model.backbone=tiny", "--model.channels=8")
    flags += ("--batch-size=3", "--steps=1", f"--data.root={data}", "--data.name=folder")
    assert status("train", *flags, f"--run={tmp_path / 'run'}") == 0
    assert "255 is 'thing', since there are two classes" in capsys.readouterr().err
    config = json.loads((tmp_path / "run/model/config.json").read_text())
    assert set(config["metrics"]["iou"]) == {"background", "thing"}
    assert None not in config["metrics"]["iou"].values()
    for path in (data / "val/labels").iterdir():
        Image.fromarray(np.zeros((32, 48), np.uint8)).save(path)
    assert status("train", *flags, f"--run={tmp_path / 'other'}") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "the val data: all labeled pixels are background, so there is nothing" in line
