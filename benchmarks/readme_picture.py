"""The picture at the top of the README: scenes, their labels, a prediction, and where a pixel looks.

Takes the model that `make demo` trains and writes docs/scenes.png.

    python benchmarks/readme_picture.py [--model runs/demo/model]
"""

import argparse
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from ccnet import Predictor
from ccnet.datasets import Scenes
from ccnet.images.colors import IGNORED_COLOR, colorize
from ccnet.report.attention import attention_maps
from ccnet.report.pictures import save

PICTURE = Path(__file__).parents[1] / "docs" / "scenes.png"
TITLES = (
    "image",
    "true labels",
    "CCNet's prediction",
    "where the pixel looks:\none pass of attention",
    "where the pixel looks:\ntwo passes",
)
BEACONS = ("red", "green")  # one row for each
RING = {"marker": "o", "markersize": 13, "markerfacecolor": "none", "markeredgewidth": 2}
DOT = {"marker": "o", "markersize": 8, "color": "white", "markeredgecolor": "black"}

Pixel = tuple[int, int]
"""(x, y)"""


def find_beacon(image: UInt8[np.ndarray, "h w 3"]) -> Pixel:
    """The center of the one saturated square of a scene."""
    saturation = np.ptp(image.astype(int), axis=2)
    y, x = np.argwhere(saturation > saturation.max() / 2).mean(axis=0).round().astype(int)
    return int(x), int(y)


def farthest_shape_pixel(label: UInt8[np.ndarray, "h w"], beacon: Pixel) -> Pixel:
    """The labeled pixel of a shape that is farthest from the row and the column of the beacon.

    Pixels near the border of the image are left out, so that the mark is seen whole.
    """
    inner = np.zeros_like(label, dtype=bool)
    inner[4:-4, 4:-4] = True
    shapes = np.argwhere(inner & (label > 0) & (label != Scenes.ignore_index))
    y, x = shapes[np.abs(shapes - beacon[::-1]).min(axis=1).argmax()]
    return int(x), int(y)


def first_with(scenes: Scenes, color: str) -> int:
    """Index of the first scene whose beacon has a color."""
    index_of_class = scenes.classes.index(color)
    return next(i for i in range(len(scenes)) if (scenes[i][1] == index_of_class).any())


def draw_row(row: list[Axes], predictor: Predictor, scenes: Scenes, index: int) -> None:
    image, label = scenes[index]
    beacon = find_beacon(image)
    pixel = farthest_shape_pixel(label, beacon)
    pictures = (
        image,
        colorize(label, scenes.palette),
        colorize(predictor.predict(image), scenes.palette),
    )
    for axis, picture in zip(row, pictures, strict=False):
        axis.imshow(picture, interpolation="nearest")
    row[0].plot(*beacon, **RING, markeredgecolor="white")
    row[0].plot(*pixel, **DOT)
    height, width = label.shape
    gray = image.mean(axis=2)
    for axis, weights in zip(row[3:], attention_maps(predictor, image, pixel), strict=True):
        axis.imshow(gray, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
        axis.imshow(
            np.sqrt(weights / weights.max()),  # the square root keeps small weights visible
            cmap="inferno",
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
            alpha=0.75,
            interpolation="nearest",
        )
        axis.plot(*beacon, **RING, markeredgecolor="white")
        axis.plot(*pixel, **DOT)
    for axis in row:
        axis.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", default="runs/demo/model", help="what `make demo` trained")
    predictor = Predictor(parser.parse_args().model, device="cpu")
    scenes = Scenes("test")
    figure = Figure(figsize=(2.3 * len(TITLES), 2.3 * len(BEACONS) + 1.1), layout="constrained")
    axes = figure.subplots(len(BEACONS), len(TITLES), squeeze=False)
    for axis in axes.flat:
        axis.set(xticks=[], yticks=[])
    for axis, title in zip(axes[0], TITLES, strict=True):
        axis.set_title(title, fontsize=11)
    for row, color in zip(axes, BEACONS, strict=True):
        draw_row(list(row), predictor, scenes, first_with(scenes, color))
    classes = zip([*scenes.classes, "ignored"], [*scenes.palette, IGNORED_COLOR], strict=True)
    handles: list = [
        Patch(facecolor="#" + bytes(color).hex(), edgecolor="gray", label=name)
        for name, color in classes
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
    save(figure, PICTURE)


if __name__ == "__main__":
    main()
