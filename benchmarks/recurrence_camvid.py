"""Compare no attention (R = 0) with two passes (R = 2) on CamVid, by configs/camvid.yaml.

The runs of a seed follow each other, with the same images and the same number of steps: as many as
fit into the minutes with two passes. Appends one row per run to the CSV file; runs that it already
contains are not repeated.

    python benchmarks/recurrence_camvid.py CAMVID --weights mobilenet_v2.safetensors --minutes 20
"""

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from csv_rows import append_row, read_rows

from ccnet.config import TrainConfig, read_config
from ccnet.datasets import open_dataset
from ccnet.prediction.evaluate import evaluate
from ccnet.prediction.predictor import Predictor
from ccnet.saving.run_folder import source_commit
from ccnet.training.loop import train

ROOT = Path(__file__).parents[1]
RESULTS = Path(__file__).parent / "results" / "recurrence_camvid.csv"
KEY = ("recurrence", "seed", "budget", "device")
COLUMNS = (*KEY, "steps", "seconds", "miou", "torch", "commit")


def run(config: TrainConfig) -> dict[str, object]:
    """Train one network and score its last weights on the validation images."""
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder) / "run")
        seconds = time.perf_counter() - start
        steps = read_config(Path(folder) / "run" / "config.yaml").steps
        predictor = Predictor(Path(folder) / "run" / "last", device=config.device)
    scores = evaluate(predictor, open_dataset("camvid", config.data.root, "val"))
    facts = {"torch": torch.__version__, "commit": source_commit()}
    return {"steps": steps, "seconds": f"{seconds:.1f}", "miou": f"{scores.miou:.4f}", **facts}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("camvid", type=Path, help="folder of the data set")
    parser.add_argument("--weights", help="file of a MobileNetV2 trained on ImageNet")
    length = parser.add_mutually_exclusive_group()
    length.add_argument("--minutes", type=float, default=20, help="of a run with two passes")
    length.add_argument("--steps", type=int, help="of each run, in place of minutes")
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--output", type=Path, default=RESULTS, help="CSV file to append to")
    words = parser.parse_args()
    recipe = read_config(ROOT / "configs" / "camvid.yaml")
    recipe = replace(recipe, device=words.device, data=replace(recipe.data, root=str(words.camvid)))
    done = {tuple(row[key] for key in KEY): row for row in read_rows(words.output)}
    budget = f"{words.minutes:g} minutes" if words.steps is None else f"{words.steps} steps"
    for seed in range(words.seeds):
        steps = words.steps
        for recurrence in (2, 0):
            key = tuple(map(str, (recurrence, seed, budget, words.device)))
            if key not in done:
                model = replace(recipe.model, recurrence=recurrence, pretrained=words.weights)
                length = {"minutes": words.minutes} if steps is None else {"steps": steps}
                # one validation, at the end
                config = replace(recipe, model=model, seed=seed, validate_every=10**6, **length)
                done[key] = dict(zip(KEY, key, strict=True)) | run(config)
                append_row(words.output, COLUMNS, done[key])
                print(done[key], flush=True)
            steps = int(done[key]["steps"])


if __name__ == "__main__":
    main()
