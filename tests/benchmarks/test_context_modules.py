"""The benchmark of the context modules: two steps of it, the same start for all, and its tables."""

import csv
import json
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from ccnet.datasets import Scenes

ROOT = Path(__file__).parents[2]
BENCHMARKS = ROOT / "benchmarks"


@pytest.fixture
def script():
    return runpy.run_path(str(BENCHMARKS / "context_modules.py"))


def test_all_modules_start_from_the_same_weights_and_see_the_same_batches(script):
    weights, seen = {}, {}
    for module in script["MODULES"]:
        asked = script["Asked"]("scenes", module, 3, 2)
        config = script["configuration"](asked)
        training = Scenes("train", num_images=64)
        model = script["network"](asked, config, training)
        others = model.state_dict().items()
        weights[module] = {k: v for k, v in others if not k.startswith("head.attention.")}
        seen[module] = [images for images, _ in script["batches"](config, training)]
    for module in script["MODULES"]:
        assert weights[module].keys() == weights["none"].keys()
        assert all(torch.equal(v, weights["none"][k]) for k, v in weights[module].items())
        assert len(seen[module]) == 2
        assert all(map(torch.equal, seen[module], seen["none"]))


def test_training_is_reproducible_and_learns_in_the_module(script):
    asked = script["Asked"]("scenes", "rcca 2", 0, 2)
    config, training = script["configuration"](asked), Scenes("train", num_images=64)
    models = [script["network"](asked, config, training) for _ in range(2)]
    for model in models:
        assert len(script["train"](model, config, training)) == 2
    first, second = (model.state_dict() for model in models)
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    assert first["head.attention.passes.0.gamma"] != 0


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_it_measures_each_module_once(tmp_path):
    output = tmp_path / "rows.csv"
    command = [sys.executable, str(BENCHMARKS / "context_modules.py"), "scenes", "--steps=2"]
    command += ["--modules", "none", "rcca 2", "--output", str(output)]
    for _ in range(2):  # the second call finds its rows
        subprocess.run(command, check=True, timeout=500)
    with output.open(newline="") as file:
        none, rcca = csv.DictReader(file)
    assert (none["module"], rcca["module"]) == ("none", "rcca 2")
    for row in (none, rcca):
        assert json.loads(row["iou"]).keys() == {"ground", "red", "green", "blue"}
        assert 0 <= float(row["miou"]) <= 1
        assert float(row["ms_per_image"]) > 0 < float(row["ms_per_step"])
    for column in ("parameters", "gflop", "kept_mib", "peak_mib"):
        assert float(rcca[column]) > float(none[column])


@pytest.mark.slow
def test_camvid_needs_its_folder_and_weights():
    command = [sys.executable, str(BENCHMARKS / "context_modules.py"), "camvid"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 2
    assert "camvid with --root and --weights" in result.stderr
