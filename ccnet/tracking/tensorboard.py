"""The curves and pictures of a run for TensorBoard."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image


class Curves:
    """A file of scalars in a folder, of which TensorBoard reads all files as one run.

    A row is in the file when `write` returns, so that a kill loses none. SummaryWriter writes in a
    thread, and Python prints the traceback of a thread that fails; this class takes the thread's
    OSError instead and raises it in `write`, or at the latest in `close`.

    Args:
        folder: is made if it does not exist.
        start: step from which on the points of earlier files in the folder do not count.

    Raises:
        OSError: the disk is full.
    """

    def __init__(self, folder: Path, start: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self.error: OSError | None = None
        self.thread_failed = threading.Event()
        self.previous_hook = threading.excepthook
        threading.excepthook = self.take_error
        with self.restoring_hook(only_after_errors=True):
            self.writer = SummaryWriter(folder, purge_step=start)
            self.writer.flush()

    def write(self, step: int, values: dict[str, float]) -> None:
        """Add one point to the curve of each name."""
        for name, value in values.items():
            self.writer.add_scalar(name, value, step)
        self.writer.flush()

    def write_picture(self, step: int, name: str, path: Path) -> None:
        """Add a PNG file to the pictures of a name."""
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB"))
        self.writer.add_image(name, pixels, step, dataformats="HWC")
        self.writer.flush()

    def close(self) -> None:
        with self.restoring_hook():
            self.writer.close()  # also ends the thread
        if self.error is not None:
            raise self.error

    def take_error(self, failed: threading.ExceptHookArgs) -> None:
        is_own = type(failed.thread).__module__.startswith("tensorboard.")
        if is_own and isinstance(failed.exc_value, OSError):
            self.error = failed.exc_value
            self.thread_failed.set()
        else:
            self.previous_hook(failed)

    @contextmanager
    def restoring_hook(self, only_after_errors: bool = False) -> Iterator[None]:
        """Restore Python's handling of errors in threads at the end of the block."""
        try:
            yield
        except OSError:
            self.thread_failed.wait(timeout=10)  # the thread raises here first, then in its hook
            threading.excepthook = self.previous_hook
            raise
        if not only_after_errors:
            threading.excepthook = self.previous_hook
