"""Label maps of many files when processes are stopped, killed, or find a full disk."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet.datasets import Scenes
from tests.conftest import new_tiny_model
from tests.kills import killed
from tests.labeling.test_files import ROOT, pictures_below, times_of_change

NUM_MANY = 41
MANY = [f"{index:02d}.png" for index in range(NUM_MANY)]


def command(folder: Path, output: str, *more: str) -> list[str]:
    arguments = [str(folder / "model"), str(folder / "in"), "--output", str(folder / output)]
    return [sys.executable, "-m", "ccnet", "predict", *arguments, "--device", "cpu", *more]


def stop_midway(folder: Path, output: str, number: int, *more: str) -> subprocess.Popen:
    """Start the command and send it a signal when three pictures are there."""
    process = subprocess.Popen(
        command(folder, output, *more), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(list((folder / output).glob("*.png"))) < 3:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    return process


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A model, and enough images that a command is at work for seconds."""
    folder = tmp_path_factory.mktemp("many")
    torch.manual_seed(0)
    new_tiny_model().save_pretrained(folder / "model")
    (folder / "in").mkdir()
    for index in range(NUM_MANY):
        scene = np.tile(Scenes()[index][0], (6, 6, 1))
        Image.fromarray(scene).save(folder / "in" / f"{index:02d}.png")
    return folder


def run(*arguments: str) -> str:
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


def labels_in(manifest: Path) -> list[str]:
    return [json.loads(line)["labels"] for line in manifest.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_command_that_was_ended_midway_goes_on(many, number):
    output = many / f"out{int(number)}"
    process = stop_midway(many, output.name, number)
    errors = process.communicate()[1]
    assert process.returncode == (130 if number == signal.SIGTERM else -number)
    if number == signal.SIGTERM:
        assert "stopped; the same command goes on" in errors
    before = times_of_change(output)
    assert 3 <= len(before) < NUM_MANY
    said = run(*command(many, output.name))
    assert f"{NUM_MANY - len(before)} label maps written" in said
    assert f"{len(before)} kept" in said
    assert before.items() <= times_of_change(output).items()
    assert pictures_below(output) == MANY
    for name in MANY:
        Image.open(output / name).load()
    assert sorted(labels_in(output / "manifest.jsonl")) == MANY
    assert [path for path in output.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_kills_leave_no_partial_label_map(many):
    output = many / "killed"
    words = ("predict", many / "model", many / "in", "--output", "{output}", "--device", "cpu")
    for number, _ in enumerate(killed(20, output, *words)):
        for name in pictures_below(output):
            if not name.startswith("."):
                Image.open(output / name).load()
                if number % 2:  # so that there is something left to do
                    (output / name).unlink()
    run(*command(many, output.name))
    assert pictures_below(output) == MANY
    for name in MANY:
        assert (output / name).read_bytes() == (many / "measured" / name).read_bytes()
    assert set(labels_in(output / "manifest.jsonl")) == set(MANY)
    assert [path for path in output.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_two_processes_stop_go_on_and_write_what_one_writes(many):
    run(*command(many, "one"))
    process = stop_midway(many, "two", signal.SIGINT, "--devices", "2")
    process.communicate()
    assert process.returncode == 130
    before = times_of_change(many / "two")
    assert 3 <= len(before) < NUM_MANY
    said = run(*command(many, "two", "--devices", "2", "--num-workers", "1"))
    assert f"{NUM_MANY - len(before)} label maps written" in said
    assert before.items() <= times_of_change(many / "two").items()
    for number in (0, 1):
        listed = labels_in(many / "two" / f"manifest.{number:04d}.jsonl")
        assert sorted(listed) == MANY[number::2]
    for name in MANY:
        assert (many / "two" / name).read_bytes() == (many / "one" / name).read_bytes()


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
from ccnet.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_the_command_ends_in_one_line_when_the_disk_takes_no_more(many):
    """With a limit on the size of files, which the manifest or a label map reaches."""
    words = command(many, "limited")
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, *words[3:]], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if "could not be written" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"ccnet predict: {many / 'limited'}/")
    assert "skipped" not in result.stderr
    assert [path for path in (many / "limited").iterdir() if path.name.startswith(".")] == []
    run(*words)
    assert pictures_below(many / "limited") == MANY


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others_with_its_error(many):
    output = many / "blocked"
    output.mkdir()
    (output / MANY[7]).mkdir()  # in the way of one file of the second process
    process = subprocess.run(
        command(many, output.name, "--devices", "2"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 2
    assert f"process 1: {output / MANY[7]} is in the way of a label map" in process.stderr
    assert [path.name for path in output.iterdir()] == [MANY[7]]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they work on to their end")
def test_processes_end_with_a_launcher_that_is_killed(many):
    process = stop_midway(many, "orphans", signal.SIGSTOP, "--devices", "2")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.communicate()  # ends when all have closed its standard error
    assert len(children) == 2
    assert 3 <= len(pictures_below(many / "orphans")) < NUM_MANY
