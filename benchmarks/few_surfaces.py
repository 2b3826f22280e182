"""Write a made-up data set of few images: scratches, pits and stains on brushed metal.

24 images to learn from, 8 to validate on, 60 to test. Scratches are 1 to 3 pixels wide, pits are
small and dark, stains are large and hardly visible. Reflections and the direction of brushing look
like them, and differ from image to image. The same seed gives the same data set.

    python benchmarks/few_surfaces.py FOLDER [--height 300] [--width 400] [--seed 0]
    ccnet check-data FOLDER
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

CLASSES = {"metal": (150, 150, 160), "scratch": (230, 60, 40), "pit": (40, 60, 200)}
CLASSES |= {"stain": (220, 180, 40)}
METAL, SCRATCH, PIT, STAIN = range(4)
COUNTS = {"train": 24, "val": 8, "test": 60}


def smooth(rng: np.random.Generator, size: tuple[int, int], radius: float) -> np.ndarray:
    """Noise (H, W) with a mean of 0 and a deviation of 1, smooth over `radius` pixels."""
    noise = Image.fromarray(rng.normal(0, 1, size).astype(np.float32))
    blurred = np.asarray(
        noise.resize(
            (max(2, int(size[1] / radius)), max(2, int(size[0] / radius))), Image.Resampling.BOX
        ).resize(size[::-1], Image.Resampling.BICUBIC)
    )
    return (blurred - blurred.mean()) / (blurred.std() + 1e-6)


def brushed(rng: np.random.Generator, size: tuple[int, int]) -> np.ndarray:
    """Metal (H, W): fine parallel lines of a random direction, and broad reflections."""
    side = int(np.hypot(*size)) + 2
    lines = (
        rng.normal(0, 1, (side, 1))
        + np.repeat(rng.normal(0, 0.7, (side, side // 12 + 1)), 12, 1)[:, :side]
    )
    sheet = Image.fromarray(lines.astype(np.float32))
    turned = sheet.rotate(rng.uniform(0, 180), Image.Resampling.BILINEAR)
    top, left = (side - size[0]) // 2, (side - size[1]) // 2
    grain = np.asarray(turned)[top : top + size[0], left : left + size[1]]
    return 135 + rng.normal(0, 15) + 9 * grain + 16 * smooth(rng, size, 90)


def mask(size: tuple[int, int], draw: Callable[[ImageDraw.ImageDraw], None]) -> np.ndarray:
    """How much of each pixel a drawing covers, 0 to 1; drawn four times as fine."""
    fine = Image.new("L", (size[1] * 4, size[0] * 4))
    draw(ImageDraw.Draw(fine))
    return np.asarray(fine.resize(size[::-1], Image.Resampling.BOX), np.float32) / 255


def surface(rng: np.random.Generator, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """An image (H, W, 3) and its label (H, W)."""
    gray, label = brushed(rng, size), np.full(size, METAL, np.uint8)
    height, width = size
    for _ in range(rng.integers(0, 3)):
        field = smooth(rng, size, rng.uniform(30, 70))
        y, x = np.mgrid[:height, :width]
        center = rng.uniform(0, height), rng.uniform(0, width)
        distance = np.hypot(y - center[0], x - center[1]) / rng.uniform(35, 90)
        inside = distance + 0.35 * field < 1
        gray = np.where(inside, gray * rng.uniform(0.84, 0.93) - 2, gray)
        label[inside] = STAIN
    for _ in range(rng.integers(0, 9)):
        cx, cy, radius = rng.uniform(0, width), rng.uniform(0, height), rng.uniform(2, 6)
        box = [(cx - radius) * 4, (cy - radius * rng.uniform(0.6, 1)) * 4]
        box += [(cx + radius) * 4, (cy + radius * rng.uniform(0.6, 1)) * 4]
        covered = mask(size, lambda d, box=box: d.ellipse(box, fill=255))
        gray = gray * (1 - covered * rng.uniform(0.35, 0.6))
        label[covered > 0.5] = PIT
    for _ in range(rng.integers(0, 5)):
        start = rng.uniform(0, 1, 2) * (width, height)
        angle, bend = rng.uniform(0, 2 * np.pi), rng.normal(0, 0.006)
        steps = np.arange(rng.uniform(40, 220))
        angles = angle + bend * steps
        line = start + np.cumsum(np.stack([np.cos(angles), np.sin(angles)], 1), 0)
        points = [tuple(point) for point in line * 4]
        stroke = int(rng.uniform(4, 13))
        covered = mask(size, lambda d, p=points, w=stroke: d.line(p, fill=255, width=w))
        gray = gray + covered * rng.choice([-1, 1]) * rng.uniform(25, 55)
        label[covered > 0.35] = SCRATCH
    tint = 1 + rng.normal(0, 0.03, 3)
    image = gray[..., None] * tint + rng.normal(0, 3, (*size, 3))
    return np.clip(image, 0, 255).astype(np.uint8), label


def write(folder: Path, size: tuple[int, int], seed: int) -> None:
    """The three splits, and dataset.yaml."""
    rng = np.random.default_rng(seed)
    for split, count in COUNTS.items():
        images, labels = folder / split / "images", folder / split / "labels"
        images.mkdir(parents=True)
        labels.mkdir()
        for index in range(count):
            image, label = surface(rng, size)
            Image.fromarray(image).save(images / f"{index:03d}.png")
            Image.fromarray(label).save(labels / f"{index:03d}.png")
    lines = [f"  {name}: {list(color)}" for name, color in CLASSES.items()]
    (folder / "dataset.yaml").write_text("\n".join(["classes:", *lines, ""]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--height", type=int, default=300)
    parser.add_argument("--width", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    words = parser.parse_args()
    write(words.folder, (words.height, words.width), words.seed)


if __name__ == "__main__":
    main()
