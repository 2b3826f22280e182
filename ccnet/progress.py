"""What a person sees of a run while it goes on: a bar or lines, and the logs."""

import sys
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from statistics import fmean
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ccnet.checkpoint import RunFolder
from ccnet.config import TrainConfig
from ccnet.events import Events
from ccnet.metrics import Scores
from ccnet.processes import num_processes, rank

LINE_SECONDS = 5.0  # without a terminal, a line at most this often


def bar(*fields: str) -> Progress:
    """A bar on standard error with elapsed and remaining time and `fields`; none off a terminal."""
    console = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        *(TextColumn(f"{{task.fields[{name}]}}") for name in fields),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    )


class CountProgress:
    """A bar for `progress(done, total)` callbacks; a line every few seconds without a terminal."""

    def __init__(self, description: str) -> None:
        self.bar = bar()
        self.task = self.bar.add_task(description, total=None)
        self.description = description
        self.last_line = time.monotonic()

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()

    def __call__(self, done: int, total: int) -> None:
        self.bar.update(self.task, completed=done, total=total)
        due = time.monotonic() - self.last_line > LINE_SECONDS
        if self.bar.disable and (due or done == total):
            self.last_line = time.monotonic()
            print(f"{self.description}: {done}/{total}", file=sys.stderr, flush=True)


class Silence:
    """What `TrainingProgress` is in the processes that don't write."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ignore(self, *_: object) -> None:
        pass

    step = row = validating = validated = say = ignore


def counting(description: str) -> AbstractContextManager[CountProgress | None]:
    """The first process's bar, over its own share of what all do; None in the others."""
    if rank() > 0:
        return nullcontext()
    several = num_processes() > 1
    return CountProgress(f"{description} (1 of {num_processes()})" if several else description)


class TrainingProgress:
    """Shows loss, rate, speed, time left and the last mIoU, and writes log.csv and TensorBoard."""

    def __init__(self, config: TrainConfig, folder: RunFolder, step: int, num_samples: int) -> None:
        self.config = config
        self.folder = folder
        self.first_step = step
        self.num_samples = num_samples
        with folder.clear_when_full("TensorBoard's log", lambda: 4096):
            self.tensorboard = Events(folder.tensorboard, start=step + 1)
        self.bar = bar("status")
        self.task = self.bar.add_task(
            "training", total=config.steps, completed=step, status="loading data"
        )
        self.steps_in_row = 0
        self.waited = 0.0
        self.miou = ""
        self.start = self.row_start = time.monotonic()
        self.last_line = 0.0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        self.tensorboard.close()

    def step(self, step: int, waited: float) -> None:
        """Note a finished step, counted from 1, and the seconds until its images were there."""
        self.steps_in_row += 1
        self.waited += waited
        self.bar.update(self.task, completed=step)

    def row(self, step: int, losses_and_norms: Sequence[tuple[float, float]], lr: float) -> None:
        """A row of the log: means over the steps since the last one; the gradient's norm is the one
        before clipping, `waiting` the share of the time in which there were no images."""
        now = time.monotonic()
        losses, norms = zip(*losses_and_norms, strict=True)
        seconds = now - self.row_start
        row = {
            "epoch": step * self.config.batch_size / self.num_samples,
            "loss": fmean(losses),
            "lr": lr,
            "gradient_norm": fmean(norms),
            "waiting": self.waited / seconds,
            "images_per_second": self.steps_in_row * self.config.batch_size / seconds,
            "seconds": now - self.start,
        }
        self.write(step, row)
        self.steps_in_row, self.waited, self.row_start = 0, 0.0, now
        status = (
            f"loss {row['loss']:.3f}  lr {lr:.1e}  {row['images_per_second']:.1f} images/s"
            f"{self.miou}"
        )
        self.bar.update(self.task, status=status)
        due = now - self.last_line > LINE_SECONDS or step == self.config.steps
        if self.bar.disable and due:
            self.last_line = now
            left = (now - self.start) / (step - self.first_step) * (self.config.steps - step)
            self.say(f"step {step}/{self.config.steps}  {status}  {left:.0f} s left")

    def validating(self, done: int, total: int) -> None:
        self.bar.update(self.task, status=f"validating {done}/{total}")

    def validated(self, step: int, scores: Scores) -> None:
        row = {
            "miou": scores.miou,
            "pixel_accuracy": scores.pixel_accuracy,
            "mean_accuracy": scores.mean_accuracy,
        }
        self.write(step, row)
        self.miou = f"  mIoU {scores.miou:.3f}"
        self.say(f"step {step}  validation mIoU {scores.miou:.4f}")
        self.row_start = time.monotonic()  # the time of the validation isn't training's

    def write(self, step: int, row: dict[str, float]) -> None:
        self.folder.add_to_log(step=step, **row)
        with self.folder.clear_when_full("TensorBoard's log", lambda: 4096):
            for name, value in row.items():
                self.tensorboard.add_scalar(name, value, step)

    def say(self, line: str) -> None:
        if self.bar.disable:
            print(line, file=sys.stderr, flush=True)
        else:
            self.bar.console.print(line, highlight=False)
