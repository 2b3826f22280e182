"""Check that a training run killed with SIGKILL many times ends as one that was never stopped.

Trains a small network twice. One run is never interrupted. The other is killed at random moments,
at least a third of the times while it writes a save or a model folder, and is continued by nothing
but `ccnet train --resume`. At the end both runs must have the same weights, bit by bit, and the
same losses in log.csv, with exactly one row for each step. The script appends a row to
results/kills.csv and exits with status 1 if anything differs.

    python benchmarks/kills.py [--kills 20] [--seed 0] [--no-csv]

The runs use one thread unless OMP_NUM_THREADS is set, because with several threads MKL does not
always compute the first exponentials of a process with the same kernel.
"""

import argparse
import csv
import hashlib
import os
import platform
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from csv_rows import append_row
from PIL import Image

from ccnet.datasets import Scenes
from ccnet.saving.run_folder import source_commit

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "kills.csv"
COLUMNS = (
    "date",
    "commit",
    "python",
    "torch",
    "threads",
    "seed",
    "kills",
    "during_writes",
    "steps",
)
COLUMNS += ("redone_steps", "equal", "sha256", "seconds")
CONFIG = """
data:
  name: folder
  augment: {crop_size: [48, 48], scale: [0.8, 1.2]}
model: {backbone: tiny, channels: 16, kernel_size: 1, dropout: 0.1, auxiliary_channels: 8}
optimizer: {name: adamw, lr: 1.0e-3, schedule: one_cycle}
batch_size: 2
log_every: 1
num_workers: 0
precision: float32
device: cpu
"""
# One thread, because MKL's vector math functions (MKL 2024.2 in torch 2.13) detect the CPU at their
# first call without a lock: with several threads the first threaded `exp_` of a process may take
# another kernel, and equal runs then differ (https://github.com/pytorch/pytorch/issues/188792).
ENVIRONMENT = {"OMP_NUM_THREADS": "1", **os.environ}
START_SECONDS = 120  # longest time to wait until a process begins to train


@dataclass
class Kills:
    """Number of kills of a run, of kills during a write, and of steps that were repeated."""

    total: int = 0
    during_writes: int = 0
    redone_steps: int = 0


def write_data(root: Path) -> None:
    """Write a few scenes as a data set of files, so that validations are short."""
    for split, number in (("train", 24), ("val", 4)):
        scenes = Scenes(split, num_images=number)
        for index in range(number):
            for kind, array in zip(("images", "labels"), scenes[index], strict=True):
                path = root / split / kind / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    description = {"classes": list(Scenes.classes), "palette": [list(c) for c in Scenes.palette]}
    (root / "dataset.yaml").write_text(yaml.safe_dump(description))


def flags(config: Path, data: Path, steps: int, seed: int) -> list[str]:
    """Flags of `ccnet train`, with a save after every step and a validation after every fifth."""
    chosen = [f"--config={config}", f"--data.root={data}", f"--steps={steps}", f"--seed={seed}"]
    return [*chosen, "--save-every=1", "--validate-every=5"]


def start(arguments: list[str], output: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "ccnet", "train", *arguments]
    with output.open("ab") as file:
        return subprocess.Popen(command, cwd=ROOT, stdout=file, stderr=file, env=ENVIRONMENT)


