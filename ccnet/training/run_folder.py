"""The folder of a training run: what lies in it, how it is written whole, how a run is resumed.

config.yaml    the resolved configuration          run.json       command, versions, commit, seed
log.csv        loss, rate and scores by step       logs/          the same for TensorBoard
model/, last/  the best and the last model         checkpoints/   the last two saves, for resuming
"""

import csv
import json
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
import yaml

import ccnet
from ccnet.config import TrainConfig
from ccnet.models.ccnet import CCNet
from ccnet.runtime.disk import (
    FULL,
    beside,
    disk_error,
    flush,
    flush_folder,
    readable_size,
    write_json,
    write_text,
)
from ccnet.training.saves import Saves, saved_size

LIBRARIES = ("torch", "numpy", "pillow", "lightning-fabric", "safetensors")
COLUMNS: tuple[str, ...] = (
    "step",
    "epoch",
    "loss",
    "lr",
    "gradient_norm",
    "waiting",
    "images_per_second",
    "seconds",
    "miou",
    "pixel_accuracy",
    "mean_accuracy",
)


class RunFolder:
    """Where everything of one run lies. One process writes it; any number read it."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.facts = self.path / "run.json"
        self.log = self.path / "log.csv"
        self.tensorboard = self.path / "logs"
        self.best_model = self.path / "model"
        self.last_model = self.path / "last"
        self.checkpoints = self.path / "checkpoints"
        self.saves = Saves(self.checkpoints)

    def require_empty(self) -> None:
        """Raises FileExistsError where a run, or anything else, is there already.

        What a run leaves that is killed before its first save counts as nothing.
        """
        there = set(self.path.iterdir()) if self.path.is_dir() else {self.path}
        if not self.path.exists() or not there:
            return
        own = {self.facts, beside(self.facts)}
        started = own | {self.config, beside(self.config), self.checkpoints}
        started |= {self.log, beside(self.log), self.tensorboard}
        if self.can_resume() or not there & own or not there <= started:
            raise FileExistsError(
                f"{self.path} is not empty; `ccnet train --resume {self.path}` goes on with a run, "
                "another --run starts a new one"
            )

    def create(
        self, config: TrainConfig, device: torch.device | None = None, processes: int = 1
    ) -> None:
        """Write what the run is made of: its configuration, command, versions and machine."""
        facts = {
            "command": sys.argv,
            "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            "ccnet": ccnet.__version__,
            "commit": source_commit(),
            "python": platform.python_version(),
            "machine": platform.machine(),
            "device": None if device is None else device_name(device),
            "processes": processes,
            "threads": torch.get_num_threads(),
            "seed": config.seed,
            "libraries": {name: version(name) for name in LIBRARIES},
        }
        self.path.mkdir(parents=True, exist_ok=True)
        with self.clear_when_full("run.json and config.yaml", lambda: 4096):
            write_json(self.facts, facts)
            write_text(self.config, to_yaml(config))
            flush_folder(self.path.parent)

    def can_resume(self) -> bool:
        """Whether there is any save; `load` tells whether one is good."""
        return self.saves.any()

    def save(self, state: dict[str, Any]) -> None:
        """Keep a state, which has its "step", beside the good one of an earlier step.

        Raises OSError on a full disk; the saves before it stay as they are.
        """
        with self.clear_when_full(f"the save of step {state['step']}", lambda: saved_size(state)):
            if self.log.exists():
                flush(self.log)  # no save is ahead of it
            self.saves.save(state)

    def load(self) -> dict[str, Any]:
        """The state of the newest good save; newer bad ones are named on standard error.

        Raises FileNotFoundError where there is no save, ValueError where none is good.
        """
        return self.newest()[1]

    def newest(self) -> tuple[Path, dict[str, Any]]:
        """`load`'s state and its file: one process finds it, and the others `read` it."""
        return self.saves.newest()

    def read(self, path: Path) -> dict[str, Any]:
        """The state of one save. Raises ValueError, naming the file, for one that isn't good."""
        return self.saves.read(path)

    def save_model(self, model: CCNet, folder: Path) -> None:
        """Replace a model folder; one that was there stays whole until the new one is written."""
        fresh, old = beside(folder), replaced(folder)
        self.repair_model(folder)
        weights = model.state_dict().values()
        what = f"the model folder {folder.name}"
        with self.clear_when_full(what, lambda: sum(tensor.nbytes for tensor in weights)):
            try:
                model.save_pretrained(fresh)
                for file in fresh.iterdir():
                    flush(file)
                flush_folder(fresh)
                if folder.exists():
                    folder.rename(old)
                fresh.rename(folder)
            finally:
                shutil.rmtree(fresh, ignore_errors=True)
            flush_folder(folder.parent)
        shutil.rmtree(old, ignore_errors=True)

    def repair_model(self, folder: Path) -> None:
        fresh, old = beside(folder), replaced(folder)
        if old.exists() and not folder.exists():  # killed between the two renames of save_model
            old.rename(folder)
            flush_folder(folder.parent)
        for leftover in (fresh, old):
            shutil.rmtree(leftover, ignore_errors=True)

    def repair(self) -> None:
        """Put back what a killed run had moved aside, remove what it left half written."""
        for folder in (self.best_model, self.last_model):
            self.repair_model(folder)
        files = [beside(file) for file in (self.config, self.facts, self.log)]
        for half in [*files, *self.saves.halves()]:
            half.unlink(missing_ok=True)

    def start_log(self, step: int, validated: int | None = None) -> None:
        """Keep the whole rows that a run which goes on from a save won't write again.

        Args:
            step: of the save, with which training's rows end.
            validated: step of the last validation that the save knows of, with which validations'
                rows end; `step` unless given.
        """
        lines = [",".join(COLUMNS)]
        if self.log.exists():
            text = self.log.read_text(encoding="utf-8", errors="replace")
            rows = text.split("\n")[1:-1]  # what follows the last line's end is torn
            lines += [row for row in rows if is_kept(row, step, validated)]
        with self.clear_when_full("log.csv", lambda: sum(map(len, lines))):
            write_text(self.log, "".join(f"{line}\n" for line in lines))

    def add_to_log(self, **row: float) -> None:
        full = self.clear_when_full("a row of log.csv", lambda: 100)  # bytes, about
        with full, self.log.open("a", newline="") as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
            )

    @contextmanager
    def clear_when_full(self, what: str, num_bytes: Callable[[], int]) -> Iterator[None]:
        """A full disk's OSError says what was lacking, what is whole, and how to go on."""
        try:
            yield
        except Exception as error:
            cause = disk_error(error)
            if cause is None or cause.errno not in FULL:
                raise
            self.saves.good.clear()  # what the text calls whole is read again
            good = next(
                (path.name for path in self.saves.paths() if self.saves.is_good(path)), None
            )
            rest = "there is no save yet: make room and start again"
            if good is not None:
                rest = f"the last save, {good}, is whole, and after making room "
                rest += f"`ccnet train --resume {self.path}` goes on from it"
            needed, free = num_bytes(), shutil.disk_usage(self.path).free
            full = OSError(
                f"{what} couldn't be written to {self.path}: {FULL[cause.errno]}; "
                f"needed {readable_size(needed)}, free {readable_size(free)}; {rest}"
            )
            full.errno = cause.errno  # as an argument it would stand before the text
            raise full from error


def is_kept(row: str, step: int, validated: int | None) -> bool:
    values = row.split(",")
    if len(values) != len(COLUMNS) or not values[0].isdecimal():
        return False
    is_validation = values[COLUMNS.index("miou")] != ""
    return int(values[0]) <= (validated if is_validation and validated is not None else step)


def replaced(folder: Path) -> Path:
    """Where a folder lies while its successor takes its name."""
    return folder.with_name(f".{folder.name}.old")


def to_yaml(config: TrainConfig) -> str:
    plain = json.loads(json.dumps(config.to_dict()))  # tuples as lists
    return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def source_commit() -> str | None:
    """Commit of the project's checkout; None for an installed package or without git."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists() or (git := shutil.which("git")) is None:
        return None
    describe = ["describe", "--always", "--dirty", "--abbrev=12"]
    command = [git, "-C", str(root), *describe]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
