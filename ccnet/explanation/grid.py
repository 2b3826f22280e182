"""Where the pixels of a feature map lie in the image, and which part of the image is explained."""

import math
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float
from torch import Tensor

from ccnet.prediction.predictor import Predictor
from ccnet.prediction.views import ImageScores

Pixel = tuple[int, int]
"""(x, y): column and row, from 0 at the top left."""


@dataclass(frozen=True)
class Axis:
    """One axis of a feature map over one axis of an image.

    The network sees `length` pixels, of which each is `zoom` pixels of the image wide; the first
    begins `start` pixels after the edge of the image. Features lie evenly over them, as the
    interpolation of the logits takes it.
    """

    image: int
    start: float
    zoom: float
    length: int
    features: int
    align_corners: bool = False

    def index(self, place: int) -> int:
        """The feature nearest to a pixel of the image."""
        seen = self.seen(place)
        if self.align_corners:
            index = round(seen * (self.features - 1) / max(1, self.length - 1))
        else:
            index = math.floor((seen + 0.5) * self.features / self.length)
        return min(max(index, 0), self.features - 1)

    def seen(self, place: int) -> float:
        """A pixel of the image in pixels of what the network sees."""
        return (place + 0.5 - self.start) / self.zoom - 0.5

    def center(self, index: float) -> float:
        """Where in the image the center of a feature is; −0.5 is the edge of the image."""
        if self.align_corners:
            step = (self.length - 1) / max(1, self.features - 1)
            seen = index * step if self.features > 1 else (self.length - 1) / 2
        else:
            seen = (index + 0.5) * self.length / self.features - 0.5
        return self.start + (seen + 0.5) * self.zoom - 0.5

    def ends(self) -> tuple[float, float]:
        """Where in the image the first feature begins and the last one ends."""
        if self.features == 1:
            return self.start - 0.5, self.start + self.length * self.zoom - 0.5
        return self.center(-0.5), self.center(self.features - 0.5)

    def indices(self) -> np.ndarray:
        """For every pixel of the image the index of its feature; −1 where none is seen."""
        places = range(self.image)
        inside = [-0.5 <= self.seen(place) < self.length - 0.5 for place in places]
        return np.array([self.index(p) if ok else -1 for p, ok in zip(places, inside, strict=True)])


@dataclass(frozen=True)
class Grid:
    """A feature map over an image, or over the part of it that the network sees at once."""

    rows: Axis
    columns: Axis

    def cell(self, point: Pixel) -> tuple[int, int]:
        """Row and column of the feature at a pixel (x, y) of the image."""
        x, y = point
        return self.rows.index(y), self.columns.index(x)

    def center(self, cell: tuple[float, float]) -> tuple[float, float]:
        """(x, y) in the image of the center of a feature (row, column)."""
        row, column = cell
        return self.columns.center(column), self.rows.center(row)

    def extent(self) -> tuple[float, float, float, float]:
        """Left, right, bottom and top of the feature map, for matplotlib's `imshow`."""
        (top, bottom), (left, right) = self.rows.ends(), self.columns.ends()
        return left, right, bottom, top

    def on_image(self, map: Float[np.ndarray, "_ _"]) -> Float[np.ndarray, "h w"]:
        """A map of the features at the size of the image; nan where the network does not look."""
        rows, columns = self.rows.indices(), self.columns.indices()
        shown = map[np.ix_(rows, columns)]
        shown[rows < 0], shown[:, columns < 0] = np.nan, np.nan
        return shown

    @property
    def is_whole(self) -> bool:
        """Whether the network sees the whole image at once."""
        return all(
            axis.start <= 0 and axis.start + axis.length * axis.zoom >= axis.image
            for axis in (self.rows, self.columns)
        )


def even_grid(size: tuple[int, int], features: tuple[int, int]) -> Grid:
    """A feature map spread evenly over a whole image; both sizes are height and width."""
    rows, columns = (
        Axis(length, 0.0, 1.0, length, number)
        for length, number in zip(size, features, strict=True)
    )
    return Grid(rows, columns)


@dataclass(frozen=True)
class View:
    """What the network sees of an image: all of it, or the tile around a pixel.

    Attributes:
        images: normalized, (1, C, H, W).
        place: (x, y) of the pixel in it.
    """

    images: Float[Tensor, "1 c h w"]
    place: tuple[float, float]
    size: tuple[int, int]
    starts: tuple[float, float]
    zooms: tuple[float, float]

    def grid(self, features: tuple[int, int], align_corners: bool) -> Grid:
        """Where a feature map (height, width) of this view lies in the image."""
        rows, columns = (
            Axis(*values, align_corners)
            for values in zip(
                self.size, self.starts, self.zooms, self.images.shape[-2:], features, strict=True
            )
        )
        return Grid(rows, columns)


def view_around(predictor: Predictor, images: Tensor, point: Pixel) -> View:
    """The view that the predictor's protocol shows of a pixel, upright, at the scale nearest to 1.

    Of a protocol with tiles it is the tile in whose middle the pixel is most.

    Args:
        predictor: its protocol, and its normalization.
        images: (1, C, H, W) of uint8 or uint16, as `ccnet.prediction.batches.as_batch` gives it.
        point: (x, y) in the image.
    """
    height, width = images.shape[-2:]
    protocol = predictor.protocol_for(height, width)
    scale = min(protocol.scales, key=lambda scale: abs(math.log(scale)))
    normalized = predictor.model.normalize(predictor.to_device(images))
    single = replace(protocol, scales=(scale,), mirror=False)
    view = next(ImageScores(normalized, single).views())
    zooms = height / view.size[0], width / view.size[1]
    x, y = ((p + 0.5) / zoom - 0.5 for p, zoom in zip(point, reversed(zooms), strict=True))
    top, left = (
        min(starts, key=lambda start, middle=at - (side - 1) / 2: abs(start - middle))
        for starts, at, side in zip(view.starts, (y, x), view.tile, strict=True)
    )
    starts = top * zooms[0], left * zooms[1]
    return View(view.part((top, left)), (x - left, y - top), (height, width), starts, zooms)
