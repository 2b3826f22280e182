"""Ctrl-C and SIGTERM as a request to stop at the next good place."""

import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, NoReturn, Self

STOPPING = (signal.SIGINT, signal.SIGTERM)


class StopSignals:
    """Inside the block, SIGINT and SIGTERM set `requested` to True; a loop looks at it.

    A second Ctrl-C raises KeyboardInterrupt at once. The previous handlers come back at the end.
    """

    def __init__(self) -> None:
        self.requested = False
        self.previous = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only there Python allows it
            for number in STOPPING:
                self.previous[number] = signal.signal(number, self.request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def request(self, number: int, _: object) -> None:
        # a second SIGTERM is no reason to break off: a cluster and torchrun may both send one
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


class Interrupts:
    """SIGINT and SIGTERM as KeyboardInterrupt, so that every command cleans up what it began."""

    def __init__(self) -> None:
        self.came = False

    def raise_one(self, number: int, _: object) -> None:
        # a second SIGTERM does not break off the clean-up; a second Ctrl-C does
        if self.came and number == signal.SIGTERM:
            return
        self.came = True
        raise KeyboardInterrupt


@contextmanager
def raising_interrupts(*, is_launched: bool) -> Generator[Interrupts, None, None]:
    """Inside the block SIGTERM raises KeyboardInterrupt, as SIGINT does; then as before.

    A process that a launcher started is ended by SIGTERM at once, as the launcher wants it: in an
    exchange with processes that are gone no Python code would run.
    """
    interrupts = Interrupts()
    with handlers_restored():
        if threading.current_thread() is threading.main_thread():
            on_stop_signals(interrupts.raise_one)
            if is_launched:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
        yield interrupts


def on_stop_signals(handler: Callable[[int, Any], Any]) -> None:
    """Handle SIGINT and SIGTERM, except one that the process was told to ignore, as by nohup."""
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def leave_at_once(number: int, _: object) -> NoReturn:
    """End the process with one line and status 130, without any clean-up."""
    os.write(2, b"\nccnet: stopped\n")
    os._exit(130)


@contextmanager
def handlers_restored() -> Generator[None, None, None]:
    """At the end of the block, all signals get back the handlers that they have now.

    torch's launcher of processes installs handlers of its own and leaves them.
    """
    handlers = {number: signal.getsignal(number) for number in signal.valid_signals()}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if signal.getsignal(number) is not handler:
                signal.signal(number, handler)


def leave_signals_to_the_main_process(_: int) -> None:
    """Ignore SIGINT and SIGTERM in a worker of a DataLoader; as its `worker_init_fn`.

    Both signals reach the whole process group, and the main process decides when workers end.
    """
    for number in STOPPING:
        signal.signal(number, signal.SIG_IGN)
