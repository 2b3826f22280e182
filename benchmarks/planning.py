"""What a choice of `ccnet train FOLDER` brings, for equal time of the processor.

Each variant is the plan for the folder with other flags, trained for so many seconds: the time of a
step is measured first, as the time of the process, so that other programs do not count. The
last weights are scored on the test split. Rows that results/planning.csv contains are skipped.

    python benchmarks/thin_structures.py thin_192 --size 192 --seed 1
    python benchmarks/few_surfaces.py few_192 --height 192 --width 256 --seed 1
    python benchmarks/planning.py thin_192 --weights mobilenet_v2.safetensors --seconds 40 \\
        --flags "" "--loss.dice 1" "--optimizer.lr 2e-3 --batch_size 8"

Flags are those beside the plan of the row's commit. thin_320 is like thin_192 with --size 320, and
camvid_1 is the camvid of own_data.py, of whose training images, sorted by name, the third of each
five blocks of 20 are the test split.
"""

import argparse
import json
import shlex
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml
from csv_rows import append_row, read_rows
from torchvision_operators import allow_torchvision

from ccnet.datasets import open_dataset
from ccnet.planning.planner import merged, nested, plan_run
from ccnet.prediction.evaluate import evaluate
from ccnet.prediction.predictor import Predictor
from ccnet.saving.run_folder import source_commit
from ccnet.training.assembly import open_data
from ccnet.training.budget import try_step
from ccnet.training.loop import train
from ccnet.training.start import set_up

RESULTS = Path(__file__).parent / "results" / "planning.csv"
KEY = ("data", "flags", "seed", "seconds")
COLUMNS = (*KEY, "steps", "seconds_per_step", "miou", "iou", "commit")
UNTIMED, TIMED = 1, 3


def measure(folder: Path, weights: str, row: dict[str, Any]) -> dict[str, Any]:
    """The row with its steps, its time and its scores."""
    given = {"model": {"pretrained": weights}, "seed": row["seed"], "num_workers": 0}
    given |= {"device": "cpu", "minutes": 1.0}
    words = shlex.split(row["flags"])
    for flag, value in zip(words[::2], words[1::2], strict=True):
        given = merged(given, nested(flag.removeprefix("--"), yaml.safe_load(value)))
    config = replace(plan_run(folder, given).config, minutes=None, pictures=0)
    with tempfile.TemporaryDirectory() as place:
        each = seconds_per_step(config, Path(place) / "trial")
        steps = max(1, round(row["seconds"] / each))
        config = replace(config, steps=steps, validate_every=steps)
        train(config, Path(place) / "run")
        predictor = Predictor(Path(place) / "run" / "last", device="cpu", precision="auto")
    found = evaluate(predictor, open_dataset("folder", folder, "test"))
    iou = {name: None if one is None else round(one, 4) for name, one in found.iou.items()}
    scores = {"miou": round(found.miou, 4), "iou": json.dumps(iou), "commit": source_commit()}
    return row | {"steps": steps, "seconds_per_step": round(each, 3)} | scores


def seconds_per_step(config: Any, folder: Path) -> float:
    """Processor time of a step that is undone, with reading."""
    run = set_up(replace(config, steps=100), folder, data=open_data(config.data))
    durations = []
    with closing(iter(run.loader)) as batches:
        for _ in range(UNTIMED + TIMED):
            start = time.process_time()
            try_step(run, batches)
            durations.append(time.process_time() - start)
    return sum(durations[UNTIMED:]) / TIMED


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--weights", required=True, help="torchvision's MobileNetV2")
    parser.add_argument("--flags", nargs="+", default=[""], help="of each variant")
    parser.add_argument("--seconds", type=float, default=120.0, help="of the processor")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--output", type=Path, default=RESULTS, help="CSV file to append to")
    words = parser.parse_args()
    torch.set_num_threads(1)
    allow_torchvision()
    for flags in words.flags:
        rows = read_rows(words.output)
        values = (words.folder.name, flags, words.seed, words.seconds)
        if any(tuple(row[name] for name in KEY) == tuple(map(str, values)) for row in rows):
            continue
        row = measure(words.folder, words.weights, dict(zip(KEY, values, strict=True)))
        append_row(words.output, COLUMNS, row)
        print(*(f"{name}={row[name]}" for name in COLUMNS), flush=True)


if __name__ == "__main__":
    main()
