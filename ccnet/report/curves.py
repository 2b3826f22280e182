"""The progress of a training run as a picture."""

import csv
from pathlib import Path

from matplotlib.figure import Figure

from ccnet.report.pictures import save


def save_curves(path: str | Path, log: str | Path) -> None:
    """Draw training loss and validation mIoU over the steps, from the log.csv of a run."""
    with Path(log).open(newline="") as file:
        rows = list(csv.DictReader(file))
    figure = Figure(figsize=(8, 3), layout="constrained")
    for axis, column, title in zip(
        figure.subplots(1, 2), ("loss", "miou"), ("training loss", "validation mIoU"), strict=True
    ):
        points = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
        if points:
            axis.plot(*zip(*points, strict=True), marker="." if len(points) < 50 else None)
        axis.set_title(title)
        axis.set_xlabel("step")
        axis.grid(alpha=0.3)
    save(figure, path)
