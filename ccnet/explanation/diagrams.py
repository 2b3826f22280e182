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
LARGEST_SHOWN = 512
"""Side of the largest feature map in the plot of costs."""
PUBLISHED = 97
"""Side of the feature map of a 769×769 image, for which the paper compares costs."""


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


def cost_figure() -> Figure:
    """Weights of a full attention and of two passes of criss-cross attention, by the map's size."""
    figure = Figure(figsize=(6.4, 4.2), layout="constrained")
    axis = figure.subplots()
    sides = np.arange(8, LARGEST_SHOWN + 1)
    full, criss_cross = sides.astype(float) ** 4, 2.0 * sides**2 * (2 * sides - 1)
    axis.loglog(sides, full, color=POINT, linewidth=2.5)
    axis.loglog(sides, criss_cross, color=FIRST, linewidth=2.5)
    axis.annotate("N²", (sides[-1], full[-1]), (-52, -2), textcoords="offset points", color=POINT)
    label = "2 · N · (H + W − 1)"
    axis.annotate(
        label, (sides[-1], criss_cross[-1]), (-112, -22), textcoords="offset points", color=FIRST
    )
    place = np.flatnonzero(sides == PUBLISHED)[0]
    axis.axvline(PUBLISHED, color="#999999", linewidth=1, linestyle="--")
    times = full[place] / criss_cross[place]
    axis.annotate(
        f"97 × 97: {times:.0f}×",
        (PUBLISHED, (full[place] * criss_cross[place]) ** 0.5),
        (8, -4),
        textcoords="offset points",
    )
    ticks = [8, 16, 32, 64, 128, 256, 512]
    axis.set_xticks(ticks, [f"{side}²" for side in ticks])
    axis.set(xlabel="N = H · W", ylabel="attention weights")
    axis.minorticks_off()
    axis.grid(alpha=0.3)
    axis.spines[["top", "right"]].set_visible(False)
    return figure


def axes_figure() -> Figure:
    """How columns and rows become batches of matrix products: (C', H, W) cut in two ways."""
    figure = Figure(figsize=(11, 5.4), layout="constrained")
    kinds = (("column", "H", "W"), ("row", "W", "H"))
    for axes, (cut, length, number) in zip(figure.subplots(2, 3), kinds, strict=True):
        map_axis, product_axis, result_axis = axes
        draw_cells(map_axis, stripes(cut))
        map_axis.set_title(f"C′ × H × W, cut into {number} {cut}s", fontsize=11)
        draw_product(product_axis, length)
        product_axis.set_title(f"{number} products Q · Kᵀ", fontsize=11)
        draw_stack(result_axis, length)
        result_axis.set_title(f"{number} matrices {length} × {length}", fontsize=11)
    return figure


def on_cross(pixel: tuple[int, int]) -> np.ndarray:
    """Which cells (height, width) share the row or the column of a pixel."""
    rows, columns = np.ogrid[:HEIGHT, :WIDTH]
    return (rows == pixel[0]) | (columns == pixel[1])


def stripes(cut: str) -> np.ndarray:
    """Cells whose every second column, or row, is marked."""
    rows, columns = np.indices((HEIGHT, WIDTH))
    return 1 + (columns if cut == "column" else rows) % 2


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


def draw_product(axis: Axes, length: str) -> None:
    """Q of one line times Kᵀ of it gives its matrix of scores."""
    texts = {"ha": "center", "va": "center", "fontsize": 12}
    for left, top, width, height, name, rows, columns in (
        (0.0, 0.0, 1.2, 3.0, "Q", length, "C′"),
        (2.2, 0.9, 3.0, 1.2, "Kᵀ", "C′", length),
        (6.4, 0.0, 3.0, 3.0, "scores", length, length),
    ):
        box = Rectangle((left, top), width, height, facecolor=SEEN, edgecolor="black")
        axis.add_patch(box)
        axis.text(left + width / 2, top + height / 2, name, **texts)
        axis.text(left - 0.3, top + height / 2, rows, color="#555555", **texts)
        axis.text(left + width / 2, top - 0.3, columns, color="#555555", **texts)
    axis.text(1.55, 1.5, "·", **texts)
    axis.text(5.75, 1.5, "=", **texts)
    axis.set(xlim=(-0.8, 9.8), ylim=(3.5, -0.8), aspect="equal")
    axis.set_axis_off()


def draw_stack(axis: Axes, length: str) -> None:
    """Matrices one behind the other; the diagonal is where a pixel meets itself."""
    for depth in range(4, -1, -1):
        left, top = 0.35 * depth, -0.35 * depth
        color = ALL_SEEN if depth % 2 else SEEN
        axis.add_patch(Rectangle((left, top), 3, 3, facecolor=color, edgecolor="black"))
    cell = 3 / HEIGHT
    for index in range(HEIGHT):
        color = "white" if length == "H" else POINT
        box = Rectangle((index * cell, index * cell), cell, cell, facecolor=color, edgecolor="gray")
        axis.add_patch(box)
    note = "diagonal −∞: u is left out" if length == "H" else "diagonal: u itself, once"
    axis.text(1.5, 3.5, note, ha="center", va="top", fontsize=10)
    axis.set(xlim=(-0.8, 5.2), ylim=(4.2, -2.0), aspect="equal")
    axis.set_axis_off()


FIGURES = {
    "cross": cross_figure,
    "recurrence": recurrence_figure,
    "corners": corners_figure,
    "cost": cost_figure,
    "axes": axes_figure,
}
"""All diagrams by name."""