def rows(run: Path) -> list[dict[str, str]]:
    if not (run / "log.csv").exists():
        return []
    with (run / "log.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def identity(path: Path) -> tuple[int, int] | None:
    """A value that changes when the file is replaced; None if there is no file."""
    return (path.stat().st_ino, path.stat().st_ctime_ns) if path.exists() else None


def half_written(*folders: Path) -> list[Path]:
    """Temporary files and folders, which exist only while something is being written."""
    return [path for folder in folders for path in folder.glob(".*")]


def kill(
    process: subprocess.Popen[bytes], run: Path, before: object, reach: int, aim: Path | None
) -> bool:
    """Kill a process a random number of steps after it has begun to train.

    Args:
        before: identity of the log before the process started, which replaces it when it begins.
        reach: the moment of the kill is chosen after a random number of steps from 0 to `reach`.
        aim: folder whose next write the kill is meant to hit; None: any moment.

    Returns:
        Whether the process was still running when it was killed.
    """
    deadline = time.monotonic() + START_SECONDS
    while identity(run / "log.csv") in (None, before) and process.poll() is None:
        if time.monotonic() > deadline:
            break
        time.sleep(0.002)
    target = len(rows(run)) + random.randint(0, reach)
    while len(rows(run)) < target and process.poll() is None:
        time.sleep(0.002)
    if aim is None:
        time.sleep(random.uniform(0, 0.05))
    else:
        while not half_written(aim) and process.poll() is None:
            pass
        time.sleep(random.choice((0, 0, 0.001, 0.004)))
    process.kill()
    return process.wait() < 0


def train_killed(arguments: list[str], run: Path, num_kills: int, reach: int) -> Kills:
    """Train a run that is killed `num_kills` times, or more until a third of them hit a write."""
    kills, output = Kills(), run.with_suffix(".txt")
    aims = (run / "checkpoints", run, None)  # a save, a model folder, any moment
    first = arguments = [*arguments, f"--run={run}"]
    while kills.total < num_kills or 3 * kills.during_writes < num_kills:
        before = identity(run / "log.csv")
        process = start(arguments, output)
        if kills.total % 4 == 3:  # kill while it starts or reads its save
            time.sleep(random.uniform(0, 5))
            process.kill()
            ended = process.wait() >= 0
        else:
            ended = not kill(process, run, before, reach, aims[kills.total % 3])
        if ended:
            raise RuntimeError(
                f"the run ended with status {process.returncode} after {kills.total} kills: "
                f"{output.read_text()[-2000:]}"
            )
        kills.total += 1
        kills.during_writes += bool(half_written(run, run / "checkpoints"))
        saves = [int(path.name[5:13]) for path in (run / "checkpoints").glob("step-*")]
        done = max([int(row["step"]) for row in rows(run)], default=0)
        kills.redone_steps += done - max(saves, default=0)
        arguments = ["--resume", str(run)] if saves else first
    train_to_the_end(arguments, output)
    return kills


def train_to_the_end(arguments: list[str], output: Path) -> None:
    status = start(arguments, output).wait()
    if status != 0:
        raise RuntimeError(f"training ended with status {status}: {output.read_text()[-2000:]}")


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def differences(uninterrupted: Path, killed: Path, steps: int) -> list[str]:
    """Differences between the two runs, and between each of them and a run of `steps` steps."""
    found = [
        f"{name} differs"
        for name in ("last/model.safetensors", "model/model.safetensors")
        if sha256(uninterrupted / name) != sha256(killed / name)
    ]
    results = []
    for run in (uninterrupted, killed):
        training = [row["step"] for row in rows(run) if row["loss"]]
        if training != [str(step) for step in range(1, steps + 1)]:
            found.append(
                f"{run.name}/log.csv does not have exactly one row for each step, in order"
            )
        results.append([(row["step"], row["loss"], row["lr"], row["miou"]) for row in rows(run)])
    if results[0] != results[1]:
        found.append("losses or scores in log.csv differ")
    found += [f"{path} was left behind" for path in half_written(killed, killed / "checkpoints")]
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=20, help="number of kills (default: 20)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the run and of the moments of the kills"
    )
    parser.add_argument(
        "--no-csv", action="store_true", help="do not append a row to results/kills.csv"
    )
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    steps = 40 + 5 * arguments.kills
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_data(folder / "data")
        (folder / "config.yaml").write_text(CONFIG)
        chosen = flags(folder / "config.yaml", folder / "data", steps, arguments.seed)
        uninterrupted, killed = folder / "uninterrupted", folder / "killed"
        train_to_the_end([*chosen, f"--run={uninterrupted}"], folder / "uninterrupted.txt")
        reach = steps // (arguments.kills + 1)  # so that the run does not end before the last kill
        kills = train_killed(chosen, killed, arguments.kills, reach)
        found = differences(uninterrupted, killed, steps)
        weights = Path("last", "model.safetensors")
        print(f"never stopped  {sha256(uninterrupted / weights)}  {weights}")
        print(f"{kills.total:2} kills       {sha256(killed / weights)}  {weights}")
        row = {
            "date": time.strftime("%Y-%m-%d"),
            "commit": source_commit(),
            "python": platform.python_version(),
            "torch": torch.__version__,
            "threads": ENVIRONMENT["OMP_NUM_THREADS"],
            "seed": arguments.seed,
            "kills": kills.total,
            "during_writes": kills.during_writes,
            "steps": steps,
            "redone_steps": kills.redone_steps,
            "equal": not found,
            "sha256": sha256(killed / weights),
            "seconds": round(time.monotonic() - begin),
        }
    print(
        f"{kills.during_writes} of {kills.total} kills during a write; {steps} steps, "
        f"{kills.redone_steps} of them repeated; {row['seconds']} s"
    )
    for difference in found:
        print(difference, file=sys.stderr)
    if not arguments.no_csv:
        append_row(RESULTS, COLUMNS, row)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
