"""Run folders: files are the old or the new one, logs have no row twice, strangers run nothing."""

import csv
import pickle

import pytest
import torch
import yaml

from ccnet.checkpoint import RunFolder, to_yaml, write_whole
from ccnet.config import TrainConfig
from ccnet.models import CCNet


def test_failed_writing_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    write_whole(path, lambda file: file.write_text("old"))

    def fail(file):
        file.write_text("half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_run_wants_an_empty_folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.require_empty()
    folder.create(TrainConfig(seed=3))
    assert yaml.safe_load(folder.config.read_text())["seed"] == 3
    with pytest.raises(FileExistsError, match="--resume"):
        folder.require_empty()


def test_a_model_folder_is_replaced_whole(tmp_path):
    folder = RunFolder(tmp_path)
    model = CCNet(2, "tiny", channels=8, kernel_size=1, auxiliary_channels=None)
    (tmp_path / ".model.new").mkdir()  # as a killed run leaves it
    (tmp_path / ".model.new" / "model.safetensors").write_bytes(b"half")
    for _ in range(2):
        folder.save_model(model, folder.best_model)
        assert [path.name for path in tmp_path.iterdir()] == ["model"]
        CCNet.from_pretrained(folder.best_model)


def test_the_log_is_cut_back_to_the_step_that_a_run_resumes_from(tmp_path):
    folder = RunFolder(tmp_path)
    folder.start_log(0)
    for step in range(1, 6):
        folder.add_to_log(step=step, loss=0.5)
    folder.start_log(3)
    folder.add_to_log(step=4, loss=0.25)
    with folder.log.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert rows[-1]["loss"] == "0.25"


def test_a_missing_or_damaged_checkpoint_is_named(tmp_path):
    folder = RunFolder(tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no run to resume.*checkpoint\.pt"):
        folder.load()
    folder.save({"step": 1, "weights": torch.zeros(1000)})
    folder.checkpoint.write_bytes(folder.checkpoint.read_bytes()[:500])
    with pytest.raises(ValueError, match=r"checkpoint\.pt can't be read"):
        folder.load()


class Hostile:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_nothing_in_a_hostile_checkpoint_runs(tmp_path):
    folder = RunFolder(tmp_path)
    victim = tmp_path / "victim"
    torch.save({"step": Hostile(victim)}, folder.checkpoint, pickle_module=pickle)
    with pytest.raises(ValueError, match="can't be read"):
        folder.load()
    assert not victim.exists()


def test_the_configuration_comes_back_from_yaml():
    plain = yaml.safe_load(to_yaml(TrainConfig()))
    assert plain["model"]["recurrence"] == 2
    assert list(plain)[:2] == ["data", "model"]


def test_a_model_folder_of_a_run_killed_while_replacing_it_is_put_back(tmp_path):
    folder = RunFolder(tmp_path)
    model = CCNet(2, "tiny", channels=8, kernel_size=1, auxiliary_channels=None)
    folder.save_model(model, folder.best_model)
    folder.best_model.rename(tmp_path / ".model.old")

    def full_disk(*_, **__):
        raise OSError("No space left on device")

    model.save_pretrained = full_disk
    with pytest.raises(OSError, match="No space left"):
        folder.save_model(model, folder.best_model)
    CCNet.from_pretrained(folder.best_model)


def test_a_torn_last_row_of_the_log_is_left_out(tmp_path):
    folder = RunFolder(tmp_path)
    folder.start_log(0)
    folder.add_to_log(step=1, loss=0.5)
    with folder.log.open("a") as file:
        file.write("12")
    folder.start_log(20)
    assert len(folder.log.read_text().splitlines()) == 2
