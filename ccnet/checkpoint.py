"""The folder of a training run: what lies in it, how it is written whole, how a run is resumed.

config.yaml    the resolved configuration          run.json   command, versions, commit, seed
log.csv        loss, rate and scores by step       logs/      the same for TensorBoard
model/, last/  the best and the last model         checkpoint.pt   all that resuming needs
"""

import csv
import json
import os
import platform
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

import ccnet
from ccnet.config import TrainConfig
from ccnet.models import CCNet

LIBRARIES = ("torch", "numpy", "pillow", "lightning-fabric", "torchmetrics", "safetensors")
COLUMNS: tuple[str, ...] = (
    "step",
    "epoch",
    "loss",
    "lr",
    "images_per_second",
    "seconds",
    "miou",
    "pixel_accuracy",
    "mean_accuracy",
)


class RunFolder:
    """Where everything of one run lies."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.log = self.path / "log.csv"
        self.tensorboard = self.path / "logs"
        self.best_model = self.path / "model"
        self.last_model = self.path / "last"
        self.checkpoint = self.path / "checkpoint.pt"

    def require_empty(self) -> None:
        """Raises FileExistsError where a run, or anything else, is there already."""
        if self.path.exists() and (not self.path.is_dir() or any(self.path.iterdir())):
            raise FileExistsError(
                f"{self.path} is not empty; `ccnet train --resume {self.path}` goes on with a run, "
                "another --run starts a new one"
            )

    def create(self, config: TrainConfig) -> None:
        self.path.mkdir(parents=True, exist_ok=True)
        write_whole(self.config, lambda file: file.write_text(to_yaml(config)))
        facts = {
            "command": sys.argv,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "ccnet": ccnet.__version__,
            "commit": source_commit(),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "threads": torch.get_num_threads(),
            "seed": config.seed,
            "libraries": {name: version(name) for name in LIBRARIES},
        }
        write_json(self.path / "run.json", facts)

    def save(self, state: dict[str, Any]) -> None:
        write_whole(self.checkpoint, lambda file: torch.save(state, file))

    def load(self) -> dict[str, Any]:
        """The state of the last save. Raises FileNotFoundError or ValueError, naming the file."""
        if not self.checkpoint.is_file():
            raise FileNotFoundError(f"no run to resume: there is no {self.checkpoint}")
        try:
            return torch.load(self.checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged archive can raise anything
            raise ValueError(f"{self.checkpoint} can't be read: {error}") from error

    def save_model(self, model: CCNet, folder: Path) -> None:
        """Replace a model folder; one that was there stays whole until the new one is written."""
        fresh, old = (
            folder.with_name(f".{folder.name}.new"),
            folder.with_name(f".{folder.name}.old"),
        )
        for leftover in (fresh, old):
            remove_folder(leftover)
        model.save_pretrained(fresh)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        remove_folder(old)

    def start_log(self, step: int) -> None:
        """Keep the rows up to a step, so that a resumed run writes none of them twice."""
        rows = []
        if self.log.exists():
            with self.log.open(newline="") as file:
                rows = [row for row in csv.DictReader(file) if int(row["step"]) <= step]
        with self.log.open("w", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            writer.writerows(rows)

    def add_to_log(self, **row: float) -> None:
        with self.log.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS).writerow(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
            )


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the path, flush to disk, then rename: the file is the old or the new one."""
    fresh = path.with_name(f".{path.name}.new")
    try:
        write(fresh)
        with fresh.open("rb+") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def write_json(path: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, ensure_ascii=False) + "\n"
    write_whole(path, lambda file: file.write_text(text))


def to_yaml(config: TrainConfig) -> str:
    plain = json.loads(json.dumps(config.to_dict()))  # tuples as lists
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def remove_folder(folder: Path) -> None:
    if folder.exists():
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()


def source_commit() -> str | None:
    """Commit of the project's checkout, None where it was installed from a package."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists():
        return None
    result = subprocess.run(
        ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        check=False,
    )
    return result.stdout.strip() or None
