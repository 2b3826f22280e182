"""A contact sheet of a data set: how often classes occur, and the pairs to look at first."""

import textwrap
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from ccnet.checking.findings import DataReport
from ccnet.checking.suspects import Suspect, chosen, ranked
from ccnet.classes import IGNORE_INDEX
from ccnet.datasets.dataset import SegmentationDataset
from ccnet.datasets.pairs import PairedDataset
from ccnet.images.colors import IGNORED_COLOR, Palette, as_rgb, overlay
from ccnet.report.pictures import save
from ccnet.runtime.files import DataError, printable

COLUMNS = 3
"""Pairs beside each other."""
NUM_PAIRS = 12
"""Pairs of each split on a sheet."""
MOST_BARS = 30
"""Classes with a bar; of more, the rarest ones."""
TILE_SIDE = 400
"""Longest side of a picture on the sheet, in pixels."""
WARNING_COLOR = "#b03a00"


@dataclass(frozen=True)
class Tile:
    """A pair, reduced for a picture."""

    image: UInt8[np.ndarray, "h w 3"]
    """RGB; gray where the image cannot be read."""
    labeled: UInt8[np.ndarray, "h w 3"] | None
    """The classes' colors over the image, with dark borders; None where the pair has an error."""


def new_tile(dataset: SegmentationDataset, suspect: Suspect, side: int = TILE_SIDE) -> Tile:
    """Read a pair again and reduce it to at most `side`."""
    try:
        image, label = dataset[suspect.index]
    except (DataError, OSError, ValueError):
        return Tile(_image_alone(dataset, suspect.index, side), None)
    image = as_rgb(image)
    return Tile(_reduced(image, side), labeled_picture(image, label, dataset.palette, side))


def labeled_picture(
    image: UInt8[np.ndarray, "h w 3"],
    label: UInt8[np.ndarray, "h w"],
    palette: Palette,
    side: int,
) -> UInt8[np.ndarray, "H W 3"]:
    """A reduced image under the colors of its label; borders between classes are dark."""
    small = _reduced(image, side)
    at = [
        ((np.arange(length) + 0.5) * full / length).astype(np.intp)
        for length, full in zip(small.shape[:2], label.shape, strict=True)
    ]
    classes = label[np.ix_(*at)]
    classes = np.where(classes < len(palette), classes, IGNORE_INDEX).astype(np.uint8)
    picture = overlay(small, classes, palette, 0.6)
    border = np.zeros(classes.shape, bool)
    border[:-1] |= classes[:-1] != classes[1:]
    border[:, :-1] |= classes[:, :-1] != classes[:, 1:]
    picture[border] = 0
    return picture


