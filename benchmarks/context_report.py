"""Print the tables and draw the plot of context_modules.csv for docs/results.md.

python benchmarks/context_report.py
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from context_modules import RESULTS, STEPS
from csv_rows import read_rows
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ccnet.report.pictures import save

LABELS = {"none": "none", "ppm": "PPM", "aspp": "ASPP", "non-local": "non-local"}
LABELS |= {"rcca 1": "RCCA, R = 1", "rcca 2": "RCCA, R = 2"}
COLORS = dict(zip(LABELS, ("gray", "C2", "C4", "C1", "C9", "C0"), strict=True))
PUBLISHED = {  # paper: GFLOP and MB on the same map; mIoU of ResNet-101 on Cityscapes val
    "none": (0, 0, 75.1),
    "ppm": (None, None, 78.5),
    "aspp": (None, None, 78.9),
    "non-local": (108, 1411, 79.1),
    "rcca 1": (8.3, 53, 78.0),
    "rcca 2": (16.5, 127, 79.8),
}
Rows = dict[tuple[str, str], list[dict[str, str]]]


def grouped(rows: list[dict[str, str]]) -> Rows:
    """The rows of each data set and module, one for each seed; of runs with the usual steps."""
    groups: Rows = {}
    for row in rows:
        if int(row["steps"]) == STEPS[row["data"]]:
            groups.setdefault((row["data"], row["module"]), []).append(row)
    return groups


def mious(rows: Rows, data: str, module: str) -> list[float]:
    return [float(row["miou"]) for row in rows.get((data, module), [])]


def trained_table(rows: Rows, data: str) -> Iterator[str]:
    """Scores of the networks trained on one of the data sets, and costs of the whole network."""
    yield (
        f"| {data} | mIoU of each seed | mean | parameters, thousands | GFLOP | kept by a step, "
        "MiB | an image, ms | a step, ms |"
    )
    yield "|---" * 8 + "|"
    for module, label in LABELS.items():
        found = rows.get((data, module))
        if found is None:
            continue
        scores = mious(rows, data, module)
        cells = [label, ", ".join(f"{score:.3f}" for score in scores)]
        cells += [f"**{statistics.mean(scores):.3f}**"]
        cells += [f"{median(found, 'parameters') / 1e3:.0f}", f"{median(found, 'gflop'):.3g}"]
        cells += [f"{median(found, 'kept_mib'):.0f}"]
        cells += [spread(found, name) for name in ("ms_per_image", "ms_per_step")]
        yield f"| {' | '.join(cells)} |"


def map_table(rows: Rows) -> Iterator[str]:
    """Costs of the modules alone, beside what the paper reports."""
    yield (
        "| map | parameters, thousands | GFLOP | paper | kept for backward, MiB | peak, MiB | "
        "paper, MB | forward, ms | with backward, ms | paper: mIoU, Cityscapes |"
    )
    yield "|---" * 10 + "|"
    for module, label in LABELS.items():
        gflop, megabytes, miou = map(cell, PUBLISHED[module])
        found = rows.get(("map", module))
        if found is None:
            continue
        cells = [label, f"{median(found, 'parameters') / 1e3:.0f}"]
        cells += [f"{median(found, 'gflop'):.1f}", gflop]
        cells += [f"{median(found, name):.0f}" for name in ("kept_mib", "peak_mib")]
        cells += [megabytes]
        cells += [spread(found, name) for name in ("ms_per_image", "ms_per_step")]
        yield f"| {' | '.join([*cells, miou])} |"


def cell(value: float | None) -> str:
    return "" if value is None else f"{value}"


def median(rows: list[dict[str, str]], column: str) -> float:
    """Of the seeds."""
    return statistics.median(float(row[column]) for row in rows)


def spread(rows: list[dict[str, str]], column: str) -> str:
    """The median and the interquartile range."""
    middle, width = (median(rows, name) for name in (column, f"{column}_spread"))
    return f"{number(middle)} ± {number(width)}"


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.2g}"


def plot(rows: Rows, path: Path) -> None:
    figure = Figure(figsize=(11, 3.8), layout="constrained")
    scenes, camvid, costs = figure.subplots(1, 3)
    draw_scores(scenes, rows, "scenes", "scenes: context decides")
    draw_scores(camvid, rows, "camvid", f"CamVid: {STEPS['camvid']} steps")
    for module, label in LABELS.items():
        for row in rows.get(("map", module), []):
            x, y = float(row["ms_per_step"]), float(row["kept_mib"])
            if y > 0:
                costs.plot(x, y, "o", color=COLORS[module], label=label)
    costs.set(xscale="log", yscale="log", title="one map of 97×97×512")
    costs.set(xlabel="ms, forward and backward, one thread", ylabel="MiB kept for backward")
    costs.minorticks_off()
    costs.set_xticks(ticks := [100, 200, 500, 1000, 2000, 5000], list(map(str, ticks)))
    costs.set_yticks(ticks := [50, 100, 200, 500, 1000], list(map(str, ticks)))
    costs.grid(alpha=0.3)
    costs.legend(frameon=False, fontsize=8)
    save(figure, path)


def draw_scores(axis: Axes, rows: Rows, data: str, title: str) -> None:
    """A dot for each seed of each module."""
    names = [module for module in LABELS if (data, module) in rows]
    for place, module in enumerate(names):
        scores = mious(rows, data, module)
        options: dict[str, Any] = {"color": COLORS[module], "clip_on": False}
        axis.plot([place] * len(scores), scores, "o", **options)
    axis.set_xticks(range(len(names)), [LABELS[name] for name in names], rotation=35, ha="right")
    axis.set(ylabel="mIoU", title=title)
    axis.grid(alpha=0.3)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.parse_args()
    rows = grouped(read_rows(RESULTS))
    for table in (trained_table(rows, "scenes"), trained_table(rows, "camvid"), map_table(rows)):
        print(*table, "", sep="\n")
    plot(rows, RESULTS.with_suffix(".png"))


if __name__ == "__main__":
    main()
