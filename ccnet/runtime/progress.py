"""Progress bars of counted work, or lines of text where there is no terminal."""

import sys
import time
from contextlib import AbstractContextManager, nullcontext
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from ccnet.runtime.processes import num_processes, rank

LINE_SECONDS = 5.0  # without a terminal, shortest time between two lines


def bar(*fields: str) -> Progress:
    """A bar on standard error with elapsed and remaining time; disabled without a terminal.

    Args:
        *fields: names of fields of its tasks that are shown as text.
    """
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
    """A bar for `progress(done, total)` callbacks; without a terminal, a line every few seconds."""

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
        is_due = time.monotonic() - self.last_line > LINE_SECONDS
        if self.bar.disable and (is_due or done == total):
            self.last_line = time.monotonic()
            print(f"{self.description}: {done}/{total}", file=sys.stderr, flush=True)


def counting(description: str) -> AbstractContextManager[CountProgress | None]:
    """The progress of process 0, which counts its own share of the work; None in the others."""
    if rank() > 0:
        return nullcontext()
    several = num_processes() > 1
    return CountProgress(f"{description} (1 of {num_processes()})" if several else description)
