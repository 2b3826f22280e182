"""Weights & Biases, MLflow and Trackio: other places for what log.csv and TensorBoard hold.

Lightning Fabric has loggers for CSV and TensorBoard alone, and those of Lightning's Trainer need
the whole of it; what a run asks of a tracker is two calls.
"""

import sys
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any, Protocol

from ccnet.config import TrainConfig
from ccnet.runtime.disk import write_json
from ccnet.runtime.files import DataError, printable, read_json
from ccnet.saving.run_folder import RunFolder

PICTURES = "predictions"
LONGEST_VALUE = 500
"""Characters of a parameter that every version of MLflow takes."""


class Tracker(Protocol):
    """One run in a tracker. Each call may raise whatever the tracker's package raises."""

    id: str
    """By which the tracker knows the run, also when it is resumed."""

    def log_metrics(self, metrics: dict[str, float], step: int) -> None: ...

    def log_picture(self, path: Path, step: int) -> None: ...

    def close(self, *, failed: bool) -> None: ...


class WandbTracker:
    def __init__(self, folder: RunFolder, config: TrainConfig, known: str | None) -> None:
        self.wandb = import_module("wandb")
        self.run = self.wandb.init(
            project=config.project,
            name=folder.path.resolve().name,
            id=known,
            resume=None if known is None else "allow",
            config=config.to_plain(),
            dir=str(folder.tensorboard),
        )
        self.id = str(self.run.id)

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.run.log(metrics, step=step)

    def log_picture(self, path: Path, step: int) -> None:
        self.run.log({PICTURES: self.wandb.Image(str(path))}, step=step)

    def close(self, *, failed: bool) -> None:
        self.run.finish(exit_code=int(failed))


class MlflowTracker:
    def __init__(self, folder: RunFolder, config: TrainConfig, known: str | None) -> None:
        self.mlflow = import_module("mlflow")
        self.mlflow.set_experiment(config.project)
        name = None if known is not None else folder.path.resolve().name
        self.id = str(self.mlflow.start_run(run_id=known, run_name=name).info.run_id)
        if known is None:  # MLflow allows no parameter to change
            self.mlflow.log_params(flat(config.to_plain()))

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.mlflow.log_metrics(metrics, step=step)

    def log_picture(self, path: Path, step: int) -> None:
        self.mlflow.log_artifact(str(path), PICTURES)

    def close(self, *, failed: bool) -> None:
        self.mlflow.end_run("FAILED" if failed else "FINISHED")


class TrackioTracker:
    def __init__(self, folder: RunFolder, config: TrainConfig, known: str | None) -> None:
        self.trackio = import_module("trackio")
        resume = "never" if known is None else "allow"
        name = known or folder.path.resolve().name
        options = {"config": config.to_plain(), "resume": resume, "embed": False}
        self.run = self.trackio.init(project=config.project, name=name, **options)
        self.id = str(self.run.name)

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.trackio.log(metrics, step=step)

    def log_picture(self, path: Path, step: int) -> None:
        self.trackio.log({PICTURES: self.trackio.Image(str(path))}, step=step)

    def close(self, *, failed: bool) -> None:
        self.trackio.finish()


TRACKERS: dict[str, Callable[[RunFolder, TrainConfig, str | None], Tracker]] = {
    "wandb": WandbTracker,
    "mlflow": MlflowTracker,
    "trackio": TrackioTracker,
}
"""Each by its name in `TrainConfig.logger`, which is also that of its package and of its extra."""


class Tracking:
    """The tracker of a run, if it has one; a tracker that fails never ends the run.

    After the first failure, which is said on standard error, nothing more is sent. A run that is
    resumed continues its own run in the tracker, whose id is in tracker.json.

    Args:
        folder: of the run.
        config: of the run.
    """

    def __init__(self, folder: RunFolder, config: TrainConfig) -> None:
        self.folder = folder
        self.config = config
        self.tracker: Tracker | None = None
        if config.logger is not None:
            self.attempt(self.start)

    def start(self) -> None:
        assert self.config.logger is not None
        known = known_id(self.folder.tracker, self.config.logger)
        self.tracker = TRACKERS[self.config.logger](self.folder, self.config, known)
        with self.folder.explaining_full_disk("tracker.json", lambda: 4096):
            write_json(self.folder.tracker, {"logger": self.config.logger, "id": self.tracker.id})

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        if (tracker := self.tracker) is not None:
            self.attempt(lambda: tracker.log_metrics(metrics, step))

    def log_picture(self, path: Path, step: int) -> None:
        if (tracker := self.tracker) is not None:
            self.attempt(lambda: tracker.log_picture(path, step))

    def close(self, *, failed: bool) -> None:
        if (tracker := self.tracker) is not None:
            self.attempt(lambda: tracker.close(failed=failed))

    def attempt(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:  # a network, an account, a server: nothing that training needs
            self.tracker = None
            cause = printable(str(error).strip().partition("\n")[0][:300]) or type(error).__name__
            print(
                f"warning: {self.config.logger} fails ({cause}); the run goes on without it, and "
                f"{self.folder.log} has every row",
                file=sys.stderr,
                flush=True,
            )


def require_tracker(name: str | None) -> None:
    """Raise ImportError, which names the extra, if the package of a tracker is not installed."""
    if name is None:
        return
    try:
        import_module(name)
    except ImportError as error:
        raise ImportError(
            f"logger={name} needs the package {name}: pip install 'criss-cross[{name}]'"
        ) from error


def known_id(path: Path, logger: str) -> str | None:
    """The id in a run's tracker.json; None without one of this tracker."""
    if not path.exists():
        return None
    content = read_json(path)
    if not isinstance(content, dict) or not isinstance(content.get("id"), str):
        raise DataError(f"{path}: it holds no id of a run; remove it to begin a new one", path=path)
    return content["id"] if content.get("logger") == logger else None


def flat(settings: dict[str, Any], owner: str = "") -> dict[str, str]:
    """Nested settings by their dotted names, as short texts."""
    found = {}
    for name, value in settings.items():
        if isinstance(value, dict):
            found |= flat(value, f"{owner}{name}.")
        else:
            found[f"{owner}{name}"] = str(value)[:LONGEST_VALUE]
    return found
