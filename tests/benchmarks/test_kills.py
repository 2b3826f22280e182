"""A real training process that is killed at random moments loses nothing."""

import runpy
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "kills.py"


@pytest.mark.slow
def test_a_run_killed_three_times_ends_with_the_weights_of_one_never_stopped():
    command = [sys.executable, str(SCRIPT), "--kills=3", "--no-csv"]
    result = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=280, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    uninterrupted, killed, summary = result.stdout.splitlines()
    assert uninterrupted.split()[-2:] == killed.split()[-2:]
    assert killed.split()[0] in "34"  # a fourth kill follows if none of the three hit a write
    assert "kills during a write" in summary
    assert not summary.startswith("0")


HEADER = "step,loss,lr,miou\n"
LOG = HEADER + "1,0.5,0.1,\n2,0.4,0.1,\n2,,,0.3\n"


@pytest.mark.parametrize(
    ("log", "weights", "expected"),
    [
        (LOG, b"a", []),
        (LOG, b"b", ["last/model.safetensors differs", "model/model.safetensors differs"]),
        (LOG.replace("0.4", "0.41"), b"a", ["losses or scores"]),
        (LOG.replace("0.3", "0.31"), b"a", ["losses or scores"]),
        (LOG + "2,,,0.3\n", b"a", ["losses or scores"]),
        (LOG.replace("2,0.4,0.1,\n", ""), b"a", ["one row for each step", "losses or scores"]),
        (HEADER + "1,0.5,0.1,\n" + LOG[len(HEADER) :], b"a", ["one row for each step", "losses"]),
    ],
    ids=[
        "nothing",
        "weights",
        "a loss",
        "a score",
        "two scores",
        "a missing row",
        "a repeated row",
    ],
)
def test_differences_between_two_runs_are_found(tmp_path, log, weights, expected):
    for name, text, content in (("uninterrupted", LOG, b"a"), ("killed", log, weights)):
        for model in ("last", "model"):
            (tmp_path / name / model).mkdir(parents=True)
            (tmp_path / name / model / "model.safetensors").write_bytes(content)
        (tmp_path / name / "log.csv").write_text(text)
    differences = runpy.run_path(str(SCRIPT))["differences"]
    lines = differences(tmp_path / "uninterrupted", tmp_path / "killed", steps=2)
    assert len(lines) == len(expected)
    assert all(part in line for part, line in zip(expected, lines, strict=True))
