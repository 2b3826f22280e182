"""`ccnet convert`: published weights become a model folder, whole or not at all."""

import csv
import json
import os
from pathlib import Path

import pytest
import torch

from ccnet import CCNet
from ccnet.published.names import PREFIXES
from ccnet.weights import pickles
from tests.commands import run_python, status


@pytest.fixture(scope="module")
def published_file(tmp_path_factory):
    """Keys and shapes of mmsegmentation's CCNet R-50, next to nothing on disk."""
    keys = Path(__file__).parent / "published" / "parity" / "mmseg_resnet50.keys.json"
    shapes = json.loads(keys.read_text())
    state = {key: torch.ones(()).expand(shape) for key, shape in shapes}
    path = tmp_path_factory.mktemp("published") / "ccnet_r50-d8_769x769.pth"
    torch.save({"state_dict": state}, path)
    return path


@pytest.mark.slow
def test_convert_makes_a_model_folder_and_reports_each_key(
    published_file, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(pickles, "MAX_EXPANSION", float("inf"))  # it holds one number per tensor
    folder = tmp_path / "model"
    assert status("convert", published_file, folder, "--recurrence", 1) == 0
    printed = capsys.readouterr().out
    assert "mmsegmentation: resnet50 with stem deep_32, R=1, 19 classes" in printed
    assert "align_corners=True" in printed
    model = CCNet.from_pretrained(folder)
    assert model.head.attention.recurrence == 1
    assert model.classes[0] == "road"
    with (folder / "conversion.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 365
    assert {row["key"] for row in rows} == set(model.state_dict())
    # a second time only when told to
    assert status("convert", published_file, folder, "--align-corners", "no") == 2
    assert "--overwrite" in capsys.readouterr().err
    arguments = ("--align-corners", "no", "--num-classes", 4, "--overwrite")
    assert status("convert", published_file, folder, *arguments) == 0
    model = CCNet.from_pretrained(folder)
    assert (model.align_corners, model.num_classes) == (False, 4)


def test_convert_names_what_is_no_ccnet(tmp_path, capsys):
    torch.save({"layer1.0.conv1.weight": torch.zeros(1)}, tmp_path / "resnet.pth")
    assert status("convert", tmp_path / "resnet.pth", tmp_path / "model") == 2
    assert "resnet.pth is no published CCNet; it looks like" in capsys.readouterr().err
    assert not (tmp_path / "model").exists()
    assert status("convert", tmp_path / "none.pth", tmp_path / "model") == 2
    assert "no weight file at" in capsys.readouterr().err


@pytest.fixture(scope="module")
def small_file(tmp_path_factory):
    """A whole CCNet on a ResNet-18 by the names of mmsegmentation."""
    model = CCNet(3, "resnet18", channels=8, auxiliary_channels=None)
    theirs = {ours: name for name, ours in PREFIXES["mmsegmentation"].items()}
    state = {}
    for key, value in model.state_dict().items():
        start = max((ours for ours in theirs if key.startswith(ours)), key=len)
        state[theirs[start] + key.removeprefix(start)] = value
    path = tmp_path_factory.mktemp("published") / "small.pth"
    torch.save(state, path)
    return path


CONVERTED = ["README.md", "config.json", "conversion.csv", "model.safetensors"]


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.slow
def test_convert_replaces_the_models_files_and_no_others(small_file, tmp_path, capsys):
    folder = tmp_path / "model"
    assert status("convert", small_file, folder) == 0
    assert names(folder) == CONVERTED
    assert names(tmp_path) == ["model"]
    outside = tmp_path / "outside"
    outside.write_text("kept")
    for name in ("config.json", "conversion.csv", "README.md"):
        (folder / name).unlink()
        (folder / name).symlink_to(outside)
    (folder / "notes.txt").write_text("mine")
    (folder / "logs").mkdir()
    (folder / "logs" / "a").touch()
    assert status("convert", small_file, folder) == 2
    assert "already exists; give a new folder, or --overwrite" in capsys.readouterr().err
    assert status("convert", small_file, folder, "--overwrite") == 0
    assert names(folder) == sorted([*CONVERTED, "logs", "notes.txt"])
    assert not any((folder / name).is_symlink() for name in CONVERTED)
    assert outside.read_text() == "kept"
    assert (folder / "notes.txt").read_text() == "mine"
    CCNet.from_pretrained(folder)


@pytest.mark.slow
@pytest.mark.parametrize("place", ["", "."])
def test_convert_wants_the_name_of_a_folder(small_file, tmp_path, monkeypatch, capsys, place):
    monkeypatch.chdir(tmp_path)
    assert status("convert", small_file, place) == 2
    wanted = "give a new folder by its name" if place else "folder is empty; give a path"
    assert wanted in capsys.readouterr().err
    assert names(tmp_path) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", ["model.safetensors", "conversion.csv"])
def test_a_full_disk_is_one_line_and_leaves_nothing(
    small_file, tmp_path, capsys, monkeypatch, name
):
    """Writing more than a limit fails in the system as a full disk does."""
    program = f"""
import resource, signal, sys
from ccnet.cli import main
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
limit = {{"model.safetensors": 1 << 20, "conversion.csv": 50 << 20}}[{name!r}]
if limit > 1 << 20:
    from ccnet.published import Published
    def fail(self, path):
        raise OSError(28, "No space left on device")
    Published.save_report = fail
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
sys.stderr = sys.stdout
try:
    main(["convert", {str(small_file)!r}, {str(tmp_path / "model")!r}])
except SystemExit as stop:
    print("status", stop.code)
"""
    *_, message, end = run_python(program).splitlines()
    assert end == "status 2"
    assert message.startswith(f"ccnet convert: {tmp_path / 'model'}")
    assert "could not be written: " in message
    assert "Traceback" not in message
    assert names(tmp_path) == []


KILLS = """
import os, random, shutil, signal, sys, time
from pathlib import Path
from ccnet.commands.convert import convert
import ccnet.models.ccnet, ccnet.published  # before the processes are forked

file, root = map(Path, sys.argv[1:3])
CHANGES = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.link"}

def started(folder, kill_at=None, number=signal.SIGKILL):
    process = os.fork()
    if process:
        return process
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(1, 2)
    count = 0
    def watch(event, arguments):
        nonlocal count
        if event in CHANGES and str(root) in str(arguments[0]):
            count += 1
            if count == kill_at:
                os.kill(os.getpid(), number)
    sys.addaudithook(watch)
    try:
        os._exit(convert(file, folder, overwrite=folder.exists()))
    except BaseException:
        os._exit(7)

def finished(process):
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])

def check(folder, when):
    if folder.exists():
        found = {path.name for path in folder.iterdir()} - {"notes.txt"}
        assert found == {"README.md", "config.json", "conversion.csv", "model.safetensors"}, when
        ccnet.models.ccnet.CCNet.from_pretrained(folder)

rng, killed = random.Random(0), 0
begin = time.monotonic()
assert finished(started(root / "first")) == 0
duration = time.monotonic() - begin
for turn in range(20):
    folder = root / f"model{turn}"
    number = (signal.SIGKILL, signal.SIGTERM)[turn % 2]
    is_old = turn % 4 > 1
    if is_old:
        shutil.copytree(root / "first", folder)
        (folder / "notes.txt").touch()
    if turn < 14:  # at a change in the file system
        process = started(folder, kill_at=1 + turn * 2, number=number)
    else:
        process = started(folder)
        time.sleep(rng.uniform(0.2, 1.0) * duration)
        os.kill(process, number)
    killed += finished(process) == -number
    check(folder, turn)
    assert finished(started(folder)) == 0, turn
    check(folder, turn)
    assert not is_old or (folder / "notes.txt").exists(), turn
    leftover = {path.name for path in root.iterdir()} - {"first", folder.name}
    assert not leftover, (turn, leftover)
    shutil.rmtree(folder)
print("killed", killed)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes are forked")
def test_convert_killed_twenty_times_leaves_nothing_partial_and_then_works(small_file, tmp_path):
    program = f"import sys; sys.argv[1:] = [{str(small_file)!r}, {str(tmp_path)!r}]\n{KILLS}"
    word, number = run_python(program).split()
    assert word == "killed"
    assert int(number) >= 15  # some of the last signals may come when it has ended
