"""Pictures of labels, of attention and of a run."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ccnet.transforms import IGNORE_INDEX

IGNORED_COLOUR = (255, 255, 255)
Palette = Sequence[Sequence[int]]


def colorize(labels: UInt8[np.ndarray, "h w"], palette: Palette) -> UInt8[np.ndarray, "h w 3"]:
    """Labels in their classes' colours; ignored pixels are white."""
    table = np.tile(np.array(IGNORED_COLOUR, np.uint8), (256, 1))
    table[: len(palette)] = palette
    table[IGNORE_INDEX] = IGNORED_COLOUR
    return table[labels]


def overlay(
    image: UInt8[np.ndarray, "h w 3"] | UInt16[np.ndarray, "h w 3"],
    labels: UInt8[np.ndarray, "h w"],
    palette: Palette,
    opacity: float = 0.5,
) -> UInt8[np.ndarray, "h w 3"]:
    """The labels' colours over an RGB image of 8 or 16 bits; ValueError for other channels."""
    if image.shape[2] != 3:
        raise ValueError(
            f"an overlay lies over an RGB image; this one has {image.shape[2]} channels"
        )
    if image.dtype == np.uint16:
        image = (image // 257).astype(np.uint8)
    mixed = (1 - opacity) * image + opacity * colorize(labels, palette)
    return mixed.round().astype(np.uint8)


def save_comparison(
    path: str | Path,
    samples: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    classes: Sequence[str],
    palette: Palette,
) -> None:
    """Rows of image, truth and prediction (RGB, labels, labels), with a legend."""
    figure, axes = new_grid(len(samples), ("image", "truth", "prediction"))
    for row, (image, truth, prediction) in zip(axes, samples, strict=True):
        pictures = (image, colorize(truth, palette), colorize(prediction, palette))
        for axis, picture in zip(row, pictures, strict=True):
            axis.imshow(picture, interpolation="nearest")
    handles = [
        Patch(facecolor="#" + bytes(colour).hex(), edgecolor="grey", label=name)
        for name, colour in zip([*classes, "ignored"], [*palette, IGNORED_COLOUR], strict=True)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(6, len(handles)))
    save(figure, path)


def save_attention(
    path: str | Path,
    rows: Sequence[
        tuple[np.ndarray, tuple[int, int], Sequence[Float[np.ndarray, "feature_h feature_w"]]]
    ],
) -> None:
    """Rows of image, pixel (x, y) in it, and where it looks: a map for one pass, two passes, ..."""
    counts = ("one pass", "two passes", *(f"{n} passes" for n in range(3, 100)))
    num_maps = max(len(maps) for *_, maps in rows)
    figure, axes = new_grid(len(rows), ("image and pixel", *counts[:num_maps]))
    for row, (image, (x, y), maps) in zip(axes, rows, strict=True):
        height, width = image.shape[:2]
        row[0].imshow(image, interpolation="nearest")
        row[0].plot(x, y, "o", color="white", markeredgecolor="black", markersize=8)
        for axis, weights in zip(row[1:], maps, strict=False):
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            axis.imshow(image.mean(axis=2), cmap="gray", alpha=0.4)
            # the square root keeps small weights visible
            axis.imshow(
                np.sqrt(weights), cmap="magma", extent=extent, alpha=0.8, interpolation="nearest"
            )
            axis.plot(x, y, "o", color="white", markeredgecolor="black", markersize=8)
            axis.set_xlim(-0.5, width - 0.5)
            axis.set_ylim(height - 0.5, -0.5)
    save(figure, path)


def save_curves(path: str | Path, log: str | Path) -> None:
    """Loss and validation mIoU by step, from a run's log.csv."""
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


def new_grid(num_rows: int, titles: Sequence[str]):
    figure = Figure(figsize=(2.4 * len(titles), 2.4 * num_rows + 0.6), layout="constrained")
    axes = figure.subplots(num_rows, len(titles), squeeze=False)
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title)
    return figure, axes


def save(figure: Figure, path: str | Path) -> None:
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    FigureCanvasAgg(figure).print_figure(str(path), dpi=120)
