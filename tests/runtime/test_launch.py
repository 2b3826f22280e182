"""Processes that are started: by us, torchrun or SLURM; errors instead of hangs; restarts."""

import os
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from ccnet.cli import main
from ccnet.config import DataConfig, LossConfig
from ccnet.runtime import launch
from ccnet.saving.run_folder import RunFolder
from ccnet.training.loop import train
from tests.commands import TEN, assert_close, run_command, start, weights, write_config

SLURM = {"SLURM_JOB_ID": "12345", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2"}
SLURM |= {
    "SLURM_STEP_ID": "0",
    "SLURM_NNODES": "1",
    "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_NODEID": "0",
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "variables"),
    [
        (
            ["--num-nodes=2", "--devices=1"],
            lambda rank: {"MASTER_ADDR": "127.0.0.1", "NODE_RANK": str(rank)},
        ),
        (
            ["--devices=2"],
            lambda rank: SLURM | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)},
        ),
    ],
    ids=["two nodes", "SLURM"],
)
def test_processes_that_others_start_learn_what_one_does(tmp_path, flags, variables):
    """Two nodes that find each other by MASTER_ADDR, and what srun sets, all on this machine."""
    train(TEN, tmp_path / "one")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    config = write_config(TEN, tmp_path / "config.yaml")
    command = ["train", config, f"--run={tmp_path / 'two'}", *flags]
    processes = [
        start(
            *command,
            variables={**variables(rank), "MASTER_PORT": port, "SLURM_NODELIST": "127.0.0.1"},
        )
        for rank in range(2)
    ]
    outputs = [process.communicate(timeout=240)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], "\n".join(outputs)
    assert_close(tmp_path / "one", tmp_path / "two")


def wait_for(run: Path, step: int, process: subprocess.Popen[str]) -> None:
    """Until the log has a row of the step."""
    log = run / "log.csv"
    for _ in range(1200):
        rows = log.read_text().splitlines()[1:] if log.exists() else []
        if any(int(row.split(",")[0]) >= step for row in rows if row.count(",") > 5):
            return
        assert process.poll() is None, process.communicate()[0]
        time.sleep(0.1)
    raise AssertionError("no such step in two minutes")


def children(pid: int) -> list[int]:
    tasks = Path(f"/proc/{pid}/task").glob("*/children")
    return [int(child) for task in tasks for child in task.read_text().split()]


def worker(launcher: int, rank: int) -> int:
    """Process number of one rank of those that a launcher started."""
    for pid in children(launcher):
        if f"RANK={rank}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
            return pid
    raise AssertionError(f"no process of rank {rank}")


LONG = replace(TEN, steps=100_000, validate_every=100_000, save_every=5, devices=2)


@pytest.mark.slow
def test_a_process_that_dies_ends_the_others(tmp_path):
    run = tmp_path / "run"
    process = start("train", write_config(LONG, tmp_path / "a.yaml"), f"--run={run}")
    wait_for(run, 10, process)
    others = children(process.pid)
    os.kill(worker(process.pid, 1), signal.SIGKILL)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGKILL, output
    assert "process 1 was killed by SIGKILL" in output
    assert not any(Path(f"/proc/{pid}").exists() for pid in others)
    assert RunFolder(run).load()["step"] >= 5


@pytest.mark.slow
def test_sigterm_to_the_launcher_saves_and_the_run_can_be_resumed(tmp_path):
    run = tmp_path / "run"
    process = start("train", write_config(LONG, tmp_path / "a.yaml"), f"--run={run}")
    wait_for(run, 7, process)
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 130, output
    assert "ccnet train --resume" in output
    assert RunFolder(run).load()["step"] >= 7


@pytest.mark.slow
def test_torchrun_restarts_a_run_where_it_was(tmp_path):
    """A worker is killed; torchrun starts both again, and the weights end up the same."""
    config = replace(TEN, steps=100, validate_every=100, save_every=5)
    flags = write_config(config, tmp_path / "config.yaml")
    run_command("train", flags, f"--run={tmp_path / 'whole'}", "--devices=2")
    run = tmp_path / "run"
    # without -- torchrun takes --run for an abbreviation of one of its own flags
    launcher = "torch.distributed.run --standalone --nproc-per-node=2 --max-restarts=2 -m --"
    process = start("train", flags, f"--run={run}", launcher=launcher.split())
    wait_for(run, 20, process)
    os.kill(worker(process.pid, 1), signal.SIGKILL)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    rows = (run / "log.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == [*range(1, 101), 100]
    for name, value in weights(tmp_path / "whole").items():
        assert torch.equal(weights(run)[name], value), name


def broken_folder(root: Path) -> Path:
    """Eight images, of which one cannot be read."""
    for split in ("train", "val"):
        for kind, mode in (("images", "RGB"), ("labels", "L")):
            (root / split / kind).mkdir(parents=True)
            for index in range(8):
                Image.new(mode, (32, 32)).save(root / split / kind / f"{index}.png")
    (root / "train" / "images" / "5.png").write_bytes(b"no image")
    (root / "dataset.yaml").write_text("classes: [a, b]\n")
    return root


@pytest.mark.slow
def test_an_error_in_one_process_is_reported_and_saves(tmp_path):
    data = DataConfig(name="folder", root=str(broken_folder(tmp_path / "data")))
    config = replace(TEN, data=data, loss=LossConfig(), devices=2, batch_size=2)
    run = tmp_path / "run"
    process = start("train", write_config(config, tmp_path / "a.yaml"), f"--run={run}")
    output, _ = process.communicate(timeout=120)
    assert process.returncode != 0
    assert "5.png: cannot be read as an image" in output
    step = RunFolder(run).load()["step"]  # eight images in random order, two a step
    rows = (run / "log.csv").read_text().splitlines()[1:]
    assert step == len(rows) < 4


def test_several_nodes_have_to_find_each_other(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    with pytest.raises(ValueError, match=r"torchrun or srun .*MASTER_ADDR and NODE_RANK"):
        launch.launch(8, 4, ["train"])


def test_training_starts_its_processes_once(monkeypatch):
    calls = []

    def launch_processes(devices, num_nodes, arguments):
        calls.append((devices, num_nodes))
        return 0

    for module in ("ccnet.cli", "ccnet.commands.train"):
        monkeypatch.setattr(f"{module}.launch_processes", launch_processes)
    with pytest.raises(SystemExit):
        main(["train", "--devices=2"])
    with pytest.raises(SystemExit):
        main(["predict", "model", "image.png", "--devices=3"])
    assert calls == [(2, None), (3, None)]


@pytest.mark.parametrize(
    ("devices", "num_nodes", "said"),
    [(0, None, "devices must be ≥ 1, got 0"), (None, -1, "num_nodes must be ≥ 1, got -1")],
)
def test_numbers_below_one_are_refused(devices, num_nodes, said):
    with pytest.raises(ValueError, match=said):
        launch.launch_processes(devices, num_nodes, ["train"])


def test_processes_import_from_the_current_folder_only_if_this_one_does(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert launch.program() == ["-P", "-m", "ccnet"]
    monkeypatch.syspath_prepend(str(tmp_path))
    assert launch.program() == ["-m", "ccnet"]
