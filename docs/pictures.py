"""Draw the pictures of docs/how-it-works.md: python docs/pictures.py

The pictures of attention are of the model that `make demo` trains, the one of costs is drawn from
benchmarks/results/attention.csv, and the others are drawn from the shapes of the tensors.
"""

import argparse
import csv
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from diagrams import corners_figure, cross_figure, recurrence_figure
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Rectangle

from ccnet import Predictor
from ccnet.datasets import Scenes
from ccnet.demo import beacon_in, pixel_far_from_beacon
from ccnet.explanation import explain, scale_of
from ccnet.report.pictures import save

DOCS = Path(__file__).resolve().parent
RESULTS = DOCS.parent / "benchmarks" / "results"
# told apart by the color-blind (Okabe and Ito)
ORANGE, BLUE, GREEN, PURPLE, DARK = "#e69f00", "#0072b2", "#009e73", "#cc79a7", "#333333"
LINES = (ORANGE, BLUE, GREEN, PURPLE)  # one color for each line of pixels
FORMS = {
    "non-local": ("non-local: scaled_dot_product_attention", DARK, "s"),
    "plain": ("criss-cross, usual PyTorch form", ORANGE, "^"),
    "fused": ("criss-cross, ccnet", BLUE, "o"),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--model", type=Path, default=DOCS.parent / "runs" / "demo" / "model")
    parser.add_argument("--output", type=Path, default=DOCS)
    options = parser.parse_args()
    if not options.model.is_dir():
        sys.exit(f"{options.model}: no model folder; make demo trains it")
    for name, figure in {
        "how-cross": cross_figure(),
        "how-recurrence": recurrence_figure(),
        "how-corners": corners_figure(),
        "how-passes": passes(Predictor(options.model, device="cpu")),
        "how-cost": cost(),
        "how-axes": axes_of_products(),
        "how-merge": merge(),
    }.items():
        save(figure, options.output / f"{name}.png")


def panels(titles: Sequence[str], width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A row of panels without frames."""
    figure = Figure(figsize=(width, height), layout="constrained")
    found = figure.subplots(1, len(titles), squeeze=False)[0].tolist()
    for axis, title in zip(found, titles, strict=True):
        axis.set_title(title, fontsize=11)
        axis.set_axis_off()
        axis.set_aspect("equal")
    return figure, found


def passes(predictor: Predictor) -> Figure:
    """Where a pixel of a test scene looks, and its ways to the colored square, by the model."""
    image, point, square = scene()
    found = explain(predictor, image, point, to=square)
    titles = (
        "the marked pixel and\nthe colored square",
        "one pass: where it looks\nin its row and column",
        "two passes: what it\ndraws on through others",
        "its two ways, with the\nweight of each step",
    )
    figure, found_panels = panels(titles, 10.2, 3.2)
    for axis, map in zip(found_panels, (None, found.reach[0], found.reach[-1], None), strict=True):
        picture = image
        if map is not None:
            colors = scale_of(map).rgb(found.grid.on_image(map))
            picture = (0.3 * image.mean(axis=2, keepdims=True) + 0.7 * colors).astype(np.uint8)
        axis.imshow(picture, interpolation="nearest")
        dot = {"color": "white", "markeredgecolor": "black", "markersize": 10}
        axis.plot(*point, "o", **dot)
    for line in (found_panels[1].axhline(point[1]), found_panels[1].axvline(point[0])):
        line.set(color="white", alpha=0.25, linewidth=13, zorder=1.5)
    for route in found.routes:
        ends = [found.grid.center(cell) for cell in (route.source, route.corner, found.cell)]
        for start, end, weight in zip(ends, ends[1:], (route.first, route.second), strict=False):
            style = {"arrowstyle": "-|>", "mutation_scale": 16, "linewidth": 2.5, "color": ORANGE}
            found_panels[3].add_patch(FancyArrowPatch(start, end, shrinkA=2, shrinkB=5, **style))
            middle = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
            box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
            found_panels[3].text(*middle, f"{weight:.2f}", ha="center", va="center", bbox=box)
    return figure


def scene() -> tuple[np.ndarray, tuple[int, int], tuple[int, int]]:
    """The first test scene whose far pixel and square are not at the edge; both as (x, y)."""
    scenes = Scenes("test")
    for index in range(len(scenes)):
        image, label = scenes[index]
        point, square = pixel_far_from_beacon(image, label), beacon_in(image)
        if all(
            10 < place < size - 10 for place, size in zip(point + square, (64,) * 4, strict=True)
        ):
            return image, point, square
    raise LookupError("no such scene")


def cost() -> Figure:
    """The number of weights by formula, and the measured time of a forward pass."""
    figure = Figure(figsize=(9.6, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    sides = np.array([24, 48, 97, 192, 384])
    left.plot(sides, sides**4.0, "--", color=DARK, label="non-local: (H·W)²")
    left.plot(sides, sides**2 * (2.0 * sides - 1), "-", color=BLUE, label="one pass: H·W·(H+W−1)")
    left.plot(sides, 2 * sides**2 * (2.0 * sides - 1), ":", color=BLUE, label="two passes")
    left.set(ylabel="attention weights", title="number of weights (formula)")
    for form, (label, color, marker) in FORMS.items():
        points = sorted(measured(form).items())
        right.plot(*zip(*points, strict=True), marker=marker, color=color, label=label)
    right.set(
        ylabel="milliseconds", title="one pass forward, 512 channels, float32\n(measured, 2 cores)"
    )
    for axis in (left, right):
        axis.set(xscale="log", yscale="log", xlabel="side of the feature map, H = W")
        axis.set_xticks(sides, [str(side) for side in sides])
        axis.minorticks_off()
        axis.grid(visible=True, alpha=0.3)
        axis.legend(fontsize=8, loc="upper left")
        axis.set_ylim(top=axis.get_ylim()[1] * 10)
    return figure


def measured(form: str) -> dict[int, float]:
    """Milliseconds of the newest forward pass of the operator, by the side of the map."""
    found: dict[int, float] = {}
    with (RESULTS / "attention.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            batch, channels, *sides = row["shape"].split("x")
            wanted = ("operator", "float32", form, "forward", "timed", "")
            given = ("level", "dtype", "form", "passes", "status", "triton")
            # 96 is there too, beside 97
            is_drawn = sides in ([side, side] for side in ("48", "97", "192", "384"))
            is_wanted = tuple(row[key] for key in given) == wanted
            if is_wanted and is_drawn and (batch, channels) == ("1", "512"):
                found[int(sides[0])] = float(row["milliseconds"])
    return found


CHANNELS, HEIGHT, WIDTH = 2, 3, 4
Slices = tuple[np.ndarray, np.ndarray]
"""The colors and the names of the numbers in a tensor of three axes."""


def axes_of_products() -> Figure:
    """Queries and keys as stacks of matrices, one for each line of pixels; their products."""
    figure = Figure(figsize=(10.2, 6.2), layout="constrained")
    rows = figure.subplots(2, 4)
    draw_products(rows[0], "column", along=2, sides=("H", "W"))
    draw_products(rows[1], "row", along=1, sides=("W", "H"))
    return figure


def draw_products(row: Sequence[Axes], line: str, along: int, sides: tuple[str, str]) -> None:
    """The steps for one kind of line: `along` is the axis of (C', H, W) that joins the batch."""
    length, others = sides
    colors = np.empty((CHANNELS, HEIGHT, WIDTH), dtype=object)
    names = np.empty_like(colors)
    for place in np.ndindex(colors.shape):
        colors[place] = LINES[place[along]]
        names[place] = f"{place[1]}{place[2]}"
    key = (np.moveaxis(colors, along, 0), np.moveaxis(names, along, 0))
    query = (key[0].swapaxes(1, 2), key[1].swapaxes(1, 2))
    depth = f"B·{others}"
    stack(row[0], (colors, names), "query as stored\n(B, C', H, W)", "C'", ("H", "W"))
    title = f"query, each {line} a matrix\n({depth}, {length}, C')"
    stack(row[1], query, title, depth, (length, "C'"))
    title = f"key, each {line} a matrix\n({depth}, C', {length})"
    stack(row[2], key, title, depth, ("C'", length))
    title = f"torch.bmm: their scores\n({depth}, {length}, {length})"
    stack(row[3], scores_of(line), title, depth, (length, length))
    for axis, sign in zip(row[1:], "→@=", strict=True):
        axis.text(-0.16, 0.45, sign, fontsize=20, transform=axis.transAxes)


def scores_of(line: str) -> Slices:
    """The scores of each pair of positions in a line; a pixel meets itself in its row only."""
    count, length = (WIDTH, HEIGHT) if line == "column" else (HEIGHT, WIDTH)
    colors = np.empty((count, length, length), dtype=object)
    names = np.empty_like(colors)
    for k, i, j in np.ndindex(colors.shape):
        is_left_out = line == "column" and i == j
        colors[k, i, j] = "#dddddd" if is_left_out else LINES[k]
        names[k, i, j] = "−∞" if is_left_out else f"{i}·{j}"
    return colors, names


def stack(axis: Axes, slices: Slices, title: str, depth: str, sides: tuple[str, str]) -> None:
    """Slices (count, rows, columns) one behind the other; the first one is in front."""
    count, rows, columns = slices[0].shape
    shift = 0.75
    for k in reversed(range(count)):
        for y, x in np.ndindex(rows, columns):
            place = (x + shift * k, y - shift * k)
            color = slices[0][k, y, x]
            axis.add_patch(Rectangle(place, 1, 1, facecolor=color, edgecolor="white"))
    for y, x in np.ndindex(rows, columns):
        ink = "white" if slices[0][0, y, x] in (BLUE, GREEN) else "black"
        name = slices[1][0, y, x]
        axis.text(x + 0.5, y + 0.5, name, ha="center", va="center", fontsize=9, color=ink)
    far = shift * (count - 1)
    axis.set(xlim=(-0.7, columns + far + 0.3), ylim=(rows + 0.8, -far - 0.4), aspect="equal")
    axis.set_axis_off()
    axis.text(-0.35, rows / 2, sides[0], ha="center", va="center", fontsize=11)
    axis.text(columns / 2, rows + 0.45, sides[1], ha="center", va="center", fontsize=11)
    axis.text(columns + far / 2 + 0.55, rows - far / 2 + 0.1, depth, fontsize=11)
    axis.set_title(title, fontsize=11)


def merge() -> Figure:
    """One pixel's scores along its column and its row, and the one softmax over both."""
    rng = np.random.default_rng(3)
    column, row = rng.normal(0, 0.8, 5), rng.normal(0, 0.8, 7)
    own = 2
    weights = np.exp(np.concatenate([np.delete(column, own), row]))
    weights /= weights.sum()
    figure = Figure(figsize=(10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    places = np.arange(len(column) + len(row))
    is_own = places == own
    scores = np.concatenate([column, row])
    colors = [ORANGE] * len(column) + [BLUE] * len(row)
    left.bar(places[~is_own], scores[~is_own], color=np.array(colors)[~is_own])
    left.text(own, 0.05, "−∞", ha="center", fontsize=11)
    left.set(title="scores: H of the column, then W of the row", ylabel="q·k")
    right.bar(places[~is_own], weights, color=np.array(colors)[~is_own])
    right.set(title="one softmax over all H + W − 1: they sum to 1", ylabel="weight")
    for axis in (left, right):
        axis.axhline(0, color=DARK, linewidth=0.8)
        names = [*(f"h{i}" for i in range(len(column))), *(f"w{i}" for i in range(len(row)))]
        axis.set_xticks(places, names)
    return figure


if __name__ == "__main__":
    main()
