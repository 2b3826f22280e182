"""Ctrl-C and SIGTERM as a request to stop at the next good place."""

import signal
import threading
from typing import Self


class StopSignals:
    """SIGINT and SIGTERM become a request that a loop looks at; a second Ctrl-C stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self.previous = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows none
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self.request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def request(self, number: int, _: object) -> None:
        # SIGTERM comes twice where a cluster and torchrun both send it: no reason to break off
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True


def leave_signals_to_the_main_process(_: int) -> None:
    """Start of a loader's worker: Ctrl-C and SIGTERM reach the whole process group."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
