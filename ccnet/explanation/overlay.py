"""Maps of features over the image, in colors that the color-blind can tell apart."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from matplotlib import colormaps
from matplotlib.colors import FuncNorm, Normalize, PowerNorm

from ccnet.explanation.grid import Grid, Pixel, even_grid
from ccnet.report.gallery import as_rgb

WEIGHTS, SIGNED = "viridis", "PuOr_r"
"""Color maps of values from 0 up, and of both signs; both are made for the color-blind too."""
DIM = 0.35
"""Brightness of the image where a map has nothing to show."""
DOT = (231, 41, 138)
"""The color of the explained pixel, a magenta that neither color map has."""


@dataclass(frozen=True)
class Scale:
    """How values of a map become colors.

    Attributes:
        norm: from values to 0 to 1.
        colors: name of the color map.
    """

    norm: Normalize
    colors: str

    def rgb(self, values: Float[np.ndarray, "h w"]) -> UInt8[np.ndarray, "h w 3"]:
        return colormaps[self.colors](self.norm(values), bytes=True)[..., :3]


def scale_of(values: Float[np.ndarray, "_ _"], *, apart: tuple[int, int] | None = None) -> Scale:
    """The scale of a map: by the square root, so that small weights are seen, up to its largest.

    Values of both signs get a scale that is even on both sides of 0.

    Args:
        values: the map; nan is left out.
        apart: row and column of a value that is not considered, since it is far larger than all
            others: that of the pixel itself in a map with residual connections.
    """
    considered = np.isfinite(values)
    if apart is not None and values.size > 1:
        considered[apart] = False
    magnitude = np.abs(values[considered])
    largest = max(float(magnitude.max(initial=0)), 1e-12)
    if (values[considered] < 0).any():
        norm = FuncNorm((signed_root, signed_square), -largest, largest, clip=True)
        return Scale(norm, SIGNED)
    return Scale(PowerNorm(0.5, vmin=0, vmax=largest, clip=True), WEIGHTS)


def signed_root(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.sqrt(np.abs(values))


def signed_square(values: np.ndarray) -> np.ndarray:
    return np.sign(values) * np.square(values)


def overlay(
    image: UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"],
    map: Float[np.ndarray, "_ _"],
    point: Pixel,
    *,
    grid: Grid | None = None,
    scale: Scale | None = None,
    opacity: float = 0.75,
    gray_zeros: bool = True,
) -> UInt8[np.ndarray, "h w 3"]:
    """A map over its image in gray, with a ring at the explained pixel.

    Args:
        image: of any number of channels; of more than three the first three are shown.
        map: a map of an `Explanation`.
        point: (x, y) in the image.
        grid: of the explanation: where the map lies. None: evenly over the whole image.
        scale: how values become colors; None: `scale_of` the map, without the pixel's own value.
        opacity: of the map, 0 to 1.
        gray_zeros: whether the image stays gray where the map is 0, as beside the cross of one
            pass.

    Returns:
        RGB at the size of the image.
    """
    gray = luminance(as_rgb(image))
    grid = even_grid(gray.shape[:2], map.shape) if grid is None else grid
    scale = scale_of(map, apart=grid.cell(point)) if scale is None else scale
    values = grid.on_image(map)
    values, is_seen = np.nan_to_num(values), np.isfinite(values)[..., None]
    alpha = opacity * ((values != 0) | (not gray_zeros))[..., None]
    mixed = (1 - alpha) * gray + alpha * scale.rgb(values)
    return with_ring(np.where(is_seen, mixed, DIM * gray).round().astype(np.uint8), point)


def luminance(image: UInt8[np.ndarray, "h w 3"]) -> UInt8[np.ndarray, "h w 3"]:
    """The image in gray, so that its colors are not mixed up with those of a map."""
    gray = image @ np.array([0.299, 0.587, 0.114])
    return np.repeat(gray.round().astype(np.uint8)[..., None], 3, axis=2)


def with_ring(image: UInt8[np.ndarray, "h w 3"], point: Pixel) -> UInt8[np.ndarray, "h w 3"]:
    """The image with a ring around a pixel: magenta between white lines, seen on any ground."""
    height, width, _ = image.shape
    radius = max(3.0, min(height, width) / 40)
    y, x = np.ogrid[:height, :width]
    distance = np.abs(np.hypot(x - point[0], y - point[1]) - radius)
    line = max(0.8, radius / 6)
    image = image.copy()
    image[distance <= 2 * line] = 255
    image[distance <= line] = DOT
    return image
