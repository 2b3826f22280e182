"""The tables of the context modules in docs/results.md, and what is said of them."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {"none", "ppm", "aspp", "non-local", "rcca 1", "rcca 2"}


@pytest.fixture
def report(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return runpy.run_path(str(ROOT / "benchmarks" / "context_report.py"))


@pytest.fixture
def rows(report):
    return report["grouped"](report["read"](report["RESULTS"]))


def test_the_tables_are_those_of_the_csv_file(report, rows):
    lines = (ROOT / "docs" / "results.md").read_text().splitlines()
    for data in ("scenes", "camvid"):
        assert set(report["trained_table"](rows, data)) <= set(lines)
    assert set(report["map_table"](rows)) <= set(lines)


def test_every_module_was_trained_from_the_same_seeds(rows):
    for data in ("scenes", "camvid"):
        assert {module for name, module in rows if name == data} == MODULES
        seeds = {tuple(row["seed"] for row in rows[data, module]) for module in MODULES}
        assert len(seeds) == 1


def test_the_plot_is_drawn(report, rows, tmp_path):
    report["plot"](rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
