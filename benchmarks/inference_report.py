"""Print the tables of results/inference.csv for docs/performance.md: times, rates, agreement.

python benchmarks/inference_report.py [CSV]
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

from inference import RESULTS
from inference_forms import FORMS

Row = dict[str, str]
Case = tuple[str, ...]
"""Backbone, weights, size, threads."""


def read(path: Path) -> dict[Case, dict[str, Row]]:
    """The newest row of each form, for each case."""
    cases: dict[Case, dict[str, Row]] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            case = tuple(row[key] for key in ("backbone", "weights", "size", "threads"))
            cases.setdefault(case, {})[row["form"]] = row
    return cases


def times_table(cases: dict[Case, dict[str, Row]]) -> Iterator[str]:
    """Seconds for each image, and how many times as fast as plain float32 that is."""
    names = [name for name in FORMS if any(name in rows for rows in cases.values())]
    yield f"| network, size, threads | {' | '.join(names)} |"
    yield "|---" * (len(names) + 1) + "|"
    for case, rows in cases.items():
        cells = [time_cell(rows[name]) if name in rows else "–" for name in names]
        yield f"| {title(case)} | {' | '.join(cells)} |"


def time_cell(row: Row) -> str:
    gain = "" if row["form"] == "plain" else f" ({float(row['gain']):.2f})"
    return f"{float(row['milliseconds']) / 1e3:.3g}{gain}"


def details_table(cases: dict[Case, dict[str, Row]]) -> Iterator[str]:
    """What else is known of our form and of plain bfloat16."""
    yield (
        "| network, size, threads | form | quartile distance, s | images/s | GFLOP/s | of the peak "
        "| error / plain's | same labels |"
    )
    yield "|---" * 8 + "|"
    for case, rows in cases.items():
        for name in ("plain", "ours", "plain bfloat16", "ours bfloat16"):
            if name in rows:
                yield f"| {title(case)} | {name} | {' | '.join(details(rows[name]))} |"


def details(row: Row) -> Iterator[str]:
    yield f"{float(row['spread']) / 1e3:.2g}"
    yield row["images_per_second"]
    rate, peak = float(row["gflop_per_second"]), float(row["peak_gflops"])
    yield f"{rate:.0f}"
    yield f"{rate / peak:.2f}"
    yield row["error_over_plain"]
    yield f"{100 * float(row['agreement']):.2f} %" if row["weights"] == "trained" else "–"


def title(case: Case) -> str:
    backbone, weights, size, threads = case
    name = backbone.replace("resnet", "ResNet-").replace("mobilenet_v2", "MobileNetV2")
    return f"{name}{', trained' * (weights == 'trained')}, {size.replace('x', '×')}, {threads}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "csv", type=Path, nargs="?", default=RESULTS, help="CSV file that inference.py has written"
    )
    cases = read(parser.parse_args().csv)
    print(*times_table(cases), "", *details_table(cases), sep="\n")


if __name__ == "__main__":
    main()
