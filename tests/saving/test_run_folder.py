"""Run folders: kills and full disks lose nothing that was saved, logs have no row twice."""

import csv
import errno
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from ccnet.config import DataConfig, TrainConfig, read_config
from ccnet.models.ccnet import CCNet
from ccnet.runtime.files import DataError
from ccnet.saving.run_folder import LOCK, RunFolder, to_yaml
from ccnet.tracking.progress import TrainingProgress


def test_a_new_run_wants_an_empty_folder(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.require_empty()
    folder.create(TrainConfig(seed=3))
    assert yaml.safe_load(folder.config.read_text())["seed"] == 3
    folder.require_empty()  # killed before its first save
    folder.checkpoints.mkdir()
    folder.start_log(0)
    folder.tensorboard.mkdir()
    folder.require_empty()
    folder.save({"step": 0})
    with pytest.raises(FileExistsError, match="--resume"):
        folder.require_empty()


def test_a_name_that_is_not_utf_8_comes_back_from_the_configuration(tmp_path):
    config = TrainConfig(data=DataConfig(root=os.fsdecode(b"caf\xe9")))
    RunFolder(tmp_path).create(config)
    assert read_config(tmp_path / "config.yaml") == config


def test_the_lock_s_file_is_no_content(tmp_path):
    (tmp_path / LOCK).touch()
    RunFolder(tmp_path).require_empty()
    RunFolder(tmp_path).create(TrainConfig())
    RunFolder(tmp_path).require_empty()
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="not empty"):
        RunFolder(tmp_path).require_empty()


@pytest.mark.parametrize(
    "name",
    [
        *("config.yaml", "run.json", "data.json", "log.csv", "tracker.json"),
        *("logs", "pictures", "model", "last", "checkpoints"),
    ],
)
@pytest.mark.parametrize("target", ["file", "folder", "nowhere"])
def test_a_link_in_a_run_is_refused_and_not_written_through(tmp_path, name, target):
    (tmp_path / "file").write_text("keep")
    (tmp_path / "folder").mkdir()
    run = tmp_path / "run"
    run.mkdir()
    (run / name).symlink_to(tmp_path / target)
    with pytest.raises(DataError, match=f"{name}: it is a symbolic link"):
        RunFolder(run).take()
    assert (tmp_path / "file").read_text() == "keep"


@pytest.mark.parametrize("name", ["log.csv", "run.json", "checkpoints"])
def test_a_fifo_in_a_run_is_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(DataError, match=f"{name}: it is a"):
        RunFolder(tmp_path).take()


def test_rows_are_not_written_through_a_link_that_appears(tmp_path):
    folder = RunFolder(tmp_path / "run")
    folder.create(TrainConfig())
    (tmp_path / "outside").write_text("keep")
    folder.log.symlink_to(tmp_path / "outside")
    with pytest.raises(OSError, match="symbolic links"):
        folder.add_to_log(step=1, loss=0.5)
    assert (tmp_path / "outside").read_text() == "keep"


def test_a_damaged_log_does_not_stop_a_run(tmp_path):
    folder = RunFolder(tmp_path)
    folder.start_log(0)
    folder.add_to_log(step=1, loss=0.5)
    with folder.log.open("ab") as file:
        file.write(b"\xff\x00" + 1000 * b"9,")
    folder.start_log(1)
    assert len(folder.log.read_text().splitlines()) == 2


def test_a_stranger_s_folder_or_file_is_not_taken(tmp_path):
    (tmp_path / "config.yaml").write_text("")
    for path in (tmp_path, tmp_path / "config.yaml"):
        with pytest.raises(FileExistsError, match="not empty"):
            RunFolder(path).require_empty()


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


def test_a_validation_that_no_save_knows_of_leaves_the_log(tmp_path):
    folder = RunFolder(tmp_path)
    folder.start_log(0)
    for step in (3, 6):
        folder.add_to_log(step=step, loss=0.5)
        folder.add_to_log(step=step, miou=0.25)
    folder.start_log(6, validated=3)
    rows = [row.split(",") for row in folder.log.read_text().splitlines()[1:]]
    assert [(row[0], row[2]) for row in rows] == [("3", "0.5"), ("3", ""), ("6", "0.5")]


