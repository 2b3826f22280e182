"""Repeat the paper's ablation in minutes: mIoU on the embedded scenes for R = 0, 1, 2, 3 passes.

Trains one network for each number of passes and each seed, appends one row per run to
results/recurrence.csv, and plots all rows in results/recurrence.png. Runs that the CSV file already
contains are not repeated; delete the file to start again.

    python benchmarks/recurrence.py [--seeds 3] [--passes 0 1 2 3] [--plot-only]
"""

import argparse
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from csv_rows import append_row, read_rows
from matplotlib.figure import Figure

from ccnet.datasets import Scenes
from ccnet.demo import SCENES
from ccnet.prediction.evaluate import evaluate
from ccnet.prediction.predictor import Predictor
from ccnet.report.pictures import save
from ccnet.saving.run_folder import source_commit
from ccnet.training.loop import train

RESULTS = Path(__file__).parent / "results"
COLUMNS = ("recurrence", "seed", "miou", "ground", "red", "green", "blue", "seconds", "steps")
COLUMNS += ("threads", "torch", "commit")


def run(recurrence: int, seed: int) -> dict[str, object]:
    """Train one network, evaluate it on 1000 held-out scenes, and return its row."""
    config = replace(SCENES, seed=seed, model=replace(SCENES.model, recurrence=recurrence))
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        train(config, Path(folder) / "run")
        predictor = Predictor(Path(folder) / "run" / "last", device="cpu")
    seconds = time.perf_counter() - start
    scores = evaluate(predictor, Scenes("test", num_images=1000))
    return {
        "recurrence": recurrence,
        "seed": seed,
        "miou": f"{scores.miou:.4f}",
        **{name: f"{iou:.4f}" for name, iou in scores.iou.items() if iou is not None},
        "seconds": f"{seconds:.1f}",
        "steps": config.steps,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "commit": source_commit(),
    }


def by_recurrence(rows: list[dict[str, str]]) -> dict[int, list[float]]:
    """The mIoU of each seed, for each number of passes."""
    passes = sorted({int(row["recurrence"]) for row in rows})
    return {r: [float(row["miou"]) for row in rows if int(row["recurrence"]) == r] for r in passes}


def table(rows: list[dict[str, str]]) -> str:
    """The Markdown table of docs/results.md."""
    lines = ["| R | mIoU of each seed | mean | range |", "|---|---|---|---|"]
    for recurrence, scores in by_recurrence(rows).items():
        each = ", ".join(f"{score:.3f}" for score in scores)
        mean, spread = statistics.mean(scores), max(scores) - min(scores)
        lines.append(f"| {recurrence} | {each} | **{mean:.3f}** | {spread:.3f} |")
    return "\n".join(lines)


def plot(rows: list[dict[str, str]], path: Path) -> None:
    scores = by_recurrence(rows)
    figure = Figure(figsize=(5, 3), layout="constrained")
    axis = figure.subplots()
    axis.plot(
        list(scores),
        [statistics.mean(values) for values in scores.values()],
        color="gray",
        label="mean",
    )
    for recurrence, values in scores.items():
        axis.plot([recurrence] * len(values), values, "o", color="tab:blue")
    axis.plot([], [], "o", color="tab:blue", label="one training run")
    axis.set(xlabel="passes of criss-cross attention, R", ylabel="mIoU on held-out scenes")
    axis.set(ylim=(0, 1.03), xticks=list(scores), title="Two passes see the whole image")
    axis.grid(alpha=0.3)
    axis.legend(frameon=False, loc="lower right")
    save(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--seeds", type=int, default=3, help="number of seeds, beginning with 0 (default: 3)"
    )
    parser.add_argument(
        "--passes",
        type=int,
        nargs="+",
        default=[0, 1, 2, 3],
        help="numbers of passes to train (default: 0 1 2 3)",
    )
    parser.add_argument(
        "--plot-only",
        action="store_true",
        help="train nothing; draw the plot and print the table from the CSV file",
    )
    arguments = parser.parse_args()
    path = RESULTS / "recurrence.csv"
    if not arguments.plot_only:
        done = {(int(row["recurrence"]), int(row["seed"])) for row in read_rows(path)}
        for seed in range(arguments.seeds):
            for recurrence in arguments.passes:
                if (recurrence, seed) not in done:
                    append_row(path, COLUMNS, run(recurrence, seed))
    plot(read_rows(path), path.with_suffix(".png"))
    print(table(read_rows(path)))


if __name__ == "__main__":
    main()
