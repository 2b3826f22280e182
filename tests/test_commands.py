"""The commands end to end, on a folder of real files made from the scenes."""

import json
import os
import signal
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from ccnet import CCNet, Predictor
from ccnet.commands.train import train
from ccnet.config import TrainConfig
from ccnet.datasets import Scenes
from ccnet.labeling.manifest import read_manifests
from ccnet.prediction.protocol import Protocol
from tests.commands import start, status
from tests.conftest import new_tiny_model
from tests.images.test_tiff import write_tiff

TRAIN = """
data: {name: folder, augment: {crop_size: [48, 48], scale: [0.8, 1.2]}}
model: {backbone: tiny, channels: 16, kernel_size: 1, auxiliary_channels: null}
optimizer: {name: adamw, lr: 1.0e-3, schedule: one_cycle}
steps: 4
batch_size: 2
validate_every: 2
log_every: 1
device: cpu
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A data set as a user has it: photographs and palette PNGs beside a dataset.yaml."""
    root = tmp_path_factory.mktemp("data")
    for split, number in (("train", 6), ("val", 3)):
        scenes = Scenes(split, num_images=number)
        for index in range(number):
            image, label = scenes[index]
            for kind, array in (("images", image), ("labels", label)):
                path = root / split / kind / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    description = {"classes": list(Scenes.classes), "palette": [list(c) for c in Scenes.palette]}
    (root / "dataset.yaml").write_text(yaml.safe_dump(description))
    return root


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    config = path.parent / "config.yaml"
    config.write_text(TRAIN)
    arguments = ("--data.root", folder, "--run", path, "--num-workers", 0)
    assert status("train", "--config", config, *arguments) == 0
    return path


def test_train_writes_a_model_its_configuration_and_curves(run, folder):
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config["data"]["root"] == str(folder)
    assert config["num_workers"] == 0
    assert config["steps"] == 4
    assert (run / "model" / "model.safetensors").exists()
    Image.open(run / "curves.png").verify()
    card = (run / "last" / "README.md").read_text()
    assert "On folder, val, after 4 steps of training" in card
    assert "| **mean (mIoU)** |" in card


@pytest.mark.slow
def test_train_resumes_by_the_folder_alone(run, capsys):
    assert status("train", "--resume", run) == 0
    assert "already trained to the end" in capsys.readouterr().out


def test_evaluate_prints_and_writes_scores(run, folder, tmp_path, capsys):
    output = tmp_path / "scores.json"
    assert status("evaluate", run / "model", "--root", folder, "--output", output) == 0
    scores = json.loads(output.read_text())
    assert 0 <= scores["miou"] <= 1
    assert list(scores["iou"]) == list(Scenes.classes)
    assert scores["images"] == 3
    assert "mIoU" in capsys.readouterr().out


def test_a_protocol_is_named_with_the_scores_and_stored_with_the_model(
    run, folder, tmp_path, capsys
):
    stored = json.loads((run / "model" / "config.json").read_text())["metrics"]["protocol"]
    assert stored == Protocol().to_dict()
    output = tmp_path / "scores.json"
    flags = ("--protocol", "multiscale", "--tile", 48, "--scales", "[0.5, 1]", "--no-mirror")
    assert status("evaluate", run / "model", "--root", folder, *flags, "--output", output) == 0
    said = "tiles 48, stride 32, scales 0.5, 1"
    assert json.loads(output.read_text())["protocol"] == said
    assert said in " ".join(capsys.readouterr().out.split())
    assert status("evaluate", run / "model", "--root", folder, "--stride", 5) == 2
    assert "protocol.stride must be at most tile" in capsys.readouterr().err


def test_evaluate_writes_a_report(run, folder, tmp_path, capsys):
    report = tmp_path / "report"
    assert status("evaluate", run / "model", "--root", folder, "--report", report) == 0
    assert "report.html opens in a browser" in capsys.readouterr().out
    assert "<html" in (report / "report.html").read_text(encoding="utf-8")
    assert json.loads((report / "scores.json").read_text())["facts"]["protocol"] == "whole image"
    wrong = ("--report", report, "--compare", run / "last")
    assert status("evaluate", run / "model", "--root", folder, *wrong) == 2
    assert "leave out --compare" in capsys.readouterr().err


def test_evaluate_compares_two_models(run, folder, tmp_path, capsys):
    output = tmp_path / "comparison.json"
    arguments = ("--root", folder, "--compare", run / "last", "--output", output)
    assert status("evaluate", run / "model", *arguments) == 0
    content = json.loads(output.read_text())
    assert content["compared"] == str(run / "last")
    assert content["difference"] == pytest.approx(0)  # one validation: the best is the last
    assert "paired bootstrap" in " ".join(capsys.readouterr().out.split())


