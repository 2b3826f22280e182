"""Pictures of an explanation, for people who have not read the paper."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LogNorm
from matplotlib.figure import Figure

from ccnet.explanation.explaining import Explanation
from ccnet.explanation.overlay import WEIGHTS, Scale, scale_of
from ccnet.explanation.panels import (
    PANEL,
    TEXT,
    Picture,
    new_panels,
    percent,
    set_title,
    show_image,
    show_map,
)

NUMBERS = ("no pass", "one pass", "two passes", "three passes", "four passes")
LIKELY, OTHERS = "#0072b2", "#b0c4d4"
"""Colors of the bar of the most likely class, and of the others."""
MOST_CLASSES = 6
SMALL = 0.05
"""Share that the attention adds to features, below which a picture says that it is small."""


def number_of_passes(count: int) -> str:
    return NUMBERS[count] if count < len(NUMBERS) else f"{count} passes"


def reach_figure(*rows: tuple[Picture, Explanation]) -> Figure:
    """Rows of an image with a pixel, and where the pixel looks in one pass and in more."""
    (image, explanation), *_ = rows
    note = (
        "The ring is around the explained pixel. The brighter a place, the larger its share of "
        "what the pixel takes up; the shares of a picture add up to 100 %. Gray places have none.\n"
        "In one pass a pixel sees only its own row and column. In two passes it also sees what the "
        "pixels of its row and column have seen before: the whole image."
    )
    number = max(len(explanation.reach) for _, explanation in rows)
    if len(rows) == 1:
        note += remark_on_gamma(explanation)
    panel = PANEL if len(rows) == 1 else 0.8 * PANEL
    figure, axes = new_panels(image, len(rows), 1 + number, note=note, panel=panel)
    for row, (image, explanation) in zip(axes, rows, strict=True):
        draw_reach(row, image, explanation)
    return figure


def draw_reach(axes: Sequence[Axes], image: Picture, explanation: Explanation) -> None:
    x, y = explanation.point
    share = percent(float(explanation.probabilities[explanation.class_index]))
    set_title(axes[0], f"Pixel ({x}, {y}): “{explanation.class_name}”,\nprobability {share}")
    show_image(axes[0], image, explanation)
    for axis in axes[1 + len(explanation.reach) :]:
        axis.set_axis_off()
    for count, (axis, map) in enumerate(zip(axes[1:], explanation.reach, strict=False), start=1):
        where = "its row and its column" if count == 1 else "the whole image"
        number = number_of_passes(count)
        set_title(axis, f"Where it looks in {number} of attention:\nin {where}")
        label = "share of the attention"
        scale = scale_of(map)
        show_map(axis, image, explanation, map, scale, label, in_percent=True, gray_zeros=True)


def remark_on_gamma(explanation: Explanation) -> str:
    """A sentence for models whose attention hardly changes their features."""
    brought = float(np.prod([1 + abs(gamma) for gamma in explanation.gamma])) - 1
    if brought >= SMALL:
        return ""
    gammas = ", ".join(f"{gamma:.2g}" for gamma in dict.fromkeys(explanation.gamma))
    return (
        f"\nNote: this model adds what the attention brings with the small factor γ = {gammas}, so "
        "the attention changes its result little."
    )


def influence_figure(image: Picture, explanation: Explanation) -> Figure:
    """Three measures of how strongly every place acts on the pixel."""
    note = (
        "Three answers to one question: which places matter to the pixel in the ring? Each answer "
        "includes more of the network than the one before. The color scale leaves out the pixel "
        "itself, which keeps its own features and so matters to itself far more than other places."
    )
    note += remark_on_gamma(explanation)
    figure, axes = new_panels(image, 1, 3, note=note)
    name = explanation.class_name
    result = f"On the result: how much it can\nchange the score of “{name}”"
    measures = (
        (
            "By the attention alone:\nhow much of a place arrives",
            explanation.influence,
            "influence",
        ),
        ("With what is sent, too:\nhow strongly it can act", explanation.exact, "strength"),
        (result, explanation.gradient, "effect"),
    )
    for axis, (text, map, label) in zip(axes[0], measures, strict=True):
        set_title(axis, text)
        scale = scale_of(map, apart=explanation.cell)
        show_map(axis, image, explanation, map, scale, label, beyond=arrows(map, scale))
    return figure


def arrows(map: np.ndarray, scale: Scale) -> str:
    """On which side of a color bar values lie beyond it."""
    low, high = scale.norm.vmin, scale.norm.vmax
    assert low is not None
    assert high is not None
    beyond = (bool(map.min() < low), bool(map.max() > high))
    return {(0, 0): "neither", (1, 0): "min", (0, 1): "max", (1, 1): "both"}[beyond]


def evidence_figure(image: Picture, explanation: Explanation) -> Figure:
    """The most likely classes, and which places speak for the first of them."""
    name = explanation.class_name
    note = (
        f"Left: what the network makes of the pixel in the ring. Right: orange places raise the "
        f"score of “{name}” at this pixel, violet places lower it. It is the gradient of the score "
        "times the features that enter the attention; the color scale leaves out the pixel itself."
    )
    figure, ((bars, axis),) = new_panels(image, 1, 2, note=note)
    draw_probabilities(bars, explanation)
    bars.set_box_aspect(image.shape[0] / image.shape[1])
    set_title(axis, f"Which places speak\nfor and against “{name}”")
    scale = scale_of(explanation.evidence, apart=explanation.cell)
    beyond = arrows(explanation.evidence, scale)
    label = "against        evidence        for"
    show_map(axis, image, explanation, explanation.evidence, scale, label, beyond=beyond)
    return figure


def draw_probabilities(axis: Axes, explanation: Explanation) -> None:
    """Bars of the most likely classes at the pixel."""
    x, y = explanation.point
    order = np.argsort(-explanation.probabilities, kind="stable")[:MOST_CLASSES]
    shares = explanation.probabilities[order]
    axis.barh(range(len(order)), shares, color=[LIKELY] + [OTHERS] * (len(order) - 1), height=0.6)
    for place, share in enumerate(shares):
        axis.text(share + 0.02, place, percent(share), va="center", fontsize=9)
    axis.set(xlim=(0, 1.2), ylim=(len(order) - 0.4, -0.6), xticks=[])
    names = explanation.class_names
    axis.set_yticks(range(len(order)), [names[i] for i in order], fontsize=9, **TEXT)
    axis.spines[["top", "right", "bottom"]].set_visible(False)
    set_title(axis, f"Most likely classes\nat pixel ({x}, {y})")


def entropy_figure(image: Picture, explanation: Explanation) -> Figure:
    """Over how many places each pixel of the image spreads its attention, in every pass."""
    height, width = explanation.entropy[0].shape
    most = height + width - 1
    note = (
        "This picture is about all pixels, not only the one in the ring. Dark pixels look at a few "
        "places of their row and column; bright ones look at many. A pixel can look at "
        f"{most} places at most. (The number is that of equally weighted places with the same "
        "entropy.)"
    )
    number = len(explanation.entropy)
    figure, axes = new_panels(image, 1, number, note=note)
    largest = math.exp(max(float(map.max()) for map in explanation.entropy))
    scale = Scale(LogNorm(1, max(2, largest), clip=True), WEIGHTS)
    for index, (axis, map) in enumerate(zip(axes[0], explanation.entropy, strict=True), start=1):
        passes = "" if number == 1 else f"\nin pass {index} of {number}"
        set_title(axis, f"How widely each pixel looks{passes}")
        show_map(axis, image, explanation, np.exp(map), scale, "number of places")
    return figure
