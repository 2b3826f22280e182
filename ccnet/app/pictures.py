"""What the page shows: the classes over the image, and tables as HTML."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from ccnet.app.results import Segmentation
from ccnet.images.colors import Palette, overlay
from ccnet.report.gallery import as_rgb

LONGEST_SHOWN = 1280
"""Pixels of the longer side of a picture; larger images are reduced for the page."""
SHORTEST_SHOWN = 800
"""Smaller images are magnified by a whole number, to about this."""
QUALITY = 92


@dataclass(frozen=True)
class Scale:
    """How large an image is shown: its own size and that of its picture, height and width."""

    image: tuple[int, int]
    shown: tuple[int, int]

    def pixel_at(self, x: float, y: float) -> tuple[int, int]:
        """(x, y) of the image's pixel under a place of its picture."""
        (height, width), (high, wide) = self.image, self.shown
        column, row = int(x * width / wide), int(y * height / high)
        return min(max(column, 0), width - 1), min(max(row, 0), height - 1)


def scale_of(height: int, width: int) -> Scale:
    """How large an image of this size is shown."""
    longest = max(height, width)
    if longest > LONGEST_SHOWN:
        factor = LONGEST_SHOWN / longest
        return Scale(
            (height, width), (max(1, round(height * factor)), max(1, round(width * factor)))
        )
    times = max(1, round(SHORTEST_SHOWN / longest))
    return Scale((height, width), (height * times, width * times))


def overlay_picture(found: Segmentation, palette: Palette, opacity: float) -> bytes:
    """The JPEG file of the classes over the image, at the size of the page.

    Args:
        found: an image and its labels.
        palette: a color for each class.
        opacity: of the colors, 0 to 1.
    """
    scale = scale_of(*found.labels.shape)
    height, width = scale.shown
    rows, columns = (
        ((np.arange(shown) + 0.5) * full / shown).astype(np.intp)
        for shown, full in zip(scale.shown, scale.image, strict=True)
    )
    is_smaller = height < scale.image[0] or width < scale.image[1]
    way = Image.Resampling.BILINEAR if is_smaller else Image.Resampling.NEAREST
    image = Image.fromarray(as_rgb(found.image)).resize((width, height), way)
    labels = found.labels[np.ix_(rows, columns)]
    return jpeg(overlay(np.array(image), labels, palette, opacity))


def jpeg(picture: UInt8[np.ndarray, "h w 3"]) -> bytes:
    """The JPEG file of a picture."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=QUALITY, subsampling=0)
    return file.getvalue()


def share_table(found: Segmentation, classes: Sequence[str], palette: Palette, title: str) -> str:
    """The legend with the share of the pixels of each class, as an HTML table."""
    shares = found.shares(len(classes))
    order = sorted(range(len(classes)), key=lambda index: (-shares[index], index))
    present = [index for index in order if shares[index] > 0]
    absent = [classes[index] for index in order if shares[index] == 0]
    rows = "".join(table_row(classes[index], shares[index], palette[index]) for index in present)
    height, width = found.labels.shape
    rest = ""
    if absent:
        names = ", ".join(map(html.escape, absent))
        rest = f'<p class="absent">Not in this image: {names}</p>'
    return (
        f'<section class="shares"><table><caption>{html.escape(title)}: share of the pixels'
        f"</caption><thead><tr><th scope=col>class</th><th scope=col>share</th></tr></thead>"
        f"<tbody>{rows}</tbody></table>{rest}"
        f'<p class="facts">{width}×{height} pixels, {found.seconds:.2g} s, '
        f"{html.escape(found.protocol)}</p></section>"
    )


def table_row(name: str, share: float, color: Sequence[int] | None = None) -> str:
    """A row: the color and name of a class, and a share of 1 as a bar and in percent."""
    swatch = ""
    if color is not None:
        swatch = f'<span class="swatch" style="background:{hex_color(color)}"></span>'
    percent = f"{100 * share:.1f} %" if share >= 0.0005 else "&lt; 0.1 %"
    bar = f'<span class="bar"><span style="width:{100 * share:.2f}%"></span></span>'
    name = html.escape(name)
    return f"<tr><th scope=row>{swatch}{name}</th><td>{bar}{percent}</td></tr>"


def hex_color(color: Sequence[int]) -> str:
    return "#" + bytes(color).hex()


def figure(picture: bytes, caption: str, kind: str = "jpeg") -> str:
    """A picture in the page itself, with a caption, which is also its text for screen readers."""
    content = base64.b64encode(picture).decode()
    text = html.escape(caption)
    return (
        f'<figure><img alt="{text}" src="data:image/{kind};base64,{content}">'
        f"<figcaption>{text}</figcaption></figure>"
    )


def notice(text: str, *, is_error: bool = False) -> str:
    """A line that a screen reader says when it appears."""
    kind = 'class="notice error" role="alert"' if is_error else 'class="notice" role="status"'
    return f"<p {kind}>{html.escape(text)}</p>"
