"""Progress bars of counted work, or lines of text where there is no terminal."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from ccnet.runtime.files import printable
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
        MofNCompleteColumn(),  # the total is not known at first
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
        self._update(self.task, self.description, done, total)

    def _update(self, task: TaskID, description: str, done: int, total: int) -> None:
        self.bar.update(task, completed=done, total=total)
        is_due = time.monotonic() - self.last_line > LINE_SECONDS
        if self.bar.disable and (is_due or done == total):
            self.last_line = time.monotonic()
            print(f"{description}: {done}/{total}", file=sys.stderr, flush=True)

    @contextmanager
    def part(self, description: str) -> Iterator[Callable[[int, int], None]]:
        """A second bar for the parts of one piece of the work, while it is done."""
        task = self.bar.add_task(escape(printable(description)), total=None)
        try:
            yield partial(self._update, task, printable(description))
        finally:
            self.bar.remove_task(task)


def counting(description: str) -> AbstractContextManager[CountProgress | None]:
    """The progress of process 0, which counts its own share of the work; None in the others."""
    if rank() > 0:
        return nullcontext()
    several = num_processes() > 1
    return CountProgress(f"{description} (1 of {num_processes()})" if several else description)
