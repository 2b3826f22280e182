"""The embedded data set: procedural scenes whose labels need context from the whole image."""

import numpy as np
from jaxtyping import UInt8

from ccnet.classes import IGNORE_INDEX

STREAMS = {"train": 0, "val": 1, "test": 2}  # disjoint random streams
COLOURS = {"red": (220, 60, 50), "green": (60, 180, 75), "blue": (60, 90, 220)}


class Scenes:
    """Grey shapes on a textured ground, and one small coloured beacon somewhere in the image.

    Every shape has the class of the beacon's colour. A shape looks the same whatever its class, so
    only what is known of the rest of the image can tell. The beacon and a two-pixel border around
    each shape are ignored. Image `index` of a split depends on (seed, split, index) alone; nothing
    is stored.

    Args:
        split: "train", "val" or "test"; they share no image.
        num_images: length of the data set.
        seed: of the whole data set.
        cells: shapes and beacon lie in a grid of cells × cells.
        cell: side of a cell in pixels.
        num_shapes: shapes in a scene.
    """

    classes = ("ground", *COLOURS)
    palette = ((90, 90, 90), *COLOURS.values())
    ignore_index = IGNORE_INDEX

    def __init__(
        self,
        split: str = "train",
        *,
        num_images: int = 256,
        seed: int = 0,
        cells: int = 8,
        cell: int = 8,
        num_shapes: int = 8,
    ) -> None:
        if split not in STREAMS:
            raise ValueError(f"split must be one of {', '.join(STREAMS)}, got {split!r}")
        if num_shapes >= cells * cells:
            raise ValueError(
                f"{num_shapes} shapes and a beacon don't fit a grid of {cells}×{cells} cells"
            )
        self.split = split
        self.num_images = num_images
        self.seed = seed
        self.cells = cells
        self.cell = cell
        self.num_shapes = num_shapes
        self.masks = shape_masks(cell)

    def __len__(self) -> int:
        return self.num_images

    def name(self, index: int) -> str:
        return f"{self.split}-{index:06d}"

    def __getitem__(
        self, index: int
    ) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
        """Image and label, sides cells · cell."""
        if not 0 <= index < self.num_images:
            raise IndexError(f"scene {index} of {self.num_images}")
        rng = np.random.default_rng((self.seed, STREAMS[self.split], index))
        cells, cell, side = self.cells, self.cell, self.cells * self.cell
        places = rng.permutation(cells * cells)[: self.num_shapes + 1]
        grid = np.zeros((cells * cells, cell, cell), bool)  # which pixels of each cell are shape
        grid[places[1:]] = self.masks[rng.integers(len(self.masks), size=self.num_shapes)]
        shapes = grid.reshape(cells, cells, cell, cell).swapaxes(1, 2).reshape(side, side)

        grey = rng.integers(40, 100) + rng.normal(0, 12, (side, side))
        grey[shapes] += rng.integers(70, 110)
        image = grey[..., None] + rng.normal(0, 6, (side, side, 3))
        colour = rng.integers(len(COLOURS))
        label = np.where(shapes, colour + 1, 0).astype(np.uint8)
        label[surroundings(shapes, 2)] = self.ignore_index

        top, left = cell * (places[0] // cells), cell * (places[0] % cells)
        beacon = np.s_[top : top + cell, left : left + cell]
        image[beacon] = self.palette[colour + 1] + rng.normal(0, 10, (cell, cell, 3))
        label[beacon] = self.ignore_index
        return image.clip(0, 255).astype(np.uint8), label


def shape_masks(side: int) -> np.ndarray:
    """Square, disc, diamond and cross, (4, side, side)."""
    y, x = np.abs(np.indices((side, side)) - (side - 1) / 2)
    half = side / 2
    return np.stack(
        [
            np.ones((side, side), bool),
            x**2 + y**2 <= half**2,
            x + y <= half,
            (x < half / 2) | (y < half / 2),
        ]
    )


def surroundings(mask: np.ndarray, width: int) -> np.ndarray:
    """The pixels within `width` steps, up, down or sideways, of a mask (h, w), but not in it."""
    grown = mask
    for _ in range(width):
        padded = np.pad(grown, 1)
        neighbours = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
        grown = np.any([grown, *neighbours], axis=0)
    return grown & ~mask
