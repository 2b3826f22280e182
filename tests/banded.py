"""Images of five bands, 12 bits in files of 16 or floats, for the tests of bands."""

from pathlib import Path

import numpy as np
from PIL import Image

from tests.images.test_tiff import write_tiff

SIDE = 48


def pixels_of(index: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray]:
    """An image of 12 bits, of whose bands only the fifth shows the class, and its label."""
    rng = np.random.default_rng(index)
    label = np.zeros((side, side), np.uint8)
    top, left = rng.integers(2, side // 2, 2)
    label[top : top + side // 3, left : left + side // 3] = 1
    image = rng.integers(300, 600, (side, side, 5))
    image[:, :, 4] += label.astype(int) * 2500
    return image.astype(np.uint16), label


def write_folder(root: Path, kind: str, number: int = 8, *, named: bool = True) -> Path:
    """Images as "tif" (uint16) or "npy" (float32, the same values divided by 4096), and labels."""
    for index in range(number):
        image, label = pixels_of(index)
        folder = root / ("val" if index >= number - 2 else "train")
        for part in ("images", "labels"):
            (folder / part).mkdir(parents=True, exist_ok=True)
        if kind == "tif":
            write_tiff(folder / "images" / f"{index}.tif", image)
        else:
            np.save(folder / "images" / f"{index}.npy", image.astype(np.float32) / 4096)
        Image.fromarray(label).save(folder / "labels" / f"{index}.png")
    if named:
        (root / "dataset.yaml").write_text("classes: [ground, thing]")
    return root