def _image_alone(dataset: SegmentationDataset, index: int, side: int) -> UInt8[np.ndarray, "h w 3"]:
    if isinstance(dataset, PairedDataset):
        try:
            return _reduced(as_rgb(dataset.read_image(index)), side)
        except DataError:
            pass
    return np.full((side * 3 // 4, side, 3), 225, np.uint8)


def _reduced(image: UInt8[np.ndarray, "h w 3"], side: int) -> UInt8[np.ndarray, "H W 3"]:
    picture = Image.fromarray(image)
    factor = min(1.0, side / max(picture.size))
    size = [max(1, round(length * factor)) for length in picture.size]
    return np.array(picture.resize((size[0], size[1]), Image.Resampling.BILINEAR))


def save_contact_sheet(
    path: str | Path, checked: Mapping[str, tuple[SegmentationDataset, DataReport]]
) -> None:
    """Draw what `check_dataset` found as a PNG.

    Of each split there are a bar for each class, with its share of the labeled pixels and the
    number of its images, and up to `NUM_PAIRS` pairs: the image, and the label over it. Suspects
    come first (`ccnet.checking.suspects`), with what is suspicious about them.

    Args:
        path: PNG file; missing folders are made.
        checked: Split → data set and its report, made with `compare_edges`.
    """
    sheets = [
        (split, dataset, report, chosen(ranked(report), NUM_PAIRS))
        for split, (dataset, report) in checked.items()
    ]
    heights = [height for sheet in sheets for height in _heights(sheet[2], len(sheet[3]))]
    figure = Figure(figsize=(5.2 * COLUMNS, sum(heights)), layout="constrained")
    parts = figure.subfigures(len(heights), 1, squeeze=False, height_ratios=heights)[:, 0]
    for place, (split, dataset, report, pairs) in enumerate(sheets):
        bars, grid = parts[2 * place], parts[2 * place + 1]
        bars.suptitle(_headline(split, report), x=0.01, ha="left", weight="bold")
        draw_bars(bars.subplots(), dataset.palette, report)
        axes = grid.subplots(-(-max(1, len(pairs)) // COLUMNS), COLUMNS, squeeze=False)
        for axis in axes.flat:
            axis.set_axis_off()
        for axis, suspect in zip(axes.flat, pairs, strict=False):
            draw_pair(axis, dataset, suspect)
    save(figure, path)


def _heights(report: DataReport, num_pairs: int) -> tuple[float, float]:
    """Inches of the bars and of the pairs."""
    bars = 0.8 + 0.24 * (min(MOST_BARS, len(report.classes)) + 1)
    return bars, 2.45 * -(-max(1, num_pairs) // COLUMNS)


def _headline(split: str, report: DataReport) -> str:
    state = "fit" if report.fit else f"NOT FIT: {'; '.join(report.problems)}"
    text = (
        f"{report.root} · {split} · {report.num_pairs} pairs, {report.num_usable} usable · {state}"
    )
    return _plain(text, 150)


def draw_bars(axis: Axes, palette: Palette, report: DataReport) -> None:
    """A bar for each class, as long as its share of the labeled pixels; it is the legend too."""
    shares = report.frequencies
    order = range(len(shares))
    if len(shares) > MOST_BARS:
        order = sorted(order, key=lambda c: shares[c])[:MOST_BARS]
    names = [_plain(report.classes[c], 30) for c in order]
    values = [shares[c] for c in order]
    colors = ["#" + bytes(palette[c]).hex() for c in order]
    texts = [f"{shares[c]:.2%} · {report.class_images[c]} images" for c in order]
    names.append("ignored (of all pixels)")
    values.append(report.ignored_share)
    colors.append("#" + bytes(IGNORED_COLOR).hex())
    texts.append(f"{report.ignored_share:.2%}")
    places = range(len(names))
    axis.barh(places, values, color=colors, edgecolor="gray", height=0.75)
    top = max(*values, 1e-9)
    for place, value, text in zip(places, values, texts, strict=True):
        # a square of the color too, since the bar of a rare class cannot be seen
        axis.plot(-0.012 * top, place, "s", color=colors[place], mec="gray", ms=8, clip_on=False)
        color = WARNING_COLOR if value == 0 and place < len(order) else "black"
        axis.text(value + 0.01 * top, place, text, va="center", fontsize=8, color=color)
    axis.set_yticks(places, names, fontsize=8)
    axis.tick_params(axis="y", length=0, pad=18)
    axis.set_xlim(0, 1.15 * top)
    axis.set_xticks([])
    axis.invert_yaxis()
    axis.spines[:].set_visible(False)
    axis.spines["left"].set_visible(True)
    title = "share of labeled pixels"
    if len(shares) > MOST_BARS:
        title += f"; the {MOST_BARS} rarest of {len(shares)} classes"
    axis.set_title(title, fontsize=9, loc="left")


def draw_pair(axis: Axes, dataset: SegmentationDataset, suspect: Suspect) -> None:
    """The image, beside it the label over the image, and above what is suspicious."""
    tile = new_tile(dataset, suspect)
    height, width = tile.image.shape[:2]
    gap = np.full((height, max(4, width // 60), 3), 255, np.uint8)
    beside = np.full_like(tile.image, 245) if tile.labeled is None else tile.labeled
    axis.imshow(np.concatenate([tile.image, gap, beside], axis=1), interpolation="nearest")
    if tile.labeled is None:
        message = "\n".join(textwrap.wrap(_plain(suspect.reasons[0], 220), 34))
        x, y = width * 1.5 + gap.shape[1], height / 2
        axis.text(x, y, message, ha="center", va="center", fontsize=6.5, color=WARNING_COLOR)
        reasons = "the pair cannot be used"
    else:
        reasons = "; ".join(suspect.reasons)
    name = _plain(dataset.name(suspect.index), 58, from_end=True)
    lines = textwrap.wrap(_plain(reasons, 130), 72)
    color = WARNING_COLOR if suspect.reasons else "black"
    axis.set_title("\n".join([name, *lines]), fontsize=8, loc="left", color=color)


def _plain(text: str, length: int, *, from_end: bool = False) -> str:
    """Text without control characters, cut to a length."""
    text = printable(text).replace("$", "\\$")
    if len(text) <= length:
        return text
    return "…" + text[1 - length :] if from_end else text[: length - 1] + "…"