def test_labels_of_one_class_have_no_score(run, folder, tmp_path, capsys):
    for name in ("images", "labels"):
        (tmp_path / "val" / name).mkdir(parents=True)
    Image.open(folder / "val" / "images" / "0.png").save(tmp_path / "val" / "images" / "0.png")
    with Image.open(folder / "val" / "labels" / "0.png") as label:
        Image.new("L", label.size, 1).save(tmp_path / "val" / "labels" / "0.png")
    classes = json.dumps(list(Scenes.classes))
    (tmp_path / "dataset.yaml").write_text(f"classes: {classes}\n")
    assert status("evaluate", run / "model", "--root", tmp_path) == 2
    error = capsys.readouterr().err
    assert f"ccnet evaluate: every labeled pixel is {Scenes.classes[1]!r}" in error


def test_predict_writes_confidence_and_polygons(run, folder, tmp_path):
    output = tmp_path / "out"
    flags = ("--confidence", "--polygons", "coco", "--protocol", "sliding", "--tile", 40)
    images = folder / "val" / "images"
    assert status("predict", run / "model", images, "--output", output, *flags) == 0
    content = json.loads((output / "polygons.coco.json").read_text())
    assert [image["file_name"] for image in content["images"]] == ["0.png", "1.png", "2.png"]
    assert [category["name"] for category in content["categories"]] == list(Scenes.classes)
    for index in range(3):
        with (
            Image.open(output / f"{index}.png") as labels,
            Image.open(output / f"{index}.confidence.png") as confidence,
        ):
            assert labels.size == confidence.size


def test_predict_takes_images_of_any_size_and_videos(run, tmp_path, capsys):
    av = pytest.importorskip("av")
    assert av is not None
    from tests.images.test_video import write_video

    images, output = tmp_path / "images", tmp_path / "out"
    images.mkdir()
    Image.fromarray(Scenes()[0][0]).save(images / "a.png")
    np.save(images / "big.npy", np.tile(Scenes()[1][0], (2, 3, 1)))
    write_video(images / "clip.mp4", 3)
    flags = ("--output", output, "--max-pixels", 5000, "--tile", 64, "--device", "cpu")
    assert status("predict", run / "model", images, *flags) == 0
    said = capsys.readouterr()
    assert "3 files written to" in said.out
    assert "big.npy: 12/12" in said.err
    assert {path.name for path in output.iterdir()} == {
        *("a.png", "big.png", "clip.overlay.mp4", "manifest.jsonl")
    }
    with Image.open(output / "big.png") as labels:
        assert labels.size == (192, 128)
    assert status("predict", run / "model", images, *flags) == 0
    assert "0 files written to" in capsys.readouterr().out
    assert status("predict", run / "model", images, *flags, "--polygons", "coco") == 2
    assert "big.npy: an image that is predicted window by window" in capsys.readouterr().err
    assert status("predict", run / "model", images, *flags, "--memory", "much") == 2
    assert "is a number with a unit, such as 2GB; got 'much'" in capsys.readouterr().err
    small = ("--output", tmp_path / "other", "--max-pixels", 1000)
    assert status("predict", run / "model", images / "a.png", *small) == 1
    assert "the file is fine, and --max-pixels 4096 reads it" in capsys.readouterr().err


@pytest.mark.slow
def test_evaluate_on_two_devices_scores_as_on_one(run, folder, tmp_path, capfd):
    scores = []
    for number in (1, 2):
        output = tmp_path / f"{number}.json"
        arguments = (run / "model", "--root", folder, "--device", "cpu", "--devices", number)
        assert status("evaluate", *arguments, "--output", output) == 0
        scores.append(json.loads(output.read_text()))
        assert capfd.readouterr().out.count("mean (mIoU)") == 1
    assert scores[0] == scores[1]
    assert scores[0]["images"] == 3


