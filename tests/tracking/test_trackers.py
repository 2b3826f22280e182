"""Weights & Biases, MLflow and Trackio, with modules in their places: nothing is sent."""

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from unittest.mock import Mock

import pytest

from ccnet.config import TrainConfig
from ccnet.runtime.files import DataError
from ccnet.saving.run_folder import RunFolder
from ccnet.tracking.trackers import TRACKERS, Tracking, flat, require_tracker

NAMES = list(TRACKERS)


class Recorder(ModuleType):
    """Takes the place of a tracker's package and keeps its calls as (name, positional, named)."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.calls: list[tuple] = []
        self.run = SimpleNamespace(
            id="id-1",
            name="run-1",
            info=SimpleNamespace(run_id="id-1"),
            log=self.recording("log"),
            finish=self.recording("finish"),
        )
        names = ("set_experiment", "log_params", "log_metrics", "log_artifact", "end_run")
        for call in (*names, "log", "finish", "Image"):
            setattr(self, call, self.recording(call))
        for call in ("init", "start_run"):
            setattr(self, call, self.recording(call, self.run))

    def recording(self, name: str, result: object = None):
        def call(*positional, **named):
            self.calls.append((name, positional, named))
            return result

        return call

    def of(self, name: str) -> list[tuple]:
        return [call[1:] for call in self.calls if call[0] == name]


@pytest.fixture(params=NAMES)
def package(request, monkeypatch) -> Recorder:
    recorder = Recorder(request.param)
    monkeypatch.setitem(sys.modules, request.param, recorder)
    return recorder


@pytest.fixture
def folder(tmp_path) -> RunFolder:
    return RunFolder(tmp_path / "mine")


def follow(folder: RunFolder, name: str, **options) -> Tracking:
    return Tracking(folder, TrainConfig(logger=name, project="weeds", **options))


def begun(package: Recorder) -> dict:
    (_, named), *_ = package.of("start_run" if package.__name__ == "mlflow" else "init")
    return named


def test_rows_pictures_and_the_configuration_are_sent(package, folder):
    tracking = follow(folder, package.__name__)
    tracking.log_metrics({"loss": 0.5}, 3)
    tracking.log_picture(Path("step-3.png"), 3)
    tracking.close(failed=False)
    if package.__name__ == "mlflow":
        assert package.of("set_experiment") == [(("weeds",), {})]
        assert package.of("log_metrics") == [(({"loss": 0.5},), {"step": 3})]
        assert package.of("log_artifact") == [(("step-3.png", "predictions"), {})]
        assert package.of("end_run") == [(("FINISHED",), {})]
        ((parameters,), _), *_ = package.of("log_params")
        assert parameters["optimizer.lr"] == "0.01"
        assert begun(package) == {"run_id": None, "run_name": "mine"}
        return
    rows, pictures = package.of("log")
    assert rows == (({"loss": 0.5},), {"step": 3})
    assert set(pictures[0][0]) == {"predictions"}
    assert package.of("Image") == [(("step-3.png",), {})]
    assert len(package.of("finish")) == 1
    assert begun(package)["project"] == "weeds"
    assert begun(package)["name"] == "mine"
    assert begun(package)["config"]["optimizer"]["lr"] == 0.01


def test_a_resumed_run_continues_its_run_in_the_tracker(package, folder):
    name = package.__name__
    follow(folder, name).close(failed=True)
    known = "run-1" if name == "trackio" else "id-1"
    assert json.loads(folder.tracker.read_text()) == {"logger": name, "id": known}
    package.calls.clear()
    follow(folder, name)
    if name == "wandb":
        assert (begun(package)["id"], begun(package)["resume"]) == ("id-1", "allow")
    elif name == "mlflow":
        assert begun(package)["run_id"] == "id-1"
        assert not package.of("log_params")
    else:
        assert (begun(package)["name"], begun(package)["resume"]) == ("run-1", "allow")


def test_another_tracker_begins_a_run_of_its_own(folder, monkeypatch):
    wandb, mlflow = Recorder("wandb"), Recorder("mlflow")
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    follow(folder, "mlflow")
    follow(folder, "wandb")
    assert begun(wandb)["id"] is None


def test_a_tracker_that_fails_is_said_once_and_ends_nothing(package, folder, capsys):
    tracking = follow(folder, package.__name__)
    fail = Mock(side_effect=ConnectionError("no route to host\nwith details"))
    package.log = package.run.log = package.log_metrics = fail
    for step in range(3):
        tracking.log_metrics({"loss": 0.5}, step)
    tracking.log_picture(Path("step-3.png"), 3)
    tracking.close(failed=False)
    assert fail.call_count == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert f"warning: {package.__name__} fails (no route to host); the run goes on" in said


def test_a_tracker_that_does_not_start_ends_nothing(package, folder, capsys):
    package.init = package.start_run = Mock(side_effect=RuntimeError(""))
    tracking = follow(folder, package.__name__)
    tracking.log_metrics({"loss": 0.5}, 1)
    assert "fails (RuntimeError)" in capsys.readouterr().err
    assert not folder.tracker.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_package_that_is_not_installed_is_named_with_its_extra(name, monkeypatch):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ImportError, match=rf"needs the package {name}: pip install .*\[{name}\]"):
        require_tracker(name)
    require_tracker(None)


@pytest.mark.parametrize("content", ["[]", "{}", '{"logger": "wandb", "id": 3}'])
def test_a_damaged_id_begins_no_run(folder, content, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "wandb", Recorder("wandb"))
    folder.path.mkdir()
    folder.tracker.write_text(content)
    follow(folder, "wandb")
    assert "tracker.json: it holds no id of a run; remove it" in capsys.readouterr().err


def test_nothing_is_done_without_a_tracker(folder):
    tracking = Tracking(folder, TrainConfig())
    tracking.log_metrics({"loss": 0.5}, 1)
    tracking.close(failed=False)
    assert not folder.path.exists()


def test_settings_are_flat_and_short():
    assert flat({"a": {"b": 1, "c": {"d": None}}, "e": "x" * 9999}) == {
        "a.b": "1",
        "a.c.d": "None",
        "e": "x" * 500,
    }


def test_the_error_of_a_damaged_id_is_a_data_error(folder):
    from ccnet.tracking.trackers import known_id

    folder.path.mkdir()
    folder.tracker.write_text("[]")
    with pytest.raises(DataError):
        known_id(folder.tracker, "wandb")
