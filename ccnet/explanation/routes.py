"""The picture of the two ways between two pixels in two passes (paper figure 4)."""

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch

from ccnet.explanation.explaining import Explanation
from ccnet.explanation.panels import (
    OUTLINE,
    Picture,
    draw_image,
    draw_marks,
    new_panels,
    percent,
    set_title,
)

FIRST, SECOND = "#0072b2", "#d55e00"
"""Colors of the two steps of a route."""
Place = tuple[float, float]
"""(x, y) in the image."""


def routes_figure(image: Picture, explanation: Explanation) -> Figure:
    """The ways from a second pixel to the explained one, as arrows over the image.

    Raises:
        ValueError: the explanation has no second pixel.
    """
    if explanation.to is None:
        raise ValueError(
            "the explanation has no second pixel: explain(..., to=(x, y)) gives it one"
        )
    figure, ((axis,),) = new_panels(image, 1, 1, note=routes_note(explanation), panel=5.5)
    draw_image(axis, image // 2 + 100)
    height, width = image.shape[:2]
    (x, y), (to_x, to_y) = explanation.point, explanation.to
    set_title(
        axis, f"How pixel ({x}, {y}), in the ring, learns of\npixel ({to_x}, {to_y}), the square"
    )
    center = explanation.grid.center
    for route in explanation.routes:
        source, corner, point = (center(x) for x in (route.source, route.corner, explanation.cell))
        middle = ((source[0] + point[0]) / 2, (source[1] + point[1]) / 2)
        draw_step(axis, source, corner, percent(route.first), FIRST, middle)
        draw_step(axis, corner, point, percent(route.second), SECOND, middle)
        if route.corner not in (route.source, explanation.cell):
            axis.plot(*corner, "D", color="white", markeredgecolor="black", markersize=8, zorder=4)
    draw_marks(axis, explanation)
    half = 0.9 * max(abs(x - to_x), abs(y - to_y)) + max(width, height) / 8
    left, right = max(-0.5, (x + to_x) / 2 - half), min(width - 0.5, (x + to_x) / 2 + half)
    top, bottom = max(-0.5, (y + to_y) / 2 - half), min(height - 0.5, (y + to_y) / 2 + half)
    axis.set(xlim=(left, right), ylim=(bottom, top))
    earlier, later = names_of_passes(explanation)
    for color, text in (
        (FIRST, f"{earlier}: a corner looks at the square"),
        (SECOND, f"{later}: the ring looks at a corner"),
    ):
        axis.plot([], [], color=color, linewidth=3, label=text)
    figure.legend(loc="outside upper left", fontsize=9, frameon=False, ncols=2)
    return figure


def names_of_passes(explanation: Explanation) -> tuple[str, str]:
    number = len(explanation.reach)
    return (f"pass {max(1, number - 1)}", f"pass {number}")


def routes_note(explanation: Explanation) -> str:
    """What the picture shows, in words and numbers."""
    if not explanation.routes:
        return (
            "In one pass a pixel looks at its own row and column only, so there is no way through "
            "a corner. A model with two passes has two."
        )
    (row, column), source = explanation.cell, explanation.routes[0].source
    total = float(explanation.reach[1][source])
    share = f"{percent(total)} of what the ring takes up in two passes comes from the square; "
    share += f"if it looked everywhere alike, it would be {percent(1 / explanation.reach[1].size)}."
    if row == source[0] or column == source[1]:
        return (
            "The two pixels share a row or a column, so the ring sees the square in one pass, and "
            f"in two passes by way of every pixel of that line too. In all, {share}"
        )
    return (
        "The ring cannot see the square in one pass, since they share neither row nor column. But "
        "the two corners (white diamonds) see the square, and the ring sees the corners. The "
        "numbers are shares of attention, and those along a way multiply. "
        f"By both ways together, {share}"
    )


def draw_step(axis: Axes, start: Place, end: Place, text: str, color: str, middle: Place) -> None:
    """An arrow along which features go, and its weight on the side that is away from the middle."""
    if start == end:
        return
    look = {"arrowstyle": "-|>", "mutation_scale": 18, "linewidth": 2.6, "shrinkA": 9, "shrinkB": 9}
    arrow = FancyArrowPatch(start, end, color=color, path_effects=OUTLINE, zorder=3, **look)
    axis.add_patch(arrow)
    half = ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2)
    if start[0] == end[0]:
        is_right = half[0] > middle[0]
        offset, place = ((12 if is_right else -12), 0), ("left" if is_right else "right", "center")
    else:
        is_below = half[1] > middle[1]
        offset, place = (0, (-12 if is_below else 12)), ("center", "top" if is_below else "bottom")
    look = {"ha": place[0], "va": place[1], "fontsize": 10, "color": color, "weight": "bold"}
    axis.annotate(
        text, half, offset, textcoords="offset points", path_effects=OUTLINE, zorder=5, **look
    )
