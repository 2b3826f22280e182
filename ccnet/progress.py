"""What a person sees of a run while it goes on: a bar or lines, and the logs."""

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Self

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from torch import Tensor

from ccnet.checkpoint import RunFolder
from ccnet.config import TrainConfig
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


def counting(description: str) -> AbstractContextManager[CountProgress | None]:
    """The first process's bar, over its own share of what all do; None in the others."""
    if rank() > 0:
        return nullcontext()
    several = num_processes() > 1
    return CountProgress(f"{description} (1 of {num_processes()})" if several else description)


class TrainingProgress:
    """Shows loss, rate, speed, time left and the last mIoU, and writes log.csv and TensorBoard."""

    def __init__(self, config: TrainConfig, folder: RunFolder, step: int, num_samples: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.config = config
        self.folder = folder
        self.first_step = step
        self.num_samples = num_samples
        self.tensorboard = SummaryWriter(str(folder.tensorboard), purge_step=step + 1)
        self.bar = bar("status")
        self.task = self.bar.add_task(
            "training", total=config.steps, completed=step, status="loading data"
        )
        self.losses: list[Tensor] = []
        self.miou = ""
        self.start = self.row_start = time.monotonic()
        self.last_line = 0.0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.stop()
        self.tensorboard.close()

    def step(self, step: int, loss: Tensor, lr: float) -> None:
        """Note a finished step, counted from 1; a row of the log every `log_every`."""
        self.losses.append(loss)
        self.bar.update(self.task, completed=step)
        if step % self.config.log_every and step != self.config.steps:
            return
        now = time.monotonic()
        row = {
            "epoch": step * self.config.batch_size / self.num_samples,
            "loss": torch.stack(self.losses).mean().item(),
            "lr": lr,
            "images_per_second": len(self.losses) * self.config.batch_size / (now - self.row_start),
            "seconds": now - self.start,
        }
        self.write(step, row)
        self.losses, self.row_start = [], now
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
        for name, value in row.items():
            self.tensorboard.add_scalar(name, value, step)

    def say(self, line: str) -> None:
        if self.bar.disable:
            print(line, file=sys.stderr, flush=True)
        else:
            self.bar.console.print(line, highlight=False)
