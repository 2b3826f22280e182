"""Tables of results/training.csv for docs/performance.md: loader, waiting time, training step.

python benchmarks/training_report.py [CSV]
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

from training import RESULTS
from training_step import BASELINE, FORMS

SECONDS, GAIN = "seconds", "times as fast as plain float32"
PEAK, ADDED = "peak MiB with weights, momenta", "peak MiB that a step adds"

Table = dict[tuple[str, str], dict[str, float]]
"""(input, form) → quantity → value."""


def read(path: Path, part: str) -> dict[str, Table]:
    """The newest value of each quantity of one part of the benchmark, for each processor."""
    tables: dict[str, Table] = {}
    with path.open(newline="") as file:
        for row in csv.DictReader(file):
            if row["part"] == part:
                machine = f"{row['processor']}, bfloat16 units: {row['bfloat16_units']}"
                table = tables.setdefault(machine, {})
                quantities = table.setdefault((row["input"], row["form"]), {})
                quantities[row["quantity"]] = float(row["value"])
    return tables


def plain_table(table: Table) -> Iterator[str]:
    """One line for each quantity."""
    yield from ("| input | form | | value |", "|---|---|---|---|")
    for (given, form), quantities in table.items():
        for quantity, value in quantities.items():
            yield f"| {given} | {form} | {quantity} | {value:.3g} |"


def step_table(table: Table) -> Iterator[str]:
    """One line for each form; in brackets the memory relative to the plain float32 form."""
    yield "| crop | form | seconds | speed-up | peak MiB | MiB added by the step |"
    yield "|---|---|---|---|---|---|"
    for given in dict.fromkeys(given for given, _ in table):
        baseline = table[given, BASELINE]
        for form in FORMS:
            quantities = table.get((given, form), {})
            cells = [cell(quantities, name) for name in (SECONDS, GAIN)]
            cells += [cell(quantities, name, baseline) for name in (PEAK, ADDED)]
            if quantities:
                yield f"| {given.removeprefix('1x3x')} | {form} | {' | '.join(cells)} |"


def cell(quantities: dict[str, float], name: str, baseline: dict[str, float] | None = None) -> str:
    if name not in quantities:
        return "not measured"
    value = quantities[name]
    share = "" if baseline is None else f" ({value / baseline[name]:.2f})"
    return (f"{value:.3g}" if value < 1000 else f"{value:.0f}") + share


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else RESULTS
    for part, lines in (("loader", plain_table), ("waiting", plain_table), ("step", step_table)):
        for machine, table in read(path, part).items():
            print(f"{part}: {machine}\n", *lines(table), "", sep="\n")


if __name__ == "__main__":
    main()
