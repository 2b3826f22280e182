"""Draw the picture at the top of the README: scenes, labels, predictions and attention weights.

Uses the model that `make demo` trains, and writes docs/scenes.png.

    python benchmarks/readme_picture.py [--model runs/demo/model]
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ccnet import Predictor
from ccnet.datasets import Scenes
from ccnet.explanation import explain
from ccnet.images.colors import IGNORED_COLOR, colorize
from ccnet.report.pictures import save

PICTURE = Path(__file__).parents[1] / "docs" / "scenes.png"
TITLES = (
    "image",
    "true labels",
    "CCNet's prediction",
    "where the white dot looks:\none pass of attention",
    "where the white dot looks:\ntwo passes",
)
EXPLANATION = """\
Every gray shape has the class of the colored square.
A shape alone does not tell its class: the network
has to find the square.

One pass sees the row and the column of the dot.
It looks at the two corners between dot and square.

Two passes see the whole image:
through the corners, the dot looks at the square."""
BEACONS = ("red", "green")  # one row for each; the first one shows the attention
RING = {"marker": "o", "markersize": 15, "markerfacecolor": "none", "markeredgewidth": 2}
DOT = {"marker": "o", "markersize": 8, "color": "white", "markeredgecolor": "black"}
GLOW = (1.0, 0.65, 0.0)
MARGIN = 6  # pixels

Pixel = tuple[int, int]
"""(x, y)"""


def find_beacon(image: UInt8[np.ndarray, "h w 3"]) -> Pixel:
    """The center of the one saturated square of a scene."""
    saturation = np.ptp(image.astype(int), axis=2)
    y, x = np.argwhere(saturation > saturation.max() / 2).mean(axis=0).round().astype(int)
    return int(x), int(y)


def farthest_shape_pixel(label: UInt8[np.ndarray, "h w"], beacon: Pixel) -> Pixel:
    """The pixel inside a shape that is farthest from the row and the column of the beacon.

    Pixels at the border of the image are left out.
    """
    is_shape = np.isin(label, range(1, len(Scenes.classes)))
    is_shape[:MARGIN], is_shape[-MARGIN:] = False, False
    is_shape[:, :MARGIN], is_shape[:, -MARGIN:] = False, False
    windows = np.lib.stride_tricks.sliding_window_view(np.pad(is_shape, 2), (5, 5))
    inner = np.argwhere(windows.mean(axis=(2, 3)) > 0.8)
    y, x = inner[np.abs(inner - beacon[::-1]).min(axis=1).argmax()]
    return int(x), int(y)


def first_with(scenes: Scenes, color: str) -> int:
    """Index of the first scene whose shapes have the class of the given color."""
    index_of_class = scenes.classes.index(color)
    return next(i for i in range(len(scenes)) if (scenes[i][1] == index_of_class).any())


def draw_labels(row: Sequence[Axes], predictor: Predictor, scenes: Scenes, index: int) -> None:
    """Draw the image, the true labels and the prediction of one scene."""
    image, label = scenes[index]
    prediction = predictor.predict(image)
    row[0].imshow(image, interpolation="nearest")
    row[0].plot(*find_beacon(image), **RING, markeredgecolor="white")
    for axis, labels in zip(row[1:], (label, prediction), strict=True):
        axis.imshow(colorize(labels, scenes.palette), interpolation="nearest")


def draw_attention(row: Sequence[Axes], predictor: Predictor, scenes: Scenes, index: int) -> Pixel:
    """Draw the attention weights of one pixel, one panel for each number of passes.

    Returns:
        The pixel.
    """
    image, label = scenes[index]
    height, width = label.shape
    beacon = find_beacon(image)
    pixel = farthest_shape_pixel(label, beacon)
    row[0].axhline(pixel[1], color="white", alpha=0.2, linewidth=12)
    row[0].axvline(pixel[0], color="white", alpha=0.2, linewidth=12)
    for axis, weights in zip(row, explain(predictor, image, pixel).reach, strict=True):
        axis.imshow(image.mean(axis=2), cmap="gray", vmin=0, vmax=400, interpolation="nearest")
        glow = np.empty((*weights.shape, 4))
        glow[..., :3] = GLOW
        glow[..., 3] = np.sqrt(
            weights / weights.max()
        )  # the square root keeps small weights visible
        extent = (-0.5, width - 0.5, height - 0.5, -0.5)
        axis.imshow(glow, extent=extent, interpolation="nearest")
        axis.plot(*beacon, **RING, markeredgecolor="white")
        axis.plot(*pixel, **DOT)
        axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
    return pixel


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument(
        "--model", default="runs/demo/model", help="model folder that `make demo` writes"
    )
    predictor = Predictor(parser.parse_args().model, device="cpu")
    scenes = Scenes("test")
    figure = Figure(figsize=(12.5, 5.9), layout="constrained")
    axes = figure.subplots(len(BEACONS), len(TITLES))
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for axis, title in zip(axes[0], TITLES, strict=True):
        axis.set_title(title, fontsize=11)
    for row, color in zip(axes, BEACONS, strict=True):
        draw_labels(row[:3], predictor, scenes, first_with(scenes, color))
    pixel = draw_attention(axes[0][3:], predictor, scenes, first_with(scenes, BEACONS[0]))
    axes[0][0].plot(*pixel, **DOT)
    for axis in axes[1][3:]:
        axis.set_axis_off()
    place = {"va": "top", "fontsize": 11, "transform": axes[1][3].transAxes, "in_layout": False}
    axes[1][3].text(0.02, 1.0, EXPLANATION, **place)
    classes = zip([*scenes.classes, "ignored"], [*scenes.palette, IGNORED_COLOR], strict=True)
    handles: list = [
        Patch(facecolor="#" + bytes(color).hex(), edgecolor="gray", label=name)
        for name, color in classes
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    save(figure, PICTURE)


if __name__ == "__main__":
    main()
