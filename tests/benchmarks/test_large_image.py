"""The benchmark of a large image, on a small one."""

import runpy
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "large_image.py"


def test_it_measures_and_compares(tmp_path, capsys, monkeypatch):
    pytest.importorskip("rasterio")
    script = runpy.run_path(str(SCRIPT))
    chosen = ["--size=400", "--tile=64", f"--folder={tmp_path}", "--no-csv"]
    assert script["main"]([*chosen, "--memory=1TB"]) == 0
    assert "equal         True" in capsys.readouterr().out
    with pytest.raises(ValueError, match="of memory are too few"):
        script["main"]([*chosen, "--memory=1MB"])


def test_labels_that_differ_are_found(tmp_path, capsys):
    pytest.importorskip("rasterio")
    script = runpy.run_path(str(SCRIPT))
    predict = script["predict_large"]

    def predict_otherwise(network, *arguments, **options):
        bias = network.layers[-1].bias
        before = bias.clone()
        bias[:2] += torch.tensor([0.5, -0.5])
        predict(network, *arguments, **options)
        bias.copy_(before)

    script["measure"].__globals__["predict_large"] = predict_otherwise
    chosen = ["--size=400", "--tile=64", f"--folder={tmp_path}", "--no-csv", "--memory=1TB"]
    assert script["main"](chosen) == 1
    assert "equal         False" in capsys.readouterr().out
