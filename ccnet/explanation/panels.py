"""What all pictures of an explanation share: panels with the image, a map, marks and color bars."""

import warnings
from pathlib import Path
from textwrap import wrap
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator

from ccnet.explanation.explaining import Explanation
from ccnet.explanation.grid import Pixel
from ccnet.explanation.overlay import DOT, Scale, luminance
from ccnet.report.pictures import save

Picture = UInt8[np.ndarray, "h w 3"]
POINT, OTHER = "#" + bytes(DOT).hex(), "#56b4e9"
"""Colors of the explained pixel and of a second one."""
OUTLINE = [patheffects.withStroke(linewidth=4, foreground="white")]
PANEL = 4.0
"""Inches of a panel's longer side."""
LONGEST_SHOWN = 1200
"""Pixels of a panel's longer side; what is larger is drawn from every second or third pixel."""
OPACITY = 0.75
TEXT: dict[str, Any] = {"parse_math": False}
"""Names of classes and files may contain $."""


def new_panels(
    image: Picture, rows: int, columns: int, *, note: str, panel: float = PANEL
) -> tuple[Figure, np.ndarray]:
    """A figure with panels (rows, columns) of the image's shape, and a note in plain words below.

    Args:
        image: whose shape the panels get.
        rows, columns: how many.
        note: paragraphs, which are wrapped at the figure's width.
        panel: inches of a panel's longer side.
    """
    height, width = image.shape[:2]
    ratio = min(max(height / width, 0.4), 1.6)
    width = max(panel if ratio <= 1 else panel / ratio, 3.2)
    size = columns * (width + 1.0), rows * (width * ratio + 0.75)
    lines = [line for text in note.split("\n") for line in wrap(text, int(12.5 * size[0]))]
    figure = Figure(figsize=(size[0], size[1] + 0.17 * len(lines) + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    place = {"x": 0.01, "ha": "left", "fontsize": 9.5, "color": "#333333"}
    figure.supxlabel("\n".join(lines), **place, **TEXT)
    return figure, axes


def set_title(axis: Axes, text: str) -> None:
    axis.set_title(text, fontsize=10.5, loc="left", **TEXT)


def show_image(axis: Axes, image: Picture, explanation: Explanation) -> None:
    """The whole image with the ring; a frame around the part that the network sees at once."""
    height, width = image.shape[:2]
    draw_image(axis, image)
    if not explanation.grid.is_whole:
        left, right, bottom, top = explanation.grid.extent()
        frame = Rectangle((left, top), right - left, bottom - top, fill=False, color="white")
        frame.set(linewidth=2, path_effects=[patheffects.withStroke(linewidth=4)])
        axis.add_patch(frame)
    axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    draw_marks(axis, explanation)


def show_map(
    axis: Axes,
    image: Picture,
    explanation: Explanation,
    map: Float[np.ndarray, "_ _"],
    scale: Scale,
    label: str,
    *,
    in_percent: bool = False,
    beyond: str = "neither",
    gray_zeros: bool = False,
) -> None:
    """A map over the image in gray, with the ring, a color bar and coordinates of the image.

    Args:
        axis: where to draw.
        image: the whole image.
        explanation: which pixel is explained, and where the map lies.
        map: the values.
        scale: how they become colors.
        label: of the color bar.
        in_percent: whether the color bar shows shares as percentages.
        beyond: "max" or "both" for a color bar with an arrow, where a value lies beyond it.
        gray_zeros: whether the image stays gray where the map is 0.
    """
    draw_image(axis, luminance(image))
    left, right, bottom, top = explanation.grid.extent()
    axis.imshow(
        map,
        cmap=scale.colors,
        norm=scale.norm,
        extent=(left, right, bottom, top),
        alpha=OPACITY * ((map != 0) | (not gray_zeros)),
        interpolation="nearest",
    )
    height, width = image.shape[:2]
    axis.set_xlim(max(left, -0.5), min(right, width - 0.5))
    axis.set_ylim(min(bottom, height - 0.5), max(top, -0.5))
    draw_marks(axis, explanation)
    draw_color_bar(axis, scale, label, in_percent=in_percent, beyond=beyond)


def draw_color_bar(axis: Axes, scale: Scale, label: str, *, in_percent: bool, beyond: str) -> None:
    """A color bar as high as the panel beside it."""
    figure = axis.get_figure()
    assert isinstance(figure, Figure)
    place = axis.inset_axes((1.025, 0, 0.04, 1))
    bar = figure.colorbar(ScalarMappable(scale.norm, scale.colors), cax=place, extend=beyond)
    bar.set_label(label, fontsize=9)
    bar.ax.tick_params(labelsize=8)
    low, high = scale.norm.vmin, scale.norm.vmax
    assert low is not None
    assert high is not None
    if isinstance(scale.norm, LogNorm):
        ticks = [n for n in (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000) if low <= n <= high]
    else:  # where the square root is at thirds
        ticks = [
            share * high
            for share in ((0, 1 / 9, 4 / 9, 1) if low == 0 else (-1, -0.25, 0, 0.25, 1))
        ]
    bar.set_ticks(ticks, labels=[percent(x) if in_percent else f"{x:.2g}" for x in ticks])
    bar.ax.minorticks_off()


def draw_marks(axis: Axes, explanation: Explanation) -> None:
    """A ring around the explained pixel, and a square at the second one if there is one."""
    if explanation.to is not None:
        draw_outline(axis, explanation.to, "s", OTHER)
    draw_outline(axis, explanation.point, "o", POINT)


def draw_image(axis: Axes, image: Picture) -> None:
    """An image with its coordinates at the edges; of a large one not every pixel is drawn."""
    height, width = image.shape[:2]
    step = -(-max(height, width) // LONGEST_SHOWN)
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axis.imshow(image[::step, ::step], extent=extent, interpolation="nearest")
    axis.tick_params(labelsize=8, length=2, colors="#666666")
    for ticks in (axis.xaxis, axis.yaxis):
        ticks.set_major_locator(MaxNLocator(5, integer=True))


def draw_outline(axis: Axes, pixel: Pixel, marker: str, color: str) -> None:
    """A ring or a square around a pixel, which leaves visible what is in it."""
    look = {"markersize": 13, "markerfacecolor": "none", "markeredgewidth": 2.2, "zorder": 4}
    axis.plot(*pixel, marker, markeredgecolor=color, path_effects=OUTLINE, **look)


def percent(share: float) -> str:
    """A share as people write it: 12 %, 1.2 %, 0.012 %, < 0.001 %, 0 %."""
    if 0 < share < 1e-5:
        return "< 0.001 %"
    return f"{100 * share:.2g} %" if share < 0.0995 else f"{100 * share:.0f} %"


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as a PNG. Letters that the font lacks, as of Chinese names, become boxes."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from font")
        save(figure, path)
