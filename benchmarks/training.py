"""What training costs besides the operator, part by part, into results/training.csv.

    loader    images/s of one core: photographs of 2048×1024 to 769 crops, against the usual way
    waiting   the share of a training run in which there were no images, with two workers; and the
              images/s of two workers while nobody else computes
    step      time and peak memory of a training step, against the network's plain form

A row is one quantity of one form on one input. Forms are called in turns on the same inputs, after
a check that they give the same. On Linux the C library is told to keep freed memory, as in
attention.py: else what a form pays in page faults hangs on what was freed before it.

    python benchmarks/training.py [--parts loader waiting step]
    python benchmarks/training.py --parts step --crops 321 769 --step-turns 3 [--device cuda]
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
import training_step
import training_waiting
from attention import KEEP_MEMORY, processor

from ccnet.training.run_folder import source_commit

RESULTS = Path(__file__).parent / "results" / "training.csv"
COLUMNS: tuple[str, ...] = (
    "date",
    "commit",
    "processor",
    "bfloat16_units",
    "threads",
    "python",
    "torch",
)
COLUMNS += ("numpy", "pillow", "part", "input", "form", "quantity", "value", "spread", "turns")
PARTS: dict[str, Callable[[argparse.Namespace], Iterator[dict[str, object]]]] = {
    "loader": training_loader.rows,
    "waiting": training_waiting.rows,
    "step": training_step.rows,
}


def facts() -> dict[str, object]:
    return {
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "commit": source_commit(),
        "processor": processor(),
        "bfloat16_units": bfloat16_units(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


def bfloat16_units() -> str:
    """Instructions for bfloat16 that the processor has, on Linux; without any it is emulated."""
    flags = Path("/proc/cpuinfo")
    known = flags.read_text().split() if flags.exists() else []
    return " ".join(name for name in ("avx512_bf16", "amx_bf16") if name in known) or "none"


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
    for part in (training_loader, training_waiting, training_step):
        part.add_arguments(parser)
    arguments = parser.parse_args()
    if platform.system() == "Linux" and not KEEP_MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})
    common = facts()
    for part in arguments.parts:
        for row in PARTS[part](arguments):
            append(arguments.output, {**common, "part": part, **row})
            print(*(str(row.get(key, "")).ljust(30) for key in COLUMNS[10:]), flush=True)


if __name__ == "__main__":
    main()
