"""`ccnet train` as users call it: fine-tuning, data that changed, minutes and the report."""

import json
import sys
from pathlib import Path

import pytest
import yaml
from PIL import Image

from ccnet import CCNet
from ccnet.commands.train import planned
from ccnet.config import read_config
from ccnet.datasets import Scenes
from tests import annotated
from tests.commands import status
from tests.tracking.test_trackers import Recorder

SMALL = ("--data.name=folder", "--num-workers=0", "--device=cpu", "--batch-size=2", "--steps=2")
SMALL += ("--validate-every=2", "--log-every=1")
TINY = ("--model.backbone=tiny", "--model.channels=8", "--model.kernel-size=1")


def write_data(root: Path, classes: tuple[str, ...] = Scenes.classes, training: int = 3) -> Path:
    for split, number in (("train", training), ("val", 2)):
        for index, (image, label) in zip(range(number), Scenes(split), strict=False):
            for kind, array in (("images", image), ("labels", label)):
                path = root / split / kind / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    (root / "dataset.yaml").write_text(yaml.safe_dump({"classes": list(classes)}))
    return root


@pytest.fixture
def run(tmp_path, capsys) -> Path:
    """A trained run on tmp_path/data."""
    data = write_data(tmp_path / "data")
    assert status("train", *SMALL, *TINY, "--data.root", data, "--run", tmp_path / "run") == 0
    capsys.readouterr()
    return tmp_path / "run"


@pytest.mark.slow
def test_a_report_is_written_at_the_end_and_next_steps_are_said(run, capsys):
    assert status("train", "--resume", run, "--report") == 0
    said = capsys.readouterr().out
    assert f"{run} is already trained to the end" in said
    assert f"{run / 'report' / 'report.html'} opens in a browser" in said
    assert "mIoU" in said
    assert f"ccnet predict {run / 'model'} PHOTOS --output labels --overlay" in said
    assert "--report report" not in said
    scores = json.loads((run / "report" / "scores.json").read_text())
    assert scores["images"] == 2
    metrics = json.loads((run / "model" / "config.json").read_text())["metrics"]
    assert scores["miou"] == pytest.approx(metrics["miou"])


@pytest.mark.slow
def test_without_a_report_its_command_is_said_and_works(run, capsys):
    assert status("train", "--resume", run) == 0
    said = capsys.readouterr().out
    (line,) = [line for line in said.splitlines() if line.startswith("errors:")]
    words = line.partition("ccnet ")[2].split()
    assert words[-2:] == ["--report", "report"]
    assert status(*words[:-1], run / "errors") == 0


@pytest.mark.slow
def test_changed_data_are_said_in_one_line(run, tmp_path, capsys):
    """Training longer, with data that moved, then with one more image."""
    config = (run / "config.yaml").read_text()
    (run / "config.yaml").write_text(config.replace("steps: 2\n", "steps: 4\n"))
    (tmp_path / "data").rename(tmp_path / "moved")
    resume = ("train", "--resume", run, "--data.root", tmp_path / "moved")
    write_data(tmp_path / "moved", classes=(*Scenes.classes, "bird"))
    assert status(*resume) == 2
    error = capsys.readouterr().err
    assert "data.json: the classes of the data changed since the run began: added 'bird';" in error
    write_data(tmp_path / "moved", training=4)
    assert status(*resume) == 2
    error = capsys.readouterr().err
    assert "1 image added to the training data ('train/images/3.png'); restore them" in error
    assert sum(line.startswith("ccnet train:") for line in error.splitlines()) == 1
    assert status(*resume, "--accept-new-data") == 0
    assert json.loads((run / "data.json").read_text())["accepted"][0]["step"] == 2
    assert read_config(run / "config.yaml").data.root == str(tmp_path / "moved")
    assert status("train", "--resume", run) == 0


def test_new_data_can_be_accepted_only_when_a_run_is_resumed(tmp_path, capsys):
    assert status("train", "--accept-new-data", "--run", tmp_path / "run") == 2
    assert "--accept-new-data belongs to --resume" in capsys.readouterr().err


