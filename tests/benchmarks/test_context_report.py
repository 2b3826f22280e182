"""The tables of the context modules in docs/results.md, and what is said of them."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MODULES = {"none", "ppm", "aspp", "non-local", "rcca 1", "rcca 2"}


@pytest.fixture
def report():
    return runpy.run_path(str(ROOT / "benchmarks" / "context_report.py"))


@pytest.fixture
def rows(report):
    return report["grouped"](report["read_rows"](report["RESULTS"]))


def test_the_tables_are_those_of_the_csv_file(report, rows):
    lines = (ROOT / "docs" / "results.md").read_text().splitlines()
    for data in ("scenes", "camvid"):
        assert set(report["trained_table"](rows, data)) <= set(lines)
    assert set(report["map_table"](rows)) <= set(lines)


def test_all_modules_are_compared_and_equal_seeds(rows):
    for data in ("scenes", "camvid", "map"):
        assert {module for name, module in rows if name == data} == MODULES
    for data in ("scenes", "camvid"):
        found = [group for (name, _), group in rows.items() if name == data]
        assert len({tuple(row["seed"] for row in group) for group in found}) == 1


def test_what_is_said_of_the_scenes_and_of_the_map(report, rows):
    scenes = {module: min(report["mious"](rows, "scenes", module)) for module in MODULES}
    assert scenes.pop("none") + 0.1 < scenes.pop("rcca 1") < 0.6
    assert min(scenes.values()) > 0.96
    time, kept = (
        {module: float(rows["map", module][0][column]) for module in MODULES}
        for column in ("ms_per_step", "kept_mib")
    )
    assert 7.5 < time["non-local"] / time["rcca 2"] < 8.5
    assert 3.5 < time["aspp"] / time["rcca 2"] < 4.5
    assert 0.265 < kept["rcca 2"] / kept["non-local"] < 0.275
    assert kept["ppm"] < kept["rcca 2"]


def test_no_module_is_ahead_after_two_epochs_of_camvid(report, rows):
    camvid = {module: max(report["mious"](rows, "camvid", module)) for module in MODULES}
    assert max(camvid, key=lambda module: camvid[module]) == "none"


def test_the_plot_is_drawn(report, rows, tmp_path):
    report["plot"](rows, tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 10_000
