"""TensorBoard's curves: read by TensorBoard itself, kept after a kill, no point twice."""

import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from ccnet.tracking.tensorboard import Curves


def points(folder: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder))
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(name)]


def test_tensorboard_reads_what_was_written_before_it_is_closed(tmp_path):
    curves = Curves(tmp_path / "logs", start=1)
    for step in (1, 2, 3):
        curves.write(step, {"loss": step / 4})
    curves.write(3, {"miou": 0.5})
    assert points(tmp_path / "logs", "loss") == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert points(tmp_path / "logs", "miou") == [(3, 0.5)]
    curves.close()


def test_a_resumed_run_s_points_replace_those_after_its_save(tmp_path):
    for start, value in ((1, 0.25), (3, 0.5)):
        curves = Curves(tmp_path, start)
        for step in range(start, 6):
            curves.write(step, {"loss": value})
        curves.close()
    assert points(tmp_path, "loss") == [(1, 0.25), (2, 0.25), (3, 0.5), (4, 0.5), (5, 0.5)]


KILLED = """
import os, signal, sys
from pathlib import Path
from ccnet.tracking.tensorboard import Curves

curves = Curves(Path(sys.argv[1]), start=1)
for step in range(1, 31):
    curves.write(step, {"loss": step / 4, "lr": 0.5})
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.slow
def test_a_kill_loses_no_row(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    assert subprocess.run(command, timeout=120, check=False).returncode == -signal.SIGKILL
    assert points(tmp_path, "loss") == [(step, step / 4) for step in range(1, 31)]
    assert len(points(tmp_path, "lr")) == 30


LIMITED = """
import resource, signal, sys, threading
from pathlib import Path
from ccnet.tracking.tensorboard import Curves

folder, limit, last = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
hook = threading.excepthook
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
try:
    curves = Curves(folder, start=1)
    try:
        for step in range(1, last + 1):
            curves.write(step, {"loss": 0.5})
    finally:
        curves.close()
except OSError as error:
    print(error)
assert threading.excepthook is hook
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
@pytest.mark.parametrize(
    ("limit", "last"),
    [(10, 0), (120, 30), (500, 30), (150, 1)],
    ids=["at the start", "in the first row", "in a later row", "in the last row"],
)
def test_a_full_disk_is_one_error_and_no_traceback(tmp_path, limit, last):
    command = [sys.executable, "-c", LIMITED, str(tmp_path), str(limit), str(last)]
    result = subprocess.run(command, timeout=120, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    assert result.stdout.count("File too large") == 1
    assert "Traceback" not in result.stderr


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_errors_of_other_threads_are_printed_as_always(tmp_path, monkeypatch):
    others = []
    monkeypatch.setattr(threading, "excepthook", others.append)
    curves = Curves(tmp_path, start=1)

    def fail() -> None:
        raise OSError("of another thread")

    thread = threading.Thread(target=fail)
    thread.start()
    thread.join()
    curves.close()
    assert [str(failed.exc_value) for failed in others] == ["of another thread"]
    assert list(tmp_path.iterdir())


def test_a_picture_is_in_the_file_with_its_step(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    picture = tmp_path / "picture.png"
    Image.new("RGB", (6, 4), (255, 0, 0)).save(picture)
    curves = Curves(tmp_path / "logs", start=1)
    curves.write_picture(3, "predictions", picture)
    events = EventAccumulator(str(tmp_path / "logs"), {"images": 0}).Reload()
    (found,) = events.Images("predictions")
    assert (found.step, found.width, found.height) == (3, 6, 4)
    curves.close()