def test_what_a_run_saved_can_be_found_and_read(tmp_path):
    folder = RunFolder(tmp_path)
    assert not folder.can_resume()
    with pytest.raises(FileNotFoundError, match="no run to resume"):
        folder.load()
    folder.save({"step": 1, "weights": torch.ones(3)})
    assert folder.can_resume()
    assert folder.newest()[0].parent == folder.checkpoints
    for state in (folder.load(), folder.read(folder.newest()[0])):
        assert torch.equal(state["weights"], torch.ones(3))


def test_the_log_is_on_disk_before_a_save_of_its_step(tmp_path, monkeypatch):
    folder = RunFolder(tmp_path)
    folder.start_log(0)
    folder.save({"step": 0})
    folder.add_to_log(step=1, loss=0.5)
    flushed = []
    monkeypatch.setattr(os, "fsync", lambda file: flushed.append(os.fstat(file).st_ino))
    folder.save({"step": 1})
    inodes = [path.stat().st_ino for path in (folder.log, folder.newest()[0], folder.checkpoints)]
    assert flushed == inodes


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


def test_a_repair_puts_back_and_removes_what_a_kill_left(tmp_path):
    folder = RunFolder(tmp_path)
    folder.save({"step": 1})
    model = CCNet(2, "tiny", channels=8, kernel_size=1, auxiliary_channels=None)
    for path in (folder.best_model, folder.last_model):
        folder.save_model(model, path)
    folder.pictures.mkdir()
    whole = sorted(tmp_path.rglob("*"))
    folder.best_model.rename(tmp_path / ".model.old")
    (tmp_path / ".last.old").mkdir()
    (tmp_path / ".last.new").mkdir()
    halves = (".log.csv.new", ".config.yaml.new", ".data.json.new", ".tracker.json.new")
    halves += ("checkpoints/.step-00000002.new", "pictures/.step-00000002.png.new")
    for half in halves:
        (tmp_path / half).write_bytes(b"half")
    folder.repair()
    assert sorted(tmp_path.rglob("*")) == whole
    CCNet.from_pretrained(folder.best_model)


@pytest.mark.parametrize("torn", ["12", "2,,,,,,,,0.5,0.5,0.", "\0\0\0\0\n", "2,0.5\n"])
def test_a_torn_row_of_the_log_is_left_out(tmp_path, torn):
    folder = RunFolder(tmp_path)
    folder.start_log(0)
    folder.add_to_log(step=1, loss=0.5)
    with folder.log.open("a") as file:
        file.write(torn)
    folder.start_log(20)
    assert folder.log.read_text().splitlines()[1:] == ["1,,0.5,,,,,,,,"]


