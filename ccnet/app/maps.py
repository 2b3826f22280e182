"""The panel of one pixel: its classes, and what it draws on in one pass of attention and in all."""

import html
from dataclasses import replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, UInt8
from matplotlib import colormaps
from matplotlib.colors import to_hex
from PIL import Image

from ccnet.app.loading import PageModel, with_protocol
from ccnet.app.pictures import Scale, figure, jpeg, scale_of, table_row
from ccnet.app.results import Segmentation
from ccnet.app.workbench import Workbench, top_classes
from ccnet.explanation.explaining import Explanation, explain
from ccnet.explanation.grid import Axis, Grid
from ccnet.explanation.overlay import WEIGHTS, overlay
from ccnet.report.gallery import as_rgb

LONGEST_MAP = 640
"""Pixels of the longer side of a map."""


def pixel_panel(
    bench: Workbench, model: PageModel, path: str | Path, protocol: str, point: tuple[int, int]
) -> str:
    """Classes and maps of a pixel as HTML.

    Raises:
        ValueError: the image cannot be used, or the pixel is outside of it.
    """
    found = bench.segmentation(model, path, protocol)
    require_inside(found, point)
    rows = top_classes(model, found, *point)
    x, y = point
    color = dict(zip(model.predictor.classes, model.palette, strict=True))
    table = "".join(table_row(name, share, color[name]) for name, share in rows)
    head = (
        f"<h3>Pixel ({x}, {y}): {html.escape(rows[0][0])}</h3><table><caption>Probability of the "
        f"most likely classes</caption><tbody>{table}</tbody></table>"
    )
    maps = pixel_maps(model, found, protocol, point)
    figures = "".join(figure(picture, caption) for picture, caption in maps)
    figures += color_bar() if maps else "<p>This model has no attention, so there are no maps.</p>"
    return f'<section class="pixel"><div>{head}</div><div class="maps">{figures}</div></section>'


def color_bar() -> str:
    """What the colors of the maps mean."""
    colors = ", ".join(to_hex(colormaps[WEIGHTS](place / 8)) for place in range(9))
    return (
        f'<p class="scale">takes little <span style="background: linear-gradient(to right, '
        f'{colors})"></span> takes much from there</p>'
    )


def pixel_maps(
    model: PageModel, found: Segmentation, protocol: str, point: tuple[int, int]
) -> list[tuple[bytes, str]]:
    """JPEG files of a pixel's maps with their captions; none for a model without attention."""
    if model.predictor.model.head.attention.recurrence == 0:
        return []
    with model.computing:
        explanation = explain(with_protocol(model.predictor, protocol), found.image, point)
    scale = map_scale(*found.labels.shape)
    image = resized(as_rgb(found.image), scale)
    return [
        (draw(explanation, reach, image, scale), caption_of(number, len(explanation.reach)))
        for number, reach in enumerate(explanation.reach, start=1)
    ]


def caption_of(number: int, passes: int) -> str:
    if number == 1:
        return "In the last pass: its own row and column."
    through = "both passes" if number == passes == 2 else f"{number} passes"
    return f"Through {through}: pixels anywhere, by way of that row and column."


def draw(
    explanation: Explanation,
    reach: Float[np.ndarray, "_ _"],
    image: UInt8[np.ndarray, "h w 3"],
    scale: Scale,
) -> bytes:
    """A map over the image at the size of the page."""
    grid = Grid(
        scaled(explanation.grid.rows, scale.shown[0]),
        scaled(explanation.grid.columns, scale.shown[1]),
    )
    (height, width), (high, wide) = scale.image, scale.shown
    x, y = explanation.point
    place = int((x + 0.5) * wide / width), int((y + 0.5) * high / height)
    return jpeg(overlay(image, reach, place, grid=grid))


def scaled(axis: Axis, length: int) -> Axis:
    """The axis over an image that is shown in another size."""
    factor = length / axis.image
    return replace(axis, image=length, start=factor * axis.start, zoom=factor * axis.zoom)


def map_scale(height: int, width: int) -> Scale:
    """How large a map is shown: as the image, up to `LONGEST_MAP`."""
    scale = scale_of(height, width)
    factor = min(1.0, LONGEST_MAP / max(scale.shown))
    high, wide = (max(1, round(side * factor)) for side in scale.shown)
    return Scale(scale.image, (high, wide))


def resized(image: UInt8[np.ndarray, "_ _ 3"], scale: Scale) -> UInt8[np.ndarray, "_ _ 3"]:
    is_smaller = scale.shown[0] < scale.image[0] or scale.shown[1] < scale.image[1]
    way = Image.Resampling.BILINEAR if is_smaller else Image.Resampling.NEAREST
    height, width = scale.shown
    return np.array(Image.fromarray(image).resize((width, height), way))


def require_inside(found: Segmentation, point: tuple[int, int]) -> None:
    height, width = found.labels.shape
    x, y = point
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(
            f"the pixel ({x}, {y}) is outside the image: x is 0 to {width - 1}, y 0 to {height - 1}"
        )