def test_predict_writes_label_maps_and_reports_a_bad_file(run, folder, tmp_path, capsys):
    images = tmp_path / "images"
    images.mkdir()
    Image.open(folder / "val" / "images" / "0.png").save(images / "good.png")
    (images / "bad.jpg").write_bytes(b"no image")
    output = tmp_path / "labels"
    arguments = (run / "model", images, "--output", output, "--color", "--overlay")
    assert status("predict", *arguments, "--device", "cpu") == 1
    assert "bad.jpg" in capsys.readouterr().err
    assert sorted(path.name for path in output.iterdir()) == [
        "good.color.png",
        "good.overlay.png",
        "good.png",
        "manifest.jsonl",
    ]
    labels = np.array(Image.open(output / "good.png"))
    assert labels.shape == (64, 64)
    assert labels.max() < 4
    (images / "bad.jpg").unlink()
    assert status("predict", *arguments, "--device", "cpu") == 0
    assert "0 label maps written" in capsys.readouterr().out
    Image.fromarray(labels).save(output / "good.png")
    assert status("predict", *arguments, "--device", "cpu") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert status("predict", *arguments, "--device", "cpu", "--overwrite") == 0


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
    assert "train data: 255 is 'thing', since there are two classes" in capsys.readouterr().err
    config = json.loads((tmp_path / "run/model/config.json").read_text())
    assert set(config["metrics"]["iou"]) == {"background", "thing"}
    assert None not in config["metrics"]["iou"].values()
    for path in (data / "val/labels").iterdir():
        Image.fromarray(np.zeros((32, 48), np.uint8)).save(path)
    assert status("train", *flags, f"--run={tmp_path / 'other'}") == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "the val data: all labeled pixels are background, so there is nothing" in line


@pytest.mark.parametrize("kind", ["folder", "FIFO", "below a file"])
def test_an_output_that_cannot_be_written_is_said_before_the_work(
    folder, tmp_path, capsys, monkeypatch, kind
):
    output = tmp_path / "report.json"
    if kind == "folder":
        output.mkdir()
    elif kind == "FIFO":
        os.mkfifo(output)
    else:
        output.write_text("mine")
        output = output / "report.json"
    monkeypatch.setattr("ccnet.checking.check.check_dataset", None)
    assert status("check-data", folder, "--output", output) == 2
    line = capsys.readouterr().err
    assert line.startswith(f"ccnet check-data: {output} ")
    assert line.count("\n") == 1


SECONDS = ("--data.num-images=2", "--num-workers=0", "--device=cpu", "--model.backbone=tiny")
SECONDS += ("--model.channels=8", "--model.kernel-size=1", "--batch-size=2", "--steps=10000")


@pytest.mark.slow
def test_a_second_process_on_a_run_is_told_that_it_is_in_use(tmp_path, capsys):
    run = tmp_path / "run"
    flags = [f"--run={run}", *SECONDS, "--validate-every=10000", "--log-every=1"]
    first = start("train", *flags)
    try:
        while not list(run.glob("checkpoints/*.pt")):
            assert first.poll() is None, first.communicate()[0]
            time.sleep(0.2)
        before = (run / "log.csv").read_text()
        assert status("train", "--resume", run) == 2
        assert capsys.readouterr().err.startswith(f"ccnet train: {run} is in use: the process ")
        assert (run / "log.csv").read_text().startswith(before)
    finally:
        first.send_signal(signal.SIGTERM)
        output, _ = first.communicate(timeout=120)
    assert first.returncode == 130, output
    steps = [row.split(",")[0] for row in (run / "log.csv").read_text().splitlines()[1:]]
    assert steps == [str(step) for step in range(1, len(steps) + 1)]
    second = start("train", "--resume", str(run))
    time.sleep(2)
    second.kill()  # the lock is released by any death
    second.communicate()
    assert status("train", "--resume", run, "--optimizer.lr=0.5") == 2
    assert "optimizer cannot be given with it" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("steps", [1, 2])
def test_a_rate_that_ruins_the_network_is_never_a_success(tmp_path, capsys, steps):
    flags = [*SECONDS, f"--steps={steps}", "--optimizer.lr=1e30", "--optimizer.head-lr-factor=1000"]
    for policy in ("stop", "skip"):
        run = tmp_path / policy
        assert status("train", f"--run={run}", *flags, f"--non-finite={policy}") == 2
        assert "finite" in (error := capsys.readouterr().err) or "the loss is" in error
        assert not (run / "last").exists()


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (("--output", "photos"), "photos: the label maps would come among the images"),
        (("--output", "photos/a.jpg"), "photos/a.jpg: it is a file; give a folder"),
        (("--output", "loop"), "loop: it is a loop of symbolic links; give a folder"),
        (("--num-workers", 10**9), "num_workers must be from 0 to 256, got 1000000000"),
        (("--num-workers", -1), "num_workers must be from 0 to 256, got -1"),
        (("--devices", 0), "devices must be ≥ 1, got 0"),
    ],
)
def test_predict_refuses_in_one_line_before_it_loads_the_model(
    tmp_path, monkeypatch, capsys, flags, words
):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    Image.new("RGB", (8, 8)).save("photos/a.jpg")
    Path("loop").symlink_to("loop")
    assert status("predict", "no-model", "photos", *flags) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"ccnet predict: {words}")
    assert error.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loop", "photos"]


