"""TensorBoard's curves: read by TensorBoard itself, there at once, and no point of them twice."""

import os
from pathlib import Path

import pytest

from ccnet.training.events import Events


def points(folder: Path, name: str) -> list[tuple[int, float]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    reader = EventAccumulator(str(folder))
    reader.Reload()
    return [(event.step, event.value) for event in reader.Scalars(name)]


def test_tensorboard_reads_what_was_written_before_it_is_closed(tmp_path):
    events = Events(tmp_path / "logs", start=1)
    for step in (1, 2, 3):
        events.add_scalar("loss", step / 4, step)
    events.add_scalar("miou", 0.5, 3)
    assert points(tmp_path / "logs", "loss") == [(1, 0.25), (2, 0.5), (3, 0.75)]
    assert points(tmp_path / "logs", "miou") == [(3, 0.5)]
    events.close()


def test_a_resumed_run_s_points_take_the_place_of_those_after_its_save(tmp_path):
    for start, value in ((1, 0.25), (3, 0.5)):
        events = Events(tmp_path, start)
        for step in range(start, 6):
            events.add_scalar("loss", value, step)
        events.close()
    assert points(tmp_path, "loss") == [(1, 0.25), (2, 0.25), (3, 0.5), (4, 0.5), (5, 0.5)]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_s_error_comes_through(tmp_path):
    events = Events(tmp_path, start=1)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, events.file.fileno())
    os.close(full)
    with pytest.raises(OSError, match="No space left"):
        events.add_scalar("loss", 0.5, 1)
    events.close()
