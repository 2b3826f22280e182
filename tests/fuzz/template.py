"""Valid ingredients, made once, of which every input damages one."""

import contextlib
import io
import shutil
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image

CLASSES = {"road": [128, 64, 128], "tree": [0, 128, 0], "sky": [70, 130, 180]}
CONFIG = {
    "data": {"name": "folder", "root": "data"},
    "model": {"backbone": "tiny", "channels": 8, "auxiliary_channels": 8, "kernel_size": 1},
    "optimizer": {"lr": 0.01},
    "steps": 2,
    "batch_size": 2,
    "validate_every": 2,
    "num_workers": 0,
    "device": "cpu",
    "precision": "float32",
}


def build(folder: Path) -> None:
    """Write a picture, a model folder, a data set, a configuration, a run and a weight file."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (40, 48, 3), np.uint8)).save(folder / "good.png")
    write_data(folder / "data", rng)
    write_model(folder / "model", in_channels=3)
    write_model(folder / "model_4", in_channels=4)
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    write_run(folder)
    write_labels(folder)
    write_published(folder / "published.pth")


def write_data(root: Path, rng: np.random.Generator) -> None:
    """Three pairs to learn from and two to validate on, of 40 × 48 pixels."""
    for split, number in (("train", 3), ("val", 2)):
        for kind, shape in (("images", (40, 48, 3)), ("labels", (40, 48))):
            (root / split / kind).mkdir(parents=True)
            for index in range(number):
                high = 256 if kind == "images" else len(CLASSES)
                array = rng.integers(0, high, shape, np.uint8)
                Image.fromarray(array).save(root / split / kind / f"{index}.png")
    (root / "dataset.yaml").write_text(yaml.safe_dump({"classes": CLASSES}, sort_keys=False))


def write_model(folder: Path, in_channels: int) -> None:
    from ccnet import CCNet

    torch.manual_seed(0)
    model = CCNet(
        len(CLASSES),
        "tiny",
        channels=8,
        auxiliary_channels=8,
        kernel_size=1,
        classes=list(CLASSES),
        palette=list(CLASSES.values()),
        in_channels=in_channels,
    )
    model.save_pretrained(folder)


def write_run(folder: Path) -> None:
    """A run of four steps, of which the last save is gone: it goes on from step 3."""
    from ccnet.config import read_config
    from ccnet.training.loop import train

    config = {**CONFIG, "data": {"name": "folder", "root": str(folder / "data")}}
    config |= {"steps": 4, "save_every": 1, "log_every": 1}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))
    quiet = contextlib.redirect_stderr(io.StringIO())
    with quiet, contextlib.redirect_stdout(io.StringIO()):
        train(read_config(folder / "run.yaml"), folder / "run")
    *_, last = sorted((folder / "run" / "checkpoints").glob("step-*.pt"))
    last.unlink()


def write_labels(folder: Path) -> None:
    """The labels that `ccnet predict model photos` makes in this folder."""
    from ccnet.labeling.files import predict_files
    from ccnet.labeling.jobs import find_jobs
    from ccnet.prediction.predictor import Predictor

    (folder / "photos").mkdir()
    shutil.copy2(folder / "good.png", folder / "photos" / "good.png")
    shutil.copy2(folder / "data" / "train" / "images" / "0.png", folder / "photos" / "other.png")
    with contextlib.chdir(folder):
        jobs = find_jobs(["photos"], Path("out"))
        predict_files(Predictor("model", device="cpu"), jobs, Path("out"))


def write_published(path: Path) -> None:
    """A CCNet on a ResNet-18 by mmsegmentation's names; `backbone.pth` is a tiny backbone alone."""
    from ccnet import CCNet
    from ccnet.published.names import PREFIXES

    model = CCNet(3, "resnet18", channels=16, auxiliary_channels=8, kernel_size=1)
    theirs_of = {ours: theirs for theirs, ours in PREFIXES["mmsegmentation"].items()}
    state = {}
    for key, value in model.state_dict().items():
        ours = max((start for start in theirs_of if key.startswith(start)), key=len)
        state[theirs_of[ours] + key.removeprefix(ours)] = value
    torch.save({"state_dict": state}, path)
    tiny = CCNet(3, "tiny", channels=8, auxiliary_channels=8).backbone
    torch.save(tiny.state_dict(), path.with_name("backbone.pth"))