def test_names_of_files_send_nothing_to_the_terminal(tmp_path, capsys):
    new_tiny_model().save_pretrained(tmp_path / "model")
    names = ["-a\n.png", "\x1b]0;title\x07.png", "b\\c\td\u202e.png", "\udcff.png"]
    (tmp_path / "in").mkdir()
    for index, name in enumerate(names):
        Image.new("RGB", (40 + index, 40)).save(tmp_path / "in" / name)
        (tmp_path / "in" / f"bad {name}").write_bytes(b"no image")
    output = tmp_path / "out\x1b[2J"
    arguments = (tmp_path / "model", tmp_path / "in", "--output", output, "--device", "cpu")
    assert status("predict", *arguments) == 1
    said = capsys.readouterr()
    lines = [line for line in said.err.splitlines() if line.startswith("skipped")]
    assert len(lines) == 4
    assert all(character.isprintable() for line in lines for character in line)
    assert all(character.isprintable() for character in said.out.rstrip("\n"))
    for index, name in enumerate(names):
        with Image.open(output / name) as picture:
            assert picture.size == (40 + index, 40)
    entries = read_manifests(output)
    assert {name for name, entry in entries.items() if entry.status == "written"} == set(names)


@pytest.mark.parametrize("output", ["folder", "loop/scores.json", "file/scores.json", "fifo"])
def test_evaluate_refuses_an_output_before_work_starts(tmp_path, monkeypatch, capsys, output):
    monkeypatch.chdir(tmp_path)
    Path("folder").mkdir()
    Path("file").touch()
    Path("loop").symlink_to("loop")
    os.mkfifo("fifo")
    assert status("evaluate", "no-model", "--data", "scenes", "--output", output) == 2
    error = capsys.readouterr().err
    assert output in error
    assert error.count("\n") == 1


def test_evaluate_gives_no_score_of_a_network_that_gives_nan(tmp_path, capsys):
    model = new_tiny_model()
    with torch.no_grad():
        model.head.attention.passes[0].gamma.fill_(3e38)
    model.save_pretrained(tmp_path / "model")
    output = tmp_path / "scores.json"
    arguments = ("--data", "scenes", "--device", "cpu", "--output", output)
    assert status("evaluate", tmp_path / "model", *arguments) == 2
    said = capsys.readouterr()
    assert "val-000000: the network gives nan or infinite logits; its weights" in said.err
    assert said.out == ""
    assert not output.exists()


@pytest.mark.parametrize("overlay", [True, False])
@pytest.mark.parametrize("color", [True, False])
def test_predict_writes_the_pictures_that_its_switches_ask_for(
    run, folder, tmp_path, color, overlay
):
    flags = ["--color" if color else "--no-color", "--overlay" if overlay else "--no-overlay"]
    image, output = folder / "val" / "images" / "0.png", tmp_path / "out"
    flags += ["--output", str(output), "--device", "cpu"]
    assert status("predict", *flags, run / "model", image) == 0
    assert (output / "0.png").exists()
    assert (output / "0.color.png").exists() == color
    assert (output / "0.overlay.png").exists() == overlay


def test_a_launched_run_needs_a_folder_that_all_processes_know(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "any")
    with pytest.raises(ValueError, match="give --run: processes that torchrun"):
        train(TrainConfig(), {})


def test_predict_reads_images_of_many_channels(tmp_path):
    model = CCNet(3, "tiny", channels=8, auxiliary_channels=None, in_channels=5)
    model.save_pretrained(tmp_path / "model")
    images = tmp_path / "images"
    images.mkdir()
    image = np.random.default_rng(0).integers(0, 65536, (40, 48, 5), np.uint16)
    np.save(images / "a.npy", image)
    write_tiff(images / "b.tif", image)
    arguments = ("--output", tmp_path / "out", "--device", "cpu")
    assert status("predict", tmp_path / "model", images, *arguments) == 0
    labels = [np.array(Image.open(tmp_path / "out" / f"{name}.png")) for name in "ab"]
    np.testing.assert_array_equal(*labels)
    np.testing.assert_array_equal(labels[0], Predictor(model, device="cpu").predict(image))
