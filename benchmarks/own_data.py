"""`ccnet train FOLDER` without a flag against segmentation_models.pytorch, for equal minutes.

Three data sets, appended to results/own_data.csv: thin structures and few images, which are made up
(thin_structures.py, few_surfaces.py), and CamVid, if its folder is given: its validation split is
held out as the test split, and every eighth training image is validated on instead. Each method
learns from the same training images, starts from the same MobileNetV2, and has the same minutes of
one core. Of ours the validations are part of the minutes; the peers (own_data_peers.py) make none.
Reading the data before the first step, the report at the end and the predictions are not part.

Each method writes label maps of the test images, and one confusion matrix scores them all. Flags
after `--flags` change our side only, for comparisons. Rows that the CSV file contains are skipped.

    python benchmarks/own_data.py FOLDER --weights mobilenet_v2.safetensors --camvid CAMVID
    python benchmarks/own_data.py FOLDER --weights mobilenet_v2.safetensors --methods ccnet \\
        --data thin --output rows.csv --flags "--model.output_stride 8"
"""

import argparse
import datetime
import json
import resource
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import few_surfaces
import numpy as np
import thin_structures
import torch
from csv_rows import append_row, read_rows
from own_data_peers import BATCH_SIZE, PEERS
from PIL import Image

from ccnet.config import read_config
from ccnet.datasets import SegmentationDataset, open_dataset
from ccnet.metrics import ConfusionMatrix, scores
from ccnet.named.camvid import CLASSES, UNLABELED
from ccnet.saving.run_folder import source_commit

RESULTS = Path(__file__).parent / "results" / "own_data.csv"
KEY = ("data", "method", "seed", "minutes")
COLUMNS = ("date", "commit", *KEY, "steps", "miou", "iou", "images_per_second")
COLUMNS += ("seconds", "cpu_seconds")
MADE = {
    "thin": lambda folder, seed: thin_structures.write(folder, size=192, seed=seed),
    "few": lambda folder, seed: few_surfaces.write(folder, (192, 256), seed),
}
LARGEST_CROP = 288
"""Of the peers; the short side of smaller images, rounded down to the multiple of 32 they need."""


def link_camvid(camvid: Path, folder: Path) -> None:
    """CamVid as a folder of train, val and test, none of which has images of another."""
    for source, split in (("train", None), ("val", "test")):
        for index, image in enumerate(sorted((camvid / source / "images").iterdir())):
            label = camvid / source / "labels" / f"{image.stem}.png"
            name = split or ("val" if index % 8 == 4 else "train")
            for path, kind in ((image, "images"), (label, "labels")):
                link = folder / name / kind / path.name
                link.parent.mkdir(parents=True, exist_ok=True)
                link.symlink_to(path.resolve())
    lines = [f"  {name}: {list(color)}" for name, color in CLASSES.items()]
    (folder / "dataset.yaml").write_text("\n".join(["classes:", *lines, f"ignore: {UNLABELED[0]}"]))


def train_ours(asked: dict[str, Any], folder: Path, work: Path) -> tuple[int, int]:
    """Train and predict with the commands that a user gives; the steps, and images per step."""
    model = ["--model.pretrained", asked["weights"], "--device", "cpu", "--seed", asked["seed"]]
    minutes = ["--minutes", asked["minutes"], *shlex.split(asked["flags"])]
    call("-m", "ccnet", "train", folder, "--run", work / "run", *model, *minutes)
    images = folder / "test" / "images"
    call("-m", "ccnet", "predict", work / "run" / "model", images, "--output", work / "labels")
    config = read_config(work / "run" / "config.yaml")
    return config.steps, config.batch_size


def train_peer(asked: dict[str, Any], folder: Path, work: Path) -> tuple[int, int]:
    """Train and predict with one of the peers; the steps, and images per step."""
    script = Path(__file__).with_name("own_data_peers.py")
    options = ["--weights", asked["weights"], "--seed", asked["seed"]]
    options += ["--minutes", asked["minutes"], "--output", work / "labels"]
    short = min(open_dataset("folder", folder, "train")[0][1].shape)
    options += ["--crop", min(LARGEST_CROP, short // 32 * 32)]
    said = call(script, asked["method"], folder, *options).splitlines()[-1]
    return json.loads(said)["steps"], BATCH_SIZE


def call(*words: object) -> str:
    command = [sys.executable, *map(str, words)]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def score(predictions: Path, data: SegmentationDataset) -> dict[str, Any]:
    """The mIoU and IoU of label maps, PNG files with the names of the images."""
    confusion = ConfusionMatrix(len(data.classes))
    for index in range(len(data)):
        label = torch.from_numpy(data[index][1])[None].long()
        with Image.open(predictions / f"{Path(data.name(index)).stem}.png") as picture:
            predicted = torch.from_numpy(np.array(picture))[None].long()
        confusion.update(predicted, label)
    found = scores(confusion.counts, data.classes)
    iou = {name: None if one is None else round(one, 4) for name, one in found.iou.items()}
    return {"miou": round(found.miou, 4), "iou": json.dumps(iou)}


def measure(asked: dict[str, Any], folder: Path) -> dict[str, Any]:
    """The row of one method on one data set."""
    train: Callable = train_peer if asked["method"] in PEERS else train_ours
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as work:
        steps, batch_size = train(asked, folder, Path(work))
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds = time.monotonic() - start
        row = score(Path(work, "labels"), open_dataset("folder", folder, "test"))
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    row |= {"steps": steps, "seconds": round(seconds), "cpu_seconds": round(used)}
    row["images_per_second"] = round(steps * batch_size / (60 * asked["minutes"]), 2)
    date = datetime.datetime.now(datetime.UTC).date().isoformat()
    return {name: asked[name] for name in KEY} | row | {"date": date, "commit": source_commit()}


def prepare(name: str, root: Path, camvid: Path | None, data_seed: int) -> Path:
    """The folder of a data set, which is made if it is not there."""
    folder = root / (name if data_seed == 0 else f"{name}_{data_seed}")
    if not folder.exists():
        if name in MADE:
            MADE[name](folder, data_seed)
        elif camvid is None:
            raise ValueError("--camvid is needed: its folder, with train and val")
        else:
            link_camvid(camvid, folder)
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path, help="for the data sets, made where they are missing")
    parser.add_argument("--weights", required=True, help="torchvision's MobileNetV2")
    parser.add_argument("--camvid", type=Path, help="CamVid, with train and val")
    parser.add_argument("--minutes", type=float, default=5.0, help="of training (default: 5)")
    parser.add_argument("--data", nargs="+", default=["thin", "few", "camvid"])
    parser.add_argument("--methods", nargs="+", default=["ccnet", *PEERS])
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--data-seed", type=int, default=0, help="of the made-up data sets")
    parser.add_argument("--flags", default="", help="for ccnet train; part of the method's name")
    parser.add_argument("--output", type=Path, default=RESULTS, help="CSV file to append to")
    words = parser.parse_args()
    done = {tuple(row[name] for name in KEY) for row in read_rows(words.output)}
    for seed in words.seeds:
        for name in words.data:
            for method in words.methods:
                label = method if method in PEERS else f"ccnet {words.flags}".strip()
                values = (name, label, seed, words.minutes)
                if tuple(map(str, values)) in done:
                    continue
                asked = dict(zip(KEY, values, strict=True))
                asked |= {"weights": words.weights, "flags": words.flags}
                row = measure(asked, prepare(name, words.folder, words.camvid, words.data_seed))
                append_row(words.output, COLUMNS, row)
                print(*(f"{column}={row[column]}" for column in COLUMNS), flush=True)


if __name__ == "__main__":
    main()
