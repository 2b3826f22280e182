"""The benchmark of the choices: it trains each variant of a plan once."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_trains_each_variant_once(shared_data, tmp_path):
    thin = [sys.executable, str(BENCHMARKS / "thin_structures.py"), str(tmp_path / "thin")]
    subprocess.run([*thin, "--size=64", "--images=20"], check=True, timeout=60)
    command = [sys.executable, str(BENCHMARKS / "planning.py"), str(tmp_path / "thin")]
    weights = shared_data / "weights" / "mobilenet_v2_imagenet.safetensors"
    command += ["--weights", str(weights), "--seconds=0.5", "--output", str(tmp_path / "rows.csv")]
    command += ["--flags", "", "--model.refinement null --batch_size 2"]
    for _ in range(2):  # the second call finds its rows
        subprocess.run(command, check=True, timeout=280)
    with (tmp_path / "rows.csv").open(newline="") as file:
        plan, other = csv.DictReader(file)
    assert (plan["data"], plan["flags"]) == ("thin", "")
    assert other["flags"] == "--model.refinement null --batch_size 2"
    for row in (plan, other):
        assert json.loads(row["iou"]).keys() == {"ground", "crop", "weed"}
        assert int(row["steps"]) >= 1
        assert float(row["seconds_per_step"]) > 0
