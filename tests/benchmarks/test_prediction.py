"""The benchmark of the rate of a folder, on two small images."""

import runpy
from pathlib import Path

import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "prediction.py"


def test_it_measures_both_rates(capsys):
    script = runpy.run_path(str(SCRIPT))
    script["main"].__globals__["SIZES"] = ((32, 48),)
    threads = torch.get_num_threads()
    script["main"](["--images=2", "--turns=1", "--backbone=tiny", "--device=cpu", "--no-csv"])
    assert torch.get_num_threads() == threads
    said = capsys.readouterr().out
    assert "backbone tiny, classes 19, height 32, width 48, images 2, turns 1" in said
    assert float(said.rpartition("share ")[2]) > 0
