"""The embedded data set: generated scenes whose labels need context from the whole image."""

import numpy as np
from jaxtyping import UInt8

from ccnet.classes import IGNORE_INDEX

STREAMS = {"train": 0, "val": 1, "test": 2}  # each split has its own random stream
COLORS = {"red": (220, 60, 50), "green": (60, 180, 75), "blue": (60, 90, 220)}


class Scenes:
    """Gray shapes on a textured ground, and one small colored beacon somewhere in the image.

    The class of every shape is the color of the beacon. Shapes look the same whatever their class,
    so a network has to see the beacon to classify them. The beacon and a border of two pixels
    around each shape are ignored. An image depends only on (seed, split, index); nothing is stored.

    Args:
        split: "train", "val" or "test"; they share no image.
        num_images: Number of images.
        seed: Seed of the whole data set.
        cells: Shapes and beacon lie in a grid of cells × cells.
        cell: Side of a cell in pixels.
        num_shapes: Shapes per image.

    Raises:
        ValueError: The split is unknown, or the shapes and the beacon do not fit the grid.
    """

    classes = ("ground", *COLORS)
    palette = ((90, 90, 90), *COLORS.values())
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
                f"{num_shapes} shapes and a beacon do not fit a grid of {cells}×{cells} cells"
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
        """An image and its label, square, with cells · cell pixels a side."""
        if not 0 <= index < self.num_images:
            raise IndexError(f"there is no scene {index} among {self.num_images}")
        rng = np.random.default_rng((self.seed, STREAMS[self.split], index))
        cells, cell, side = self.cells, self.cell, self.cells * self.cell
        places = rng.permutation(cells * cells)[: self.num_shapes + 1]
        grid = np.zeros((cells * cells, cell, cell), bool)  # True where a cell holds a shape
        grid[places[1:]] = self.masks[rng.integers(len(self.masks), size=self.num_shapes)]
        shapes = grid.reshape(cells, cells, cell, cell).swapaxes(1, 2).reshape(side, side)

        gray = rng.integers(40, 100) + rng.normal(0, 12, (side, side))
        gray[shapes] += rng.integers(70, 110)
        image = gray[..., None] + rng.normal(0, 6, (side, side, 3))
        color = rng.integers(len(COLORS))
        label = np.where(shapes, color + 1, 0).astype(np.uint8)
        label[surroundings(shapes, 2)] = self.ignore_index

        top, left = cell * (places[0] // cells), cell * (places[0] % cells)
        beacon = np.s_[top : top + cell, left : left + cell]
        image[beacon] = self.palette[color + 1] + rng.normal(0, 10, (cell, cell, 3))
        label[beacon] = self.ignore_index
        return image.clip(0, 255).astype(np.uint8), label


def shape_masks(side: int) -> np.ndarray:
    """Masks of a square, a disc, a diamond and a cross, (4, side, side)."""
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
    """Pixels outside a mask (h, w), at most `width` vertical or horizontal steps from it."""
    grown = mask
    for _ in range(width):
        padded = np.pad(grown, 1)
        neighbors = padded[:-2, 1:-1], padded[2:, 1:-1], padded[1:-1, :-2], padded[1:-1, 2:]
        grown = np.any([grown, *neighbors], axis=0)
    return grown & ~mask
