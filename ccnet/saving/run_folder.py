"""The folder of a training run: what is in it, and how it survives kills and full disks.

config.yaml    the resolved configuration         run.json       command, versions, commit, seed
data.json      classes and names of the images    pictures/      predictions of each validation
log.csv        loss, rate and scores by step      logs/          the same for TensorBoard
run.lock       held by the process that writes    tracker.json   the run's id in another tracker
lists/         the images of train and val
model/, last/  the best and the last model        checkpoints/   the last two saves, to resume from
"""

import csv
import os
import platform
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO

import torch

import ccnet
from ccnet.config import TrainConfig, to_yaml
from ccnet.models.ccnet import CCNet
from ccnet.models.hub import MODEL_FILES, RUN_MODEL
from ccnet.runtime.disk import (
    FULL,
    beside,
    disk_error,
    flush,
    flush_folder,
    readable_size,
    repair_folder,
    write_folder,
    write_json,
    write_text,
)
from ccnet.runtime.files import DataError, read_bytes, require_regular
from ccnet.runtime.lock import FolderLock
from ccnet.saving.provenance import Provenance
from ccnet.saving.saves import Saves, saved_size

LIBRARIES = ("torch", "numpy", "pillow", "lightning-fabric", "safetensors")
LONGEST_LOG = 1 << 30
LOCK = "run.lock"
"""The file that a process locks while it writes a run (`ccnet.runtime.lock`)."""
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
    """The files of one run. One process writes them; any number of processes may read them.

    Args:
        path: of the folder.
        lock: which `take` takes; None: nothing protects the folder from a second process.
    """

    def __init__(self, path: str | Path, lock: FolderLock | None = None) -> None:
        self.path = Path(path)
        self.lock = lock
        self.config = self.path / "config.yaml"
        self.facts = self.path / "run.json"
        self.data = self.path / "data.json"
        self.lists = self.path / "lists"
        self.log = self.path / "log.csv"
        self.tensorboard = self.path / "logs"
        self.tracker = self.path / "tracker.json"
        self.pictures = self.path / "pictures"
        self.best_model = self.path / RUN_MODEL
        self.last_model = self.path / "last"
        self.checkpoints = self.path / "checkpoints"
        self.saves = Saves(self.checkpoints)

    def require_empty(self) -> None:
        """Raise FileExistsError if the folder is a run, or contains anything else.

        The files of a run that was killed before its first save do not count.
        """
        there = set(self.path.iterdir()) if self.path.is_dir() else {self.path}
        self.require_own()
        if not self.path.exists() or not there - {self.path / LOCK}:
            return
        own = {self.facts, beside(self.facts)}
        started = own | {self.config, beside(self.config), self.checkpoints}
        started |= {self.log, beside(self.log), self.tensorboard, self.path / LOCK, self.lists}
        started |= {self.data, beside(self.data), self.tracker, beside(self.tracker)}
        if self.can_resume() or not there & own or not there <= started:
            raise FileExistsError(
                f"{self.path} is not empty; `ccnet train --resume {self.path}` goes on with a run, "
                "another --run starts a new one"
            )

    def take(self) -> None:
        """Make the folder if need be, and lock it for this process, which may then write.

        Raises BlockingIOError if another process holds the lock.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        self.require_own()
        if self.lock is not None:
            self.lock.take()

    def require_own(self) -> None:
        """Raise DataError if something in the folder is a link, or is no file or folder as here.

        A run writes into its own folder only.
        """
        files = (self.config, self.facts, self.data, self.log, self.tracker)
        folders = (self.tensorboard, self.best_model, self.last_model, self.checkpoints)
        folders += (self.pictures, self.lists)
        for path in (*files, *folders):
            if path.is_symlink():
                raise DataError(f"{path}: it is a symbolic link; a run writes into its own folder")
            if path in files and path.exists():
                require_regular(path)
            elif path.exists() and not path.is_dir():
                raise DataError(f"{path}: it is a file, and a run has a folder of this name")

    def create(
        self, config: TrainConfig, device: torch.device | None = None, processes: int = 1
    ) -> None:
        """Write run.json with the command, versions and machine of the run, and config.yaml."""
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
        with self.explaining_full_disk("run.json", lambda: 4096):
            write_json(self.facts, facts)
        self.write_config(config)
        flush_folder(self.path.parent)

    def write_config(self, config: TrainConfig) -> None:
        """Write config.yaml, or replace it."""
        with self.explaining_full_disk("config.yaml", lambda: 4096):
            write_text(self.config, to_yaml(config))

    def write_data(self, provenance: Provenance) -> None:
        """Write data.json: of what data the run is made."""
        num_bytes = sum(map(len, provenance.training.names or ()))
        with self.explaining_full_disk("data.json", lambda: 2 * num_bytes + 4096):
            provenance.write(self.data)

    def can_resume(self) -> bool:
        """Whether there is any save; only `load` finds out whether one is good."""
        return self.saves.any()

    def save(self, state: dict[str, Any]) -> None:
        """Save a state, which contains its "step", and keep the good save of an earlier step.

        Raises OSError if the disk is full; the earlier saves then stay as they are.
        """
        what = f"the save of step {state['step']}"
        with self.explaining_full_disk(what, lambda: saved_size(state)):
            if self.log.exists():
                flush(self.log)  # the log on disk is never behind a save
            self.saves.save(state)

    def load(self) -> dict[str, Any]:
        """The state of the newest good save; newer damaged ones are named on standard error.

        Raises FileNotFoundError if there is no save, ValueError if none is good.
        """
        return self.newest()[1]

    def newest(self) -> tuple[Path, dict[str, Any]]:
        """The newest good save and its state: process 0 finds it, and the others `read` it."""
        return self.saves.newest()

    def read(self, path: Path) -> dict[str, Any]:
        """The state of one save. Raises ValueError, with the file's name, if it is damaged."""
        return self.saves.read(path)

    def save_model(self, model: CCNet, folder: Path) -> None:
        """Write a model folder; an existing one is replaced when the new one is complete."""
        weights = model.state_dict().values()
        what = f"the model folder {folder.name}"
        with self.explaining_full_disk(what, lambda: sum(tensor.nbytes for tensor in weights)):
            write_folder(folder, model.save_pretrained, own=MODEL_FILES)

    def repair(self) -> None:
        """Restore what a killed run had renamed, and remove what it had not finished writing."""
        for folder in (self.best_model, self.last_model):
            repair_folder(folder)
        written = (self.config, self.facts, self.data, self.log, self.tracker)
        files = [beside(file) for file in written]
        files += self.pictures.glob(beside(self.pictures / "*").name)
        for unfinished in [*files, *self.saves.unfinished()]:
            unfinished.unlink(missing_ok=True)

    def start_log(self, step: int, validated: int | None = None) -> None:
        """Start log.csv, or cut it back to a save, from which the run then writes each row again.

        Args:
            step: of the save; rows of training after it are removed.
            validated: step of the last validation in the save; rows of validations after it are
                removed. None: `step`.
        """
        lines = [",".join(COLUMNS)]
        if self.log.exists():
            text = read_bytes(self.log, LONGEST_LOG).decode("utf-8", errors="replace")
            rows = text.split("\n")[1:-1]  # after the last line's end there is half a row at most
            lines += [row for row in rows if is_kept(row, step, validated)]
        with self.explaining_full_disk("log.csv", lambda: sum(map(len, lines))):
            write_text(self.log, "".join(f"{line}\n" for line in lines))

    def add_to_log(self, **row: float) -> None:
        """Append a row, of some of the columns, to log.csv."""
        explaining = self.explaining_full_disk("a row of log.csv", lambda: 100)
        with explaining, open_to_append(self.log) as file:
            csv.DictWriter(file, COLUMNS, lineterminator="\n").writerow(
                {k: f"{v:.6g}" if isinstance(v, float) else v for k, v in row.items()}
            )

    @contextmanager
    def explaining_full_disk(self, what: str, num_bytes: Callable[[], int]) -> Iterator[None]:
        """Make the OSError of a full disk say what needs how much room, and how to go on.

        Args:
            what: is written in the block, in words.
            num_bytes: its size; called only after an error.
        """
        try:
            yield
        except Exception as error:
            cause = disk_error(error)
            if cause is None or cause.errno not in FULL:
                raise
            self.saves.good.clear()  # the save that the message names is read again first
            good = next(
                (path.name for path in self.saves.paths() if self.saves.is_good(path)), None
            )
            rest = "there is no save yet: make room and start again"
            if good is not None:
                rest = f"the last save, {good}, is whole, and after making room "
                rest += f"`ccnet train --resume {self.path}` goes on from it"
            needed, free = num_bytes(), shutil.disk_usage(self.path).free
            full = OSError(
                f"{what} could not be written to {self.path}: {FULL[cause.errno]}; "
                f"needed {readable_size(needed)}, free {readable_size(free)}; {rest}"
            )
            full.errno = cause.errno  # as an argument it would stand before the text
            raise full from error


def open_to_append(path: Path) -> TextIO:
    """Open a text file at its end; raises OSError if it is a symbolic link."""
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
    return os.fdopen(os.open(path, flags, 0o666), "a", newline="")


def is_kept(row: str, step: int, validated: int | None) -> bool:
    """Whether a row of log.csv is complete and stays when the run goes on; see `start_log`."""
    values = row.split(",")
    if len(values) != len(COLUMNS) or not values[0].isdecimal():
        return False
    is_validation = values[COLUMNS.index("miou")] != ""
    return int(values[0]) <= (validated if is_validation and validated is not None else step)


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def source_commit() -> str | None:
    """The commit of this checkout; None in an installed package or without git."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists() or (git := shutil.which("git")) is None:
        return None
    describe = ["describe", "--always", "--dirty", "--abbrev=12"]
    command = [git, "-C", str(root), *describe]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout.strip() or None
