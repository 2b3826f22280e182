"""The benchmark of prediction, on a small network; its table in the documentation."""

import csv
import runpy
import sys
from pathlib import Path

import pytest
import torch

from ccnet import CCNet
from tests.conftest import with_statistics

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"

pytestmark = pytest.mark.unchecked  # torch traces the annotated code


@pytest.fixture
def script():
    return runpy.run_path(str(BENCHMARKS / "inference.py"))


@pytest.mark.slow
def test_it_measures_and_compares(script, tmp_path, monkeypatch):
    model = with_statistics(CCNet(3, "tiny", channels=16, auxiliary_channels=8))
    model.save_pretrained(tmp_path / "model")
    shown = Path(__file__).parents[2] / "docs" / "scenes.png"
    output = tmp_path / "rows.csv"
    forms = ["ours", "plain bfloat16", "ours bfloat16", "onnxruntime"]
    chosen = ["--sizes=64x96", "--turns=2", "--threads=1", f"--output={output}", "--backbones"]
    chosen += [f"--trained={tmp_path / 'model'}", f"--photograph={shown}", "--forms", *forms]
    monkeypatch.setattr(sys, "argv", ["inference.py", *chosen])
    for name, value in script["KEEP_MEMORY"].items():
        monkeypatch.setenv(name, value)
    script["main"]()
    with output.open(newline="") as file:
        rows = {row["form"]: row for row in csv.DictReader(file)}
    assert list(rows) == ["plain", *forms]
    assert all(float(row["error_over_plain"]) <= 4 for row in rows.values())
    assert all(float(row["agreement"]) > 0.95 for row in rows.values())
    assert float(rows["ours"]["largest_difference"]) < 1e-5
    report = runpy.run_path(str(BENCHMARKS / "inference_report.py"))
    lines = list(report["times_table"](report["read"](output)))
    assert lines[2].startswith("| tiny, trained, 64×96, 1 | ")


def test_a_form_that_computes_something_else_is_not_timed(script):
    model = with_statistics(CCNet(3, "tiny", channels=16, auxiliary_channels=8))
    other = with_statistics(CCNet(3, "tiny", channels=16, auxiliary_channels=8))
    forms = script["FORMS"]
    forms["other"] = type(forms["plain"])(lambda _, size: forms["plain"].build(other, size))
    images = torch.randn(1, 3, 64, 64)
    ratios = script["error_ratios"](model, ["plain", "ours"], images)
    assert ratios["plain"] == 1
    with pytest.raises(RuntimeError, match="not timed: the error of other is"):
        script["error_ratios"](model, ["plain", "other"], images)


def test_operations_are_those_of_the_direct_form(script):
    model = CCNet(3, "tiny", recurrence=0, channels=16, kernel_size=1)
    first, second = (
        conv[0].weight.numel() for conv in (model.backbone.conv1, model.backbone.conv2)
    )
    head = sum(part[0].weight.numel() for part in (model.head.reduction, model.head.smoothing))
    head += model.head.fusion[0].weight.numel() + model.head.classifier.weight.numel()
    expected = 2 * (first * 32 * 48 + (second + head) * 16 * 24)
    assert script["operations"](model, (64, 96)) == expected


def test_the_tables_of_the_documentation_are_those_of_the_csv_file():
    report = runpy.run_path(str(BENCHMARKS / "inference_report.py"))
    cases = report["read"](report["RESULTS"])
    lines = (BENCHMARKS.parent / "docs" / "performance.md").read_text().splitlines()
    for table in ("times_table", "details_table"):
        assert set(report[table](cases)) <= set(lines)