@pytest.mark.slow
def test_a_model_is_fine_tuned_to_other_classes_without_its_flags(run, tmp_path, capsys):
    other = write_data(tmp_path / "other", classes=("blue", "ground", "car", "green", "bus"))
    flags = ("--data.root", other, "--init", run, "--run", tmp_path / "fine")
    assert status("train", *SMALL, *flags) == 0
    said = "tiny, 8 channels, recurrence 2; classes kept: blue, ground, green; new: car, bus; left"
    assert said in capsys.readouterr().err
    assert CCNet.from_pretrained(tmp_path / "fine").classes[-1] == "bus"
    assert read_config(tmp_path / "fine" / "config.yaml").model.backbone == "tiny"
    assert status("train", "--resume", tmp_path / "fine") == 0
    flags = (*flags[:-1], tmp_path / "wrong", "--model.channels=16")
    assert status("train", *SMALL, *flags) == 2
    assert "has channels 8, the configuration 16; without model.channels" in capsys.readouterr().err
    assert not (tmp_path / "wrong").exists()


@pytest.mark.slow
def test_minutes_end_a_run_in_about_their_time(tmp_path, capsys):
    data = write_data(tmp_path / "data")
    flags = (*SMALL, *TINY, "--minutes=0.1", "--validate-every=1000", "--data.root", data)
    assert status("train", *flags, "--run", tmp_path / "run") == 0
    config = read_config(tmp_path / "run" / "config.yaml")
    assert config.minutes is None
    assert config.steps > 2
    captured = capsys.readouterr()
    assert f"{config.steps} steps in 0.1 minutes" in captured.err
    log = (tmp_path / "run" / "log.csv").read_text().splitlines()
    assert log[-2].startswith(f"{config.steps},")
    assert float(log[-2].split(",")[2]) > 0


@pytest.mark.slow
def test_a_tracker_gets_the_rows_of_the_log(tmp_path, monkeypatch, capsys):
    wandb = Recorder("wandb")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    data = write_data(tmp_path / "data")
    flags = (*SMALL, *TINY, "--logger=wandb", "--data.root", data, "--run", tmp_path / "run")
    assert status("train", *flags) == 0
    sent = [(named["step"], set(metrics)) for (metrics,), named in wandb.of("log")]
    assert [step for step, _ in sent] == [1, 2, 2, 2]
    assert {"loss", "images_per_second"} <= sent[0][1]
    assert sent[2][1] == {"predictions"}
    assert "miou" in sent[3][1]
    assert wandb.of("finish") == [((), {"exit_code": 0})]
    monkeypatch.setitem(sys.modules, "trackio", None)
    assert status("train", *SMALL, "--logger=trackio", "--run", tmp_path / "other") == 2
    assert "pip install 'criss-cross[trackio]'" in capsys.readouterr().err


def test_what_is_chosen_for_a_folder_can_be_read_before(tmp_path, capsys):
    data = write_data(tmp_path / "data")
    words = (data, "--plan-only", "--model.backbone=tiny", "--batch-size=2", "--device=cpu")
    assert status("train", *words) == 0
    said = capsys.readouterr()
    (tmp_path / "run.yaml").write_text(said.out)
    config = read_config(tmp_path / "run.yaml")
    assert (config.data.name, config.data.root) == ("folder", str(data))
    assert (config.model.backbone, config.batch_size, config.device) == ("tiny", 2, "cpu")
    assert config.data.augment.crop_size == (64, 64)
    assert "3 images to learn from, 2 to validate on" in said.err
    assert "--data.augment.crop_size" in said.err
    assert "TRAINS FROM NOTHING" in said.err.replace("\n", " ") or "no ImageNet" in said.err
    assert list(tmp_path.iterdir()) == [data, tmp_path / "run.yaml"]


