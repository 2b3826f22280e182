"""What training costs besides the operator, part by part, into results/training.csv.

    loader    images/s of one core: photographs of 2048×1024 to 769 crops, against the usual way

A row is one quantity of one form on one input. Forms are called in turns on the same inputs, after
a check that they give the same. On Linux the C library is told to keep freed memory, as in
attention.py: else what a form pays in page faults hangs on what was freed before it.

    python benchmarks/training.py [--parts loader] [--images 8] [--turns 15]
"""

import argparse
import csv
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import PIL
import torch
import training_loader
from attention import KEEP_MEMORY, processor

from ccnet.checkpoint import source_commit

RESULTS = Path(__file__).parent / "results" / "training.csv"
COLUMNS = ("date", "commit", "processor", "python", "torch", "numpy", "pillow", "part", "input")
COLUMNS += ("form", "quantity", "value", "spread", "turns")
PARTS: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, object]]]] = {
    "loader": training_loader.rows,
}


def facts() -> dict[str, object]:
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": source_commit(),
        "processor": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


def append(path: Path, row: dict[str, object]) -> None:
    is_new = not path.exists()
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--output", type=Path, default=RESULTS, help="CSV to append to")
    training_loader.add_arguments(parser)
    arguments = parser.parse_args()
    if platform.system() == "Linux" and not KEEP_MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})
    common = facts()
    for part in arguments.parts:
        for row in PARTS[part](arguments):
            append(arguments.output, {**common, "part": part, **row})
            print(*(str(row.get(key, "")).ljust(30) for key in COLUMNS[8:]), flush=True)


if __name__ == "__main__":
    main()
