"""The benchmark of the refinement, for two steps."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "refinement.py"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_measures_and_trains_each_form_once(shared_data, tmp_path):
    command = [sys.executable, str(SCRIPT), "--data", "thin", str(tmp_path / "thin"), "--steps=2"]
    command += ["--weights", str(shared_data / "weights"), "--forms", "16", "16+4+2"]
    command += ["--output", str(tmp_path / "rows.csv")]
    thin = [sys.executable, str(ROOT / "benchmarks" / "thin_structures.py"), "--size=96"]
    subprocess.run([*thin, "--images=20", str(tmp_path / "thin")], check=True, timeout=60)
    for _ in range(2):  # the second call finds its rows
        subprocess.run(command, check=True, timeout=500)
    with (tmp_path / "rows.csv").open(newline="") as file:
        plain, refined = csv.DictReader(file)
    assert (plain["form"], refined["form"]) == ("16", "16+4+2")
    assert plain["budget"] == "2 steps"
    for row in (plain, refined):
        assert json.loads(row["iou"]).keys() == {"ground", "crop", "weed"}
        assert 0 <= float(row["miou"]) <= 1
        assert float(row["seconds"]) > 0 < float(row["peak_mib"])
    assert float(refined["gflop"]) > float(plain["gflop"])
