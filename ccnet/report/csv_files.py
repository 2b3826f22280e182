"""The tables of a report as CSV files, safe to open in a spreadsheet."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from ccnet.report.content import classes_content
from ccnet.report.evaluation import Evaluation
from ccnet.runtime.disk import write_whole

Row = Sequence[object]


def write_csv_files(folder: Path, evaluation: Evaluation) -> None:
    """Write classes.csv, images.csv, confusion.csv and label_errors.csv into a folder."""
    for name, rows in (
        ("classes.csv", class_rows(evaluation)),
        ("images.csv", image_rows(evaluation)),
        ("confusion.csv", confusion_rows(evaluation)),
        ("label_errors.csv", label_error_rows(evaluation)),
    ):
        write_csv(folder / name, rows)


def write_csv(path: Path, rows: Iterable[Row]) -> None:
    """Write rows; None is an empty cell, and text that a spreadsheet would compute gets a '.

    The bytes of file names that are no UTF-8 are written as \\xNN.
    """

    def write(target: Path) -> None:
        with target.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            csv.writer(file).writerows([plain(cell) for cell in row] for row in rows)

    write_whole(path, write)


def plain(cell: object) -> object:
    """A cell that no spreadsheet takes for a formula."""
    is_formula = isinstance(cell, str) and cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    return f"'{cell}" if is_formula else cell


def class_rows(evaluation: Evaluation) -> Iterator[Row]:
    names = (
        "iou",
        "boundary_iou",
        "accuracy",
        "precision",
        "labeled_pixels",
        "predicted_pixels",
        "images",
    )
    yield ("class", *names)
    for content in classes_content(evaluation):
        yield content["name"], *(content[name] for name in names)


def image_rows(evaluation: Evaluation) -> Iterator[Row]:
    yield "index", "image", "width", "height", "iou", "pixel_accuracy", "labeled_pixels"
    for row in evaluation.counts.rows:
        height, width = row.size
        yield row.index, row.name, width, height, row.iou, row.accuracy, row.labeled


def confusion_rows(evaluation: Evaluation) -> Iterator[Row]:
    """Pixels by the class of the label (rows) and the predicted class (columns)."""
    yield "label", *evaluation.classes
    for name, counts in zip(evaluation.classes, evaluation.counts.total().tolist(), strict=True):
        yield name, *counts


def label_error_rows(evaluation: Evaluation) -> Iterator[Row]:
    """Suspected label errors, the likeliest and largest first; `verdict` is for the annotators."""
    yield (
        *("rank", "image", "label", "prediction", "x", "y", "width", "height"),
        *("pixels", "confidence", "score", "verdict"),
    )
    classes = evaluation.classes
    for rank, region in enumerate(evaluation.errors.suspected(), start=1):
        yield (
            *(rank, region.name, classes[region.label], classes[region.prediction], *region.box),
            *(region.pixels, f"{region.confidence:.4f}", f"{region.score:.1f}", None),
        )
