"""What a person sees of a run while it goes on: a bar or lines, and the logs."""

import sys
import time
from collections.abc import Sequence
from statistics import fmean
from typing import Self

from ccnet.config import TrainConfig
from ccnet.metrics import Scores
from ccnet.runtime.progress import LINE_SECONDS, bar
from ccnet.training.events import Events
from ccnet.training.run_folder import RunFolder


class Silence:
    """What `TrainingProgress` is in the processes that don't write."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ignore(self, *_: object) -> None:
        pass

    step = row = validating = validated = say = ignore


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