def run_python(program: str, *arguments: object) -> str:
    command = [sys.executable, "-c", program, *map(str, arguments)]
    result = subprocess.run(command, timeout=120, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


KILLED_AT_EVERY_STEP = """
import os, shutil, signal, sys, torch
from itertools import count
from pathlib import Path
from ccnet.saving.run_folder import RunFolder
from ccnet.models.ccnet import CCNet
from ccnet.saving.saves import HashedFile

EVENTS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir"}

def kill_at(number):
    counts = count(1)
    def tick():
        if next(counts) == number:
            os.kill(os.getpid(), signal.SIGKILL)
    def ticking(function):
        def call(*arguments):
            tick()
            return function(*arguments)
        return call
    os.fsync, HashedFile.write = ticking(os.fsync), ticking(HashedFile.write)
    sys.addaudithook(lambda event, _: tick() if event in EVENTS else None)

def model(value):
    model = CCNet(2, "tiny", channels=8, kernel_size=1, auxiliary_channels=None)
    torch.nn.init.constant_(model.head.classifier.bias, value)
    return model

def save(folder, value):
    folder.save({"step": value})

def save_model(folder, value):
    folder.save_model(model(value), folder.best_model)

def saved(folder):
    return folder.load()["step"]

def saved_model(folder):
    folder.repair()
    return round(CCNet.from_pretrained(folder.best_model).head.classifier.bias[0].item())

whole, run = Path(sys.argv[1]), Path(sys.argv[2])
old = RunFolder(whole)
for value in (1, 2):
    save(old, value)
    save_model(old, value)
for write, read in ((save, saved), (save_model, saved_model)):
    outcomes = []
    for number in count(1):
        shutil.rmtree(run, ignore_errors=True)
        shutil.copytree(whole, run)
        child = os.fork()
        if child == 0:
            folder = RunFolder(run)
            kill_at(number)
            write(folder, 3)
            os._exit(0)
        status = os.waitpid(child, 0)[1]
        outcomes.append(read(RunFolder(run)))
        folder = RunFolder(run)
        write(folder, 4)
        assert read(folder) == 4
        assert not list(run.rglob(".*")), list(run.rglob(".*"))
        steps = "".join(path.name[12] for path in folder.saves.paths())
        assert steps in ("21", "42", "43"), steps
        if status == 0:
            break
        assert status == signal.SIGKILL
    print(*outcomes)
"""


@pytest.mark.slow
def test_a_kill_at_any_step_of_writing_leaves_the_old_or_the_new(tmp_path):
    output = run_python(KILLED_AT_EVERY_STEP, tmp_path / "whole", tmp_path / "run")
    lines = [[int(value) for value in line.split()] for line in output.splitlines()]
    assert len(lines) == 2
    for outcomes in lines:  # of a save, of a model folder
        assert outcomes == sorted(outcomes)
        assert outcomes.count(2) >= 5
        assert outcomes.count(3) >= 3


FILES_OF_LIMITED_SIZE = """
import resource, sys, torch
from ccnet.saving.run_folder import RunFolder
from ccnet.models.ccnet import CCNet

folder = RunFolder(sys.argv[1])
small = CCNet(2, "tiny", channels=8, kernel_size=1, auxiliary_channels=None)
large = CCNet(2, "tiny", channels=256, kernel_size=1, auxiliary_channels=None)
folder.save_model(small, folder.best_model)
folder.save({"step": 1})
resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
for save in (
    lambda: folder.save({"step": 2, "weights": torch.zeros(100_000)}),
    lambda: folder.save_model(large, folder.best_model),
):
    try:
        save()
    except OSError as error:
        print(error.errno, error)
assert folder.load()["step"] == 1
assert CCNet.from_pretrained(folder.best_model).head.classifier.in_channels == 8
"""


@pytest.mark.slow
def test_a_limit_on_file_sizes_is_told_and_loses_nothing(tmp_path):
    messages = run_python(FILES_OF_LIMITED_SIZE, tmp_path).splitlines()
    [save] = (tmp_path / "checkpoints").iterdir()
    assert len(messages) == 2
    for message, what in zip(messages, ("save of step 2", "model folder model"), strict=True):
        assert message.startswith(f"{errno.EFBIG} the {what} could not be written to {tmp_path}: ")
        assert "ulimit -f" in message
        assert f"the last save, {save.name}, is whole" in message
        assert f"`ccnet train --resume {tmp_path}` goes on" in message
    assert "needed 401." in messages[0]
    assert not list(tmp_path.rglob(".*"))


def mount(path: Path, options: str) -> None:
    command = ["mount", "-t", "tmpfs", "-o", options, "none", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        pytest.skip(f"needs the right to mount a small disk: {result.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path):
    """A folder with room for 400 KiB."""
    path = tmp_path / "disk"
    path.mkdir()
    if sys.platform != "linux":
        pytest.skip("needs Linux's tmpfs")
    mount(path, "size=400k")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def add_rows(folder: RunFolder, num_rows: int) -> None:
    for step in range(2, 2 + num_rows):
        folder.add_to_log(step=step, loss=0.5)


def test_a_full_disk_is_told_and_loses_nothing(small_disk):
    folder = RunFolder(small_disk / "run")
    folder.create(TrainConfig())
    model = CCNet(2, "tiny", channels=8, kernel_size=1, auxiliary_channels=None)
    folder.save_model(model, folder.best_model)
    with pytest.raises(OSError, match=r"no space is left.*there is no save yet: make room"):
        folder.save({"step": 1, "weights": torch.zeros(500_000)})
    folder.save({"step": 1, "weights": torch.zeros(1000)})
    folder.start_log(1)
    before = sorted(small_disk.rglob("*"))
    filler = small_disk / "filler"
    room = os.statvfs(small_disk)
    filler.write_bytes(b"x" * room.f_bavail * room.f_frsize)

    state = {"step": 2, "weights": torch.zeros(1000)}
    whole = f"the last save, {folder.newest()[0].name}, is whole"
    with pytest.raises(OSError, match=rf"save of step 2 .* needed [\d.]+ kB, .*{whole}") as error:
        folder.save(state)
    assert error.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match=rf"model folder model .*{whole}"):
        folder.save_model(model, folder.best_model)
    with pytest.raises(OSError, match=rf"log\.csv .*{whole}"):
        add_rows(folder, 400)
    filler.unlink()
    assert sorted(small_disk.rglob("*")) == before
    CCNet.from_pretrained(folder.best_model)

    folder = RunFolder(folder.path)
    assert folder.load()["step"] == 1
    folder.start_log(1)
    folder.save(state)
    assert folder.load()["step"] == 2


def show_steps(progress: TrainingProgress, last: int) -> None:
    for step in range(2, last + 1):
        progress.finish_step(step, seconds_waited=0.0)
        progress.log_row(step, [(0.5, 1.0)], lr=0.1)


def test_a_disk_that_only_tensorboard_finds_full_is_told_too(small_disk, capfd):
    folder = RunFolder(small_disk / "run")
    folder.save({"step": 1})
    folder.start_log(1)
    progress = TrainingProgress(TrainConfig(log_every=1), folder, 1, num_samples=8)
    room = os.statvfs(small_disk)
    (small_disk / "filler").write_bytes(b"x" * room.f_bavail * room.f_frsize)
    told = r"TensorBoard's log could not be written .*no space is left.* is whole"
    with pytest.raises(OSError, match=told), progress:
        show_steps(progress, 100)
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_run_on_a_full_disk_stops_clearly_and_resumes_after_making_room(small_disk):
    run = small_disk / "run"
    flags = "--model.backbone=tiny --model.channels=16 --model.kernel_size=1 --steps=4 "
    flags += "--model.auxiliary_channels=null --optimizer.name=adamw --batch-size=2 --log-every=1 "
    flags += "--validate-every=2 --num-workers=0 --device=cpu --precision=float32"
    command = [sys.executable, "-m", "ccnet", "train"]
    start = [*command, "--run", str(run), *flags.split()]
    full = subprocess.run(start, timeout=120, capture_output=True, text=True, check=False)
    assert full.returncode == 2, full.stderr
    assert "Traceback" not in full.stderr
    [message] = [line for line in full.stderr.splitlines() if line.startswith("ccnet train: ")]
    folder = RunFolder(run)
    assert "no space is left on the device" in message
    assert f"the last save, {folder.newest()[0].name}, is whole" in message
    assert f"`ccnet train --resume {run}`" in message

    mount(small_disk, "remount,size=4m")
    resume = [*command, "--resume", str(run)]
    resumed = subprocess.run(resume, timeout=120, capture_output=True, text=True, check=False)
    assert resumed.returncode == 0, resumed.stderr
    assert folder.load()["step"] == 4
    rows = [line.split(",")[0] for line in folder.log.read_text().splitlines()[1:]]
    assert rows == ["1", "2", "2", "3", "4", "4"]
    assert not list(run.rglob(".*"))
