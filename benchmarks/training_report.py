"""Print the tables of results/training.csv: loader, waiting time and training step.

python benchmarks/training_report.py [CSV]
"""

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

from training import RESULTS
from training_step import BASELINE, FORMS

SECONDS, GAIN = "seconds", "times as fast as plain float32"
PEAK, ADDED = "peak MiB with weights, momenta", "peak MiB that a step adds"

Table = dict[tuple[str, str], dict[str, float]]
"""(input, form) → quantity → value."""


def read(path: Path, part: str) -> dict[str, Table]:
    """The newest value of each quantity of one part of the benchmark, for each processor.

    The keys name the processor and its instructions for bfloat16.
    """
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
    yield from ("| input | form | quantity | value |", "|---|---|---|---|")
    for (name, form), quantities in table.items():
        for quantity, value in quantities.items():
            yield f"| {name} | {form} | {quantity} | {value:.3g} |"


def step_table(table: Table) -> Iterator[str]:
    """One line for each form; the memory relative to the plain float32 form is in brackets."""
    yield "| crop | form | seconds | speed-up | peak MiB | MiB added by the step |"
    yield "|---|---|---|---|---|---|"
    for crop in dict.fromkeys(name for name, _ in table):
        baseline = table[crop, BASELINE]
        for form in FORMS:
            quantities = table.get((crop, form), {})
            cells = [cell(quantities, name) for name in (SECONDS, GAIN)]
            cells += [cell(quantities, name, baseline) for name in (PEAK, ADDED)]
            if quantities:
                yield f"| {crop.removeprefix('1x3x')} | {form} | {' | '.join(cells)} |"


def cell(quantities: dict[str, float], name: str, baseline: dict[str, float] | None = None) -> str:
    """One quantity as text, followed by its ratio to that of the baseline, if one is given."""
    if name not in quantities:
        return "not measured"
    value = quantities[name]
    ratio = "" if baseline is None else f" ({value / baseline[name]:.2f})"
    return (f"{value:.3g}" if value < 1000 else f"{value:.0f}") + ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "csv", type=Path, nargs="?", default=RESULTS, help="CSV file that training.py has written"
    )
    path = parser.parse_args().csv
    for part, lines in (("loader", plain_table), ("waiting", plain_table), ("step", step_table)):
        for machine, table in read(path, part).items():
            print(f"{part}: {machine}\n", *lines(table), "", sep="\n")


if __name__ == "__main__":
    main()