def test_each_choice_for_a_folder_can_be_replaced_alone(tmp_path, capsys):
    data = write_data(tmp_path / "data")
    words = (data, "--plan-only", "--model.backbone=tiny", "--device=cpu")
    assert status("train", *words, "--data.augment.scale=[0.8,1.1]") == 0
    (tmp_path / "run.yaml").write_text(capsys.readouterr().out)
    augment = read_config(tmp_path / "run.yaml").data.augment
    assert augment is not None
    assert (augment.scale, augment.crop_size) == ((0.8, 1.1), (64, 64))
    # without a folder nothing is chosen for what is missing
    assert status("train", "--data.root", data, "--data.augment.scale=[0.8,1.1]") == 2
    assert "data.augment.crop_size is missing" in capsys.readouterr().err


@pytest.mark.slow
def test_a_folder_alone_becomes_a_model_and_a_report(tmp_path, capsys):
    data, run = write_data(tmp_path / "data"), tmp_path / "run"
    words = ("--model.backbone=tiny", "--model.channels=8", "--steps=3", "--num-workers=0")
    assert status("train", data, "--run", run, "--device=cpu", *words) == 0
    said = capsys.readouterr()
    assert f"{run / 'report' / 'report.html'} opens in a browser" in said.out
    assert "the fastest here that trains well" in said.err
    config = read_config(run / "config.yaml")
    again = tmp_path / "again"
    assert status("train", "--config", run / "config.yaml", "--run", again) == 0
    assert read_config(again / "config.yaml") == config
    assert weights_of(again) == weights_of(run)


def labelme_without_splits(root: Path) -> Path:
    for name in "abcd":
        annotated.save_image(root / f"{name}.png")
        annotated.write_json(root / f"{name}.json", annotated.labelme_content(name))
    return root


def black_and_white_masks(root: Path) -> Path:
    """a.jpg with a_mask.png, which holds 0 and 255."""
    for name in "abcd":
        annotated.save_image(root / f"{name}.jpg")
        mask = (annotated.label_of(name) > 0).astype("uint8") * 255
        Image.fromarray(mask).save(root / f"{name}_mask.png")
    (root / "dataset.yaml").write_text("classes: [soil, plant]\n")
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "said", "classes", "lists"),
    [
        (annotated.cvat_coco, "of the new class 0, 'background'", 3, False),
        (labelme_without_splits, "divided by the hash of names, 20% val: train 3, val 1", 3, False),
        (black_and_white_masks, "255 is 'plant'", 2, True),
        (annotated.voc, "data: few pairs: 2", 3, True),
    ],
    ids=["coco", "labelme", "masks", "voc"],
)
def test_folders_of_any_layout_are_trained_on(tmp_path, capsys, write, said, classes, lists):
    data, run = write(tmp_path / "data"), tmp_path / "run"
    assert status("train", *SMALL, *TINY, "--data.root", data, "--run", run) == 0
    assert said in capsys.readouterr().err
    log = (run / "log.csv").read_text().splitlines()
    assert log[-1].startswith("2,")
    model = CCNet.from_pretrained(run)
    assert len(model.classes) == classes
    metrics = json.loads((run / "model" / "config.json").read_text())["metrics"]
    assert 0 < metrics["miou"] < 1
    assert (run / "lists" / "val.txt").exists() == lists
    assert status("evaluate", run / "model", "--root", data, "--device=cpu") == 0


def weights_of(run: Path) -> bytes:
    return (run / "last" / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_a_folder_and_a_model_to_start_from_give_a_run_of_its_architecture(run, tmp_path):
    data, new = write_data(tmp_path / "more", training=2), tmp_path / "new"
    words = ("--init", run, "--steps=2", "--num-workers=0", "--device=cpu")
    assert status("train", data, "--run", new, *words) == 0
    model = read_config(new / "config.yaml").model
    assert (model.backbone, model.channels, model.kernel_size) == ("tiny", 8, 1)


def test_a_run_that_goes_on_takes_no_folder(tmp_path, capsys):
    assert status("train", tmp_path, "--resume", tmp_path / "run") == 2
    assert "no folder with it" in capsys.readouterr().err


def test_processes_of_a_launcher_take_no_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "1")
    with pytest.raises(ValueError, match=r"--plan-only > run\.yaml"):
        planned(tmp_path, {}, None, None)
