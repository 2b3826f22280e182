"""What a run shows and logs."""

import csv
import math

import pytest

from ccnet.config import TrainConfig
from ccnet.metrics import Scores
from ccnet.saving.run_folder import RunFolder
from ccnet.tracking.progress import NoProgress, TrainingProgress
from tests.tracking.test_tensorboard import points

SCORES = Scores(0.25, 0.5, 0.75, iou={"road": 0.25}, pixels={"road": 100})


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    folder = RunFolder(tmp_path)
    folder.start_log(0)
    return folder


def rows(folder: RunFolder) -> list[dict[str, str]]:
    with folder.log.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_row_has_the_means_over_its_steps_in_both_logs(folder, capsys):
    config = TrainConfig(steps=4, batch_size=2)
    with TrainingProgress(config, folder, 0, num_samples=16) as progress:
        for step in (1, 2):
            progress.finish_step(step, seconds_waited=0.0)
        progress.log_row(2, [(1.0, 3.0), (2.0, 5.0)], lr=0.125)
        progress.log_validation(2, SCORES)
    training, validation = rows(folder)
    assert training["step"] == validation["step"] == "2"
    for name, value in {"epoch": 0.25, "loss": 1.5, "gradient_norm": 4.0, "lr": 0.125}.items():
        assert float(training[name]) == value
        assert points(folder.tensorboard, name) == [(2, value)]
    assert float(training["waiting"]) == 0
    assert float(validation["miou"]) == 0.25
    assert points(folder.tensorboard, "miou") == [(2, 0.25)]
    said = capsys.readouterr().err
    assert "loss 1.500" in said
    assert "step 2  validation mIoU 0.2500" in said


def test_the_share_of_waiting_and_the_speed_are_those_of_the_row(folder, monkeypatch):
    clock = iter((0.0, 8.0, 10.0, 14.0))  # start, first row, validation, second row
    monkeypatch.setattr("ccnet.tracking.progress.time.monotonic", lambda: next(clock))
    config = TrainConfig(steps=4, batch_size=2)
    with TrainingProgress(config, folder, 0, num_samples=16) as progress:
        progress.finish_step(1, seconds_waited=2.0)
        progress.log_row(1, [(1.0, 1.0)], lr=0.1)
        progress.log_validation(1, SCORES)
        for step in (2, 3):
            progress.finish_step(step, seconds_waited=0.5)
        progress.log_row(3, [(1.0, 1.0)] * 2, lr=0.1)
    first, _, second = rows(folder)
    assert [float(row["waiting"]) for row in (first, second)] == [0.25, 0.25]
    assert [float(row["images_per_second"]) for row in (first, second)] == [0.25, 1.0]
    assert [float(row["seconds"]) for row in (first, second)] == [8.0, 14.0]


def test_an_error_that_ends_a_run_closes_the_log_and_comes_through(folder):
    progress = TrainingProgress(TrainConfig(), folder, 0, num_samples=16)

    def fail_after_a_row() -> None:
        with progress:
            progress.log_row(1, [(math.inf, math.inf)], lr=0.1)
            raise FloatingPointError("the loss is inf")

    with pytest.raises(FloatingPointError, match="the loss"):
        fail_after_a_row()
    assert points(folder.tensorboard, "loss") == [(1, math.inf)]


def test_other_processes_show_nothing(capsys):
    with NoProgress() as progress:
        progress.finish_step(1, 0.0)
        progress.log_row(1, [(1.0, 1.0)], 0.1)
        progress.show_validation(1, 2)
        progress.log_validation(1, SCORES)
        progress.print_line("left out")
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""
