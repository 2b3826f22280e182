"""The folder of a training run: what lies in it, how it is written whole, how a run is resumed.

config.yaml    the resolved configuration          run.json   command, versions, commit, seed
log.csv        loss, rate and scores by step       logs/      the same for TensorBoard
model/, last/  the best and the last model         checkpoint.pt   all that resuming needs
"""

import csv
import json
import os
import platform
import shutil
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

LIBRARIES = ("torch", "numpy", "pillow", "lightning-fabric", "safetensors")
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
        write_text(self.config, to_yaml(config))
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
        if old.exists() and not folder.exists():  # killed between the two renames below
            old.rename(folder)
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)
        model.save_pretrained(fresh)
        for file in fresh.iterdir():
            flush(file)
        if folder.exists():
            folder.rename(old)
        fresh.rename(folder)
        shutil.rmtree(old, ignore_errors=True)

    def start_log(self, step: int) -> None:
        """Keep the rows up to a step, so that a resumed run writes none of them twice."""
        lines = [",".join(COLUMNS)]
        if self.log.exists():
            rows = self.log.read_text(encoding="utf-8").splitlines()[1:]
            whole = [row for row in rows if row.count(",") == len(COLUMNS) - 1]
            lines += [row for row in whole if int(row.split(",")[0]) <= step]
        write_text(self.log, "".join(f"{line}\n" for line in lines))

    def add_to_log(self, **row: float) -> None:
        with self.log.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
            )


def write_whole(path: Path, write: Callable[[Path], object]) -> None:
    """Write beside the path, flush to disk, then rename: the file is the old or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    try:
        write(fresh)
        flush(fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def write_text(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def to_yaml(config: TrainConfig) -> str:
    plain = json.loads(json.dumps(config.to_dict()))  # tuples as lists
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def source_commit() -> str | None:
    """Commit of the project's checkout; None for an installed package or without git."""
    root = Path(__file__).parents[1]
    if not (root / ".git").exists() or (git := shutil.which("git")) is None:
        return None
    describe = ["describe", "--always", "--dirty", "--abbrev=12"]
    command = [git, "-C", str(root), *describe]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
