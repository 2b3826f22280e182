"""Images beside their labels, and what all pictures share: the grid and the file."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ccnet.images.colors import IGNORED_COLOR, Palette, colorize
from ccnet.runtime.disk import write_whole

MOST_NAMED = 24
"""Classes in a legend."""
LINE = 72
"""Characters of a line of a legend."""


def save_comparison(
    path: str | Path,
    samples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    classes: Sequence[str],
    palette: Palette,
) -> None:
    """Draw rows of image, true labels and predicted labels, with a legend of the classes.

    Of many classes the legend has those that occur most in the pictures.

    Args:
        path: PNG file; missing folders are made.
        samples: image (RGB), true and predicted labels.
        classes, palette: one name and one RGB color per class.
    """
    figure, axes = new_grid(len(samples), ("image", "truth", "prediction"))
    for row, (image, truth, prediction) in zip(axes, samples, strict=True):
        pictures = (image, colorize(truth, palette), colorize(prediction, palette))
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
    named = classes_to_name(samples, len(classes))
    names, colors = [classes[i] for i in named], [palette[i] for i in named]
    others = len(classes) - len(named)
    ignored = f"ignored, and {others} other classes" if others else "ignored"
    handles = [
        Patch(facecolor="#" + bytes(color).hex(), edgecolor="gray", label=name)
        for name, color in zip([*names, ignored], [*colors, IGNORED_COLOR], strict=True)
    ]
    columns = min(6, len(handles), LINE // (max(map(len, names)) + 4))
    figure.legend(handles=handles, loc="outside lower center", ncols=max(1, columns))
    save(figure, path)


def classes_to_name(
    samples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], num_classes: int
) -> list[int]:
    """All classes, or where they are too many for a legend the most frequent that occur."""
    if num_classes <= MOST_NAMED:
        return list(range(num_classes))
    counts = sum(
        np.bincount(label.ravel(), minlength=256) for _, *labels in samples for label in labels
    )
    assert isinstance(counts, np.ndarray)
    present = np.argsort(-counts[:num_classes], kind="stable")[:MOST_NAMED]
    return sorted(present[counts[present] > 0].tolist())


def new_grid(num_rows: int, titles: Sequence[str]) -> tuple[Figure, np.ndarray]:
    """A figure and its axes (num_rows, len(titles)), without ticks; titles above the first row."""
    figure = Figure(figsize=(2.4 * len(titles), 2.4 * num_rows + 0.6), layout="constrained")
    axes = figure.subplots(num_rows, len(titles), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure, axes


def save(figure: Figure, path: str | Path) -> None:
    """Write a figure as a PNG; missing folders are made. Needs no display."""
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_figure(buffer, dpi=120)
    write_whole(Path(path), lambda file: file.write_bytes(buffer.getbuffer()))
