"""Ctrl-C and SIGTERM as a request to stop at the next good place."""

import signal
import threading
from typing import Self


class StopSignals:
    """Inside the block, SIGINT and SIGTERM set `requested` to True; a loop looks at it.

    A second Ctrl-C raises KeyboardInterrupt at once. The previous handlers come back at the end.
    """

    def __init__(self) -> None:
        self.requested = False
        self.previous = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # only there Python allows it
            for number in (signal.SIGINT, signal.SIGTERM):
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


def leave_signals_to_the_main_process(_: int) -> None:
    """Ignore SIGINT and SIGTERM in a worker of a DataLoader; as its `worker_init_fn`.

    Both signals reach the whole process group, and the main process decides when workers end.
    """
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
