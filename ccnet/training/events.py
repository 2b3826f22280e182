"""TensorBoard's file of a run's curves, written at once.

torch's SummaryWriter writes from a thread: a kill takes the last two minutes, and a full disk ends
the thread with a traceback of its own.
"""

import os
import socket
import time
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

NUMBERS = count()  # of the files of this process


class Events:
    """One more file of events in a folder; TensorBoard reads all of them as one.

    Args:
        folder: is made.
        start: step from which on what earlier files hold doesn't count.
    """

    def __init__(self, folder: Path, start: int) -> None:
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self.events: Any = event_pb2  # made when imported, which type checkers don't see
        self.summaries: Any = summary_pb2
        folder.mkdir(parents=True, exist_ok=True)
        origin = f"{int(time.time()):010d}.{socket.gethostname()}.{os.getpid()}.{next(NUMBERS)}"
        self.file = (folder / f"events.out.tfevents.{origin}").open("ab")
        self.records = RecordWriter(self.file)
        begin = self.events.SessionLog(status=self.events.SessionLog.START)
        self.write(file_version="brain.Event:2")
        self.write(step=start, session_log=begin)

    def add_scalar(self, name: str, value: float, step: int) -> None:
        scalar = self.summaries.Summary.Value(tag=name, simple_value=value)
        self.write(step=step, summary=self.summaries.Summary(value=[scalar]))

    def write(self, **fields: Any) -> None:
        event = self.events.Event(wall_time=time.time(), **fields)
        self.records.write(event.SerializeToString())
        self.records.flush()

    def close(self) -> None:
        with suppress(OSError):  # of what `write` couldn't write and has told of
            self.file.close()
