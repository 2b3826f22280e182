"""What a run shows while it goes on, a bar or lines of text, and its logs."""

import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from statistics import fmean
from typing import Self

from ccnet.config import TrainConfig
from ccnet.metrics import Scores
from ccnet.runtime.progress import LINE_SECONDS, bar
from ccnet.saving.run_folder import RunFolder
from ccnet.tracking.tensorboard import Curves
from ccnet.tracking.trackers import PICTURES, Tracking


class NoProgress:
    """Takes the place of `TrainingProgress` in processes other than the first; does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def ignore(self, *_: object) -> None:
        pass

    finish_step = log_row = show_validation = log_validation = log_picture = ignore
    set_config = print_line = ignore


class TrainingProgress:
    """Shows loss, learning rate, speed, remaining time and the last mIoU of a run.

    It also writes them to log.csv, for TensorBoard, and to the tracker of `config.logger`.

    Args:
        config: of the run.
        folder: of the run; its log has been started.
        step: from which the run goes on, 0 for a new one.
        num_samples: images in the training data.
    """

    def __init__(self, config: TrainConfig, folder: RunFolder, step: int, num_samples: int) -> None:
        self.config = config
        self.folder = folder
        self.first_step = step
        self.num_samples = num_samples
        with folder.explaining_full_disk("TensorBoard's log", lambda: 4096):
            self.curves = Curves(folder.tensorboard, start=step + 1)
        self.tracking = Tracking(folder, config)
        self.bar = bar("status")
        self.task = self.bar.add_task(
            "training", total=config.steps, completed=step, status="loading data"
        )
        self.steps_in_row = 0
        self.seconds_waited = 0.0
        self.miou = ""
        self.start = self.row_start = time.monotonic()
        self.last_line = 0.0

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self.bar.stop()
        self.tracking.close(failed=kind is not None)
        if kind is not None:
            with suppress(OSError):  # the error that ends the run is the one to report
                self.curves.close()
            return
        with self.folder.explaining_full_disk("TensorBoard's log", lambda: 4096):
            self.curves.close()

    def set_config(self, config: TrainConfig) -> None:
        """Go on by a configuration with another number of steps."""
        self.config = config
        self.bar.update(self.task, total=config.steps)

    def finish_step(self, step: int, seconds_waited: float) -> None:
        """Count a step.

        Args:
            step: its number, from 1.
            seconds_waited: until its images had been read.
        """
        self.steps_in_row += 1
        self.seconds_waited += seconds_waited
        self.bar.update(self.task, completed=step)

    def log_row(
        self, step: int, losses_and_norms: Sequence[tuple[float, float]], lr: float
    ) -> None:
        """Write a row of the log: means over the steps since the last row.

        The gradient's norm is the one before clipping; `waiting` is the share of the time that was
        spent waiting for images.
        """
        now = time.monotonic()
        losses, norms = zip(*losses_and_norms, strict=True)
        seconds = now - self.row_start
        row = {
            "epoch": step * self.config.batch_size / self.num_samples,
            "loss": fmean(losses),
            "lr": lr,
            "gradient_norm": fmean(norms),
            "waiting": self.seconds_waited / seconds,
            "images_per_second": self.steps_in_row * self.config.batch_size / seconds,
            "seconds": now - self.start,
        }
        self.write(step, row)
        self.steps_in_row, self.seconds_waited, self.row_start = 0, 0.0, now
        status = (
            f"loss {row['loss']:.3f}  lr {lr:.1e}  {row['images_per_second']:.1f} images/s"
            f"{self.miou}"
        )
        self.bar.update(self.task, status=status)
        is_due = now - self.last_line > LINE_SECONDS or step == self.config.steps
        if self.bar.disable and is_due:
            self.last_line = now
            left = (now - self.start) / (step - self.first_step) * (self.config.steps - step)
            self.print_line(f"step {step}/{self.config.steps}  {status}  {left:.0f} s left")

    def show_validation(self, done: int, total: int) -> None:
        """Show how many of this process's images are validated."""
        self.bar.update(self.task, status=f"validating {done}/{total}")

    def log_validation(self, step: int, scores: Scores) -> None:
        """Write a row of the log with the scores of a validation."""
        row = {
            "miou": scores.miou,
            "pixel_accuracy": scores.pixel_accuracy,
            "mean_accuracy": scores.mean_accuracy,
        }
        self.write(step, row)
        self.miou = f"  mIoU {scores.miou:.3f}"
        self.print_line(f"step {step}  validation mIoU {scores.miou:.4f}")
        self.row_start = time.monotonic()  # the next row measures training alone

    def write(self, step: int, row: dict[str, float]) -> None:
        self.folder.add_to_log(step=step, **row)
        with self.folder.explaining_full_disk("TensorBoard's log", lambda: 4096):
            self.curves.write(step, row)
        self.tracking.log_metrics(row, step)

    def log_picture(self, step: int, path: Path) -> None:
        """Show a picture of predictions in TensorBoard and in the tracker."""
        with self.folder.explaining_full_disk("TensorBoard's log", lambda: path.stat().st_size):
            self.curves.write_picture(step, PICTURES, path)
        self.tracking.log_picture(path, step)

    def print_line(self, line: str) -> None:
        """Print a line on standard error, above the bar if there is one."""
        if self.bar.disable:
            print(line, file=sys.stderr, flush=True)
        else:
            self.bar.console.print(line, highlight=False)
