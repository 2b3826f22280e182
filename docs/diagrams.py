"""Diagrams that explain criss-cross attention itself, with few words, for pages in any language."""

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from ccnet.explanation.panels import OUTLINE, POINT

HEIGHT, WIDTH = 7, 9
PIXEL = (4, 2)
"""Row and column of the pixel u in all diagrams."""
OTHER_PIXEL = (1, 6)
EMPTY, FIRST, SECOND = "#f2f2f2", "#0072b2", "#e69f00"
SEEN, ALL_SEEN = "#7fb8d8", "#f3d08b"
"""Colors of what one pass sees, and of what the second one adds."""


def cross_figure() -> Figure:
    """What one pass of a full attention sees, and what one of criss-cross attention does."""
    figure = Figure(figsize=(8.4, 3.6), layout="constrained")
    full, cross = figure.subplots(1, 2)
    draw_cells(full, np.full((HEIGHT, WIDTH), 1))
    draw_cells(cross, on_cross(PIXEL).astype(int))
    full.set_title("H · W", fontsize=12)
    cross.set_title("H + W − 1", fontsize=12)
    for axis in (full, cross):
        mark(axis, PIXEL, "u")
    return figure


def recurrence_figure() -> Figure:
    """What the pixel u knows of: before, after one pass, after two."""
    figure = Figure(figsize=(11.5, 3.4), layout="constrained")
    start, once, twice = figure.subplots(1, 3)
    cross = on_cross(PIXEL).astype(int)
    alone = np.zeros((HEIGHT, WIDTH), int)
    alone[PIXEL] = 1
    for axis, cells, title in (
        (start, alone, "R = 0"),
        (once, cross, "R = 1"),
        (twice, 2 - cross, "R = 2"),
    ):
        draw_cells(axis, cells)
        mark(axis, PIXEL, "u")
        axis.set_title(title, fontsize=12)
    return figure


def corners_figure() -> Figure:
    """How what is at θ comes to u in two passes, through the two corners (paper figure 4)."""
    figure = Figure(figsize=(8.6, 3.6), layout="constrained")
    axes = figure.subplots(1, 2)
    corners = [(PIXEL[0], OTHER_PIXEL[1]), (OTHER_PIXEL[0], PIXEL[1])]
    cells = (on_cross(OTHER_PIXEL).astype(int), on_cross(PIXEL).astype(int))
    for number, (axis, seen) in enumerate(zip(axes, cells, strict=True), start=1):
        draw_cells(axis, seen)
        axis.set_title(f"pass {number}", fontsize=12)
        for corner in corners:
            start, end = (OTHER_PIXEL, corner) if number == 1 else (corner, PIXEL)
            draw_arrow(axis, start, end, FIRST if number == 1 else SECOND)
            axis.plot(corner[1], corner[0], "D", color="white", markeredgecolor="black", zorder=4)
        mark(axis, PIXEL, "u")
        mark(axis, OTHER_PIXEL, "θ", color=FIRST)
    return figure


def on_cross(pixel: tuple[int, int]) -> np.ndarray:
    """Which cells (height, width) share the row or the column of a pixel."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    return (rows == pixel[0]) | (columns == pixel[1])


def draw_cells(axis: Axes, kinds: np.ndarray) -> None:
    """Cells of a feature map: 0 empty, 1 seen in one pass, 2 in the second."""
    colors = (EMPTY, SEEN, ALL_SEEN)
    for (row, column), kind in np.ndenumerate(kinds):
        place = (column - 0.5, row - 0.5)
        axis.add_patch(Rectangle(place, 1, 1, facecolor=colors[kind], edgecolor="white", lw=1.5))
    axis.set(xlim=(-0.6, kinds.shape[1] - 0.4), ylim=(kinds.shape[0] - 0.4, -0.6), aspect="equal")
    axis.set_axis_off()


def mark(axis: Axes, pixel: tuple[int, int], name: str, color: str = POINT) -> None:
    row, column = pixel
    axis.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=color, zorder=4))
    place = {"ha": "center", "va": "center", "color": "white", "fontsize": 13, "zorder": 5}
    axis.text(column, row, name, weight="bold", **place)


def draw_arrow(axis: Axes, start: tuple[int, int], end: tuple[int, int], color: str) -> None:
    look = {"arrowstyle": "-|>", "mutation_scale": 20, "linewidth": 3, "shrinkA": 12, "shrinkB": 9}
    arrow = FancyArrowPatch(start[::-1], end[::-1], color=color, path_effects=OUTLINE, **look)
    arrow.set_zorder(3)
    axis.add_patch(arrow)
