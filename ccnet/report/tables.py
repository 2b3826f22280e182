"""What commands print: tables of scores, of an exported file, and of a data set."""

from collections.abc import Sequence

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ccnet.datasets.check import DataReport
from ccnet.export.agreement import Agreement
from ccnet.metrics import Scores
from ccnet.runtime.files import printable

ROWS_SHOWN = 10
"""Longest list of files or problems that is printed; the JSON report has them all."""
SIZES_SHOWN = 5


def text(content: str, style: str = "") -> Text:
    """Text whose names of files and classes send nothing to the terminal."""
    return Text(printable(content), style)


def scores_table(scores: Scores, title: str) -> Table:
    """The intersection over union of each class and the means, in percent."""
    table = Table("class", "IoU %", title=text(title))
    for name, iou in scores.iou.items():
        table.add_row(text(name), "absent" if iou is None else f"{100 * iou:.2f}")
    table.add_section()
    table.add_row("mean (mIoU)", f"{100 * scores.miou:.2f}")
    table.add_row("pixel accuracy", f"{100 * scores.pixel_accuracy:.2f}")
    table.add_row("mean accuracy", f"{100 * scores.mean_accuracy:.2f}")
    return table


def agreement_table(rows: Sequence[Agreement], title: str) -> Table:
    """How an exported file compares with PyTorch, one row per image size."""
    table = Table(title=text(title))
    for column in ("images", "size", "largest difference", "same class %", "PyTorch ms", "file ms"):
        table.add_column(column, justify="right")
    for row in rows:
        num_images, height, width = row.size
        numbers = f"{100 * row.labels:.3f}", f"{row.torch_ms:.1f}", f"{row.export_ms:.1f}"
        table.add_row(str(num_images), f"{height}×{width}", f"{row.difference:.1e}", *numbers)
    return table


def data_summary(report: DataReport) -> Group:
    """What `check_dataset` found: counts, classes, problems, warnings and the verdict."""
    sizes = [f"{w}×{h} ({count})" for (h, w), count in report.sizes.most_common()]
    verdict = Text("fit for training", "bold green")
    if not report.fit:
        verdict = text(f"not fit for training: {'; '.join(report.problems)}", "bold red")
    problems = _all_problems(report)
    rest = len(problems) - ROWS_SHOWN
    return Group(
        text(f"{report.root} · {report.split} · {report.layout}"),
        Text(
            f"{report.num_pairs} pairs, {report.num_usable} usable; "
            f"sizes {_cut(sizes, SIZES_SHOWN)}"
        ),
        _class_table(report),
        *(text(f"{title}: {_cut(names, ROWS_SHOWN)}") for title, names in _file_lists(report)),
        *(text(problem) for problem in problems[:ROWS_SHOWN]),
        *([Text(f"and {rest} more like these")] if rest > 0 else []),
        *(text(f"warning: {warning}", style="yellow") for warning in report.warnings),
        verdict,
    )


def _class_table(report: DataReport) -> Table:
    table = Table("class")
    for column in ("pixels", "share of labeled", "images", "weight"):
        table.add_column(column, justify="right")
    frequencies, weights = report.frequencies, report.class_weights
    for i, name in enumerate(report.classes):
        weight = "–" if weights[i] is None else f"{weights[i]:.4f}"
        pixels, images = f"{report.class_pixels[i]:,}", str(report.class_images[i])
        table.add_row(text(f"{i} {name}"), pixels, f"{frequencies[i]:.2%}", images, weight)
    table.add_row("ignored", f"{report.ignored_pixels:,}", f"({report.ignored_share:.2%} of all)")
    return table


def _file_lists(report: DataReport) -> list[tuple[str, list[str]]]:
    lists = {
        "images without a label": report.unmatched_images,
        "labels without an image": report.unmatched_labels,
        "listed but missing": report.missing,
    }
    return [(title, names) for title, names in lists.items() if names]


def _all_problems(report: DataReport) -> list[str]:
    bad_values = [
        f"{name}: {value}: no class has it"
        for name, values in report.bad_values.items()
        for value in values
    ]
    problems = report.unreadable + report.size_mismatches
    return [problem.message for problem in problems] + bad_values


def _cut(items: list[str], limit: int) -> str:
    rest = f", and {len(items) - limit} more" if len(items) > limit else ""
    return ", ".join(items[:limit]) + rest
