"""Measure the parts of training other than the operator, and append them to results/training.csv.

    loader    images per second on one core, from photographs of 2048×1024 pixels to crops of
              769×769, compared with the usual way
    waiting   the share of the time of a training run that is spent waiting for images, with two
              workers; and the images per second of two workers when nothing else is computed
    step      time and peak memory of a training step, compared with the plain form of the network

A row is one quantity of one form on one input. The forms are first checked to give the same results
and then run alternately on the same inputs. On Linux the script restarts itself with settings that
make the C library keep freed memory, as attention.py does; without them the number of page faults
of a form would depend on what was freed before it.

    python benchmarks/training.py [--parts loader waiting step]
    python benchmarks/training.py --parts step --crops 321 769 --step-turns 3 [--device cuda]
"""

import argparse
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
from csv_rows import append_row

from ccnet.saving.run_folder import source_commit

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
    """The columns that are the same in all rows of one call."""
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
    """The processor's instructions for bfloat16, on Linux; "none" means that it is emulated."""
    flags = Path("/proc/cpuinfo")
    known = flags.read_text().split() if flags.exists() else []
    return " ".join(name for name in ("avx512_bf16", "amx_bf16") if name in known) or "none"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, default=list(PARTS), help="parts to measure"
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="CSV file to append to")
    for part in (training_loader, training_waiting, training_step):
        part.add_arguments(parser)
    arguments = parser.parse_args()
    if platform.system() == "Linux" and not KEEP_MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})
    common = facts()
    for part in arguments.parts:
        for row in PARTS[part](arguments):
            append_row(arguments.output, COLUMNS, {**common, "part": part, **row})
            print(*(str(row.get(key, "")).ljust(30) for key in COLUMNS[10:]), flush=True)


if __name__ == "__main__":
    main()
