"""Write a made-up data set of thin structures: crop leaves and weeds of 1 to 6 pixels on soil.

Leaves of the crop are curved blades from a center, 2 to 6 pixels wide. Weeds are branching stems of
1 to 2 pixels with small leaflets. Their colors overlap, so form has to tell them apart. Straw and
roots of the same widths belong to the ground. The same seed gives the same data set.

    python benchmarks/thin_structures.py FOLDER [--images 200] [--size 320] [--seed 0]
    ccnet check-data FOLDER
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

CLASSES = {"ground": (90, 70, 50), "crop": (40, 180, 60), "weed": (230, 60, 40)}
GROUND, CROP, WEED = range(3)
SHARES = {"train": 0.7, "val": 0.15, "test": 0.15}
FINE = 4
"""Pixels of the drawing per pixel of the image and axis."""
VISIBLE = 0.35
"""Share of a pixel that a plant must cover to give it its class."""


class Drawing:
    """Plants and straw, drawn finely: their colors, and the class of each pixel."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.colors = Image.new("RGBA", (size * FINE, size * FINE))
        self.classes = Image.new("L", self.colors.size, GROUND)

    def ribbon(self, line: np.ndarray, widths: np.ndarray, color: np.ndarray, label: int) -> None:
        """A line (N, 2) of points (x, y), with its width at each point, in pixels of the image."""
        along = np.gradient(line, axis=0)
        across = np.stack([-along[:, 1], along[:, 0]], 1)
        across /= np.maximum(np.linalg.norm(across, axis=1, keepdims=True), 1e-6)
        sides = (line + across * widths[:, None] / 2, line - across * widths[:, None] / 2)
        outline = [tuple(point) for point in np.concatenate([sides[0], sides[1][::-1]]) * FINE]
        red, green, blue = (int(value) for value in np.clip(color, 0, 255))
        ImageDraw.Draw(self.colors).polygon(outline, fill=(red, green, blue, 255))
        ImageDraw.Draw(self.classes).polygon(outline, fill=label)

    def over(self, ground: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The image and its label at their size, with the plants over the ground (H, W, 3)."""
        fine = self.size, FINE, self.size, FINE
        drawn = np.asarray(self.colors, np.float32).reshape(*fine, 4)
        alpha = drawn[..., 3:] / 255
        color = (drawn[..., :3] * alpha).mean((1, 3))
        alpha = alpha.mean((1, 3))
        shadow = np.roll(alpha, (2, 1), (0, 1)) * (1 - alpha)
        image = ground * (1 - 0.4 * shadow) * (1 - alpha) + color
        classes = np.asarray(self.classes).reshape(fine)
        covered = np.stack([(classes == label).mean((1, 3)) for label in (CROP, WEED)])
        label = np.where(covered.max(0) > VISIBLE, covered.argmax(0) + CROP, GROUND)
        return image, label.astype(np.uint8)


def curve(rng: np.random.Generator, start: np.ndarray, angle: float, length: float) -> np.ndarray:
    """A bent line (N, 2) that begins at a point."""
    steps = np.linspace(0, 1, 16)
    angles = angle + rng.normal(0, 0.5) * steps + rng.normal(0, 0.3) * np.sin(2 * np.pi * steps)
    moves = np.stack([np.cos(angles), np.sin(angles)], 1) * length / len(steps)
    return start + np.cumsum(moves, 0)


def draw_crop(drawing: Drawing, rng: np.random.Generator, center: np.ndarray) -> None:
    turn, size = rng.uniform(0, 2 * np.pi), rng.uniform(0.6, 1.2)
    count = int(rng.integers(4, 9))
    for index in range(count):
        angle = turn + 2 * np.pi * (index + rng.uniform(-0.3, 0.3)) / count
        line = curve(rng, center, angle, size * rng.uniform(22, 48))
        widths = np.sin(np.linspace(0.25, np.pi, len(line))) * rng.uniform(2, 6)
        color = np.array((68, 122, 62)) + rng.normal(0, 12, 3) + rng.normal(0, 14)
        drawing.ribbon(line, np.maximum(widths, 1), color, CROP)


def draw_weed(drawing: Drawing, rng: np.random.Generator, center: np.ndarray) -> None:
    color = np.array((84, 124, 58)) + rng.normal(0, 12, 3) + rng.normal(0, 14)
    for _ in range(int(rng.integers(1, 4))):
        angle = rng.uniform(0, 2 * np.pi)
        stem = curve(rng, center, angle, rng.uniform(16, 40))
        drawing.ribbon(stem, np.full(len(stem), rng.uniform(1, 2)), color, WEED)
        for point in stem[3 :: int(rng.integers(2, 5))]:
            side = angle + rng.choice((-1, 1)) * rng.uniform(0.6, 1.3)
            branch = curve(rng, point, side, rng.uniform(4, 11))
            widths = np.full(len(branch), rng.uniform(0.9, 1.5))
            widths[-6:] += np.sin(np.linspace(0, np.pi, 6)) * rng.uniform(0.5, 2)  # a leaflet
            drawing.ribbon(branch, widths, color + rng.normal(0, 6, 3), WEED)


def draw_straw(drawing: Drawing, rng: np.random.Generator, start: np.ndarray) -> None:
    """Straw, roots and dry stems, which are ground."""
    line = curve(rng, start, rng.uniform(0, 2 * np.pi), rng.uniform(10, 50))
    color = np.array((150, 128, 88)) * rng.uniform(0.5, 1.2) + rng.normal(0, 6, 3)
    drawing.ribbon(line, np.full(len(line), rng.uniform(1, 3)), color, GROUND)


def soil(rng: np.random.Generator, size: int) -> np.ndarray:
    """Ground (H, W, 3) with lumps of several sizes and light from one side, in float32."""
    lumps = np.zeros((size, size), np.float32)
    for cell, strength in ((2, 10), (5, 12), (14, 12), (48, 10)):
        noise = rng.normal(0, 1, (size // cell + 2, size // cell + 2)).astype(np.float32)
        larger = Image.fromarray(noise).resize((size, size), Image.Resampling.BICUBIC)
        lumps += strength * np.asarray(larger)
    rows, columns = np.mgrid[:size, :size] / size - 0.5
    light = rng.normal(0, 25) * rows + rng.normal(0, 25) * columns
    base = np.array((112, 92, 70)) * rng.uniform(0.75, 1.25) + rng.normal(0, 5, 3)
    tint = np.array((1.0, 0.95, 0.85))
    return (base + (lumps + light)[..., None] * tint).astype(np.float32)


def sample(seed: int, index: int, size: int = 320) -> tuple[np.ndarray, np.ndarray]:
    """One image (H, W, 3) and its label (H, W), both uint8."""
    rng = np.random.default_rng((seed, index))
    drawing = Drawing(size)
    for draw, most in ((draw_straw, 30), (draw_weed, 14), (draw_crop, 7)):
        for _ in range(int(rng.integers(most // 3, most + 1))):
            draw(drawing, rng, rng.uniform(0, size, 2))
    image, label = drawing.over(soil(rng, size))
    image += rng.normal(0, 5, image.shape)
    picture = Image.fromarray(np.clip(image, 0, 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.GaussianBlur(0.4))), label


def write(folder: Path, num_images: int = 200, size: int = 320, seed: int = 0) -> None:
    """Write the data set as `ccnet train` reads it: train, val and test, 70, 15 and 15 %."""
    names = [name for name, share in SHARES.items() for _ in range(round(share * num_images))]
    for index, split in enumerate(names):
        image, label = sample(seed, index, size)
        picture = Image.fromarray(label)
        picture.putpalette([value for color in CLASSES.values() for value in color])
        for kind, content in (("images", Image.fromarray(image)), ("labels", picture)):
            path = folder / split / kind / f"{index:04d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            content.save(path)
    colors = "".join(f"  {name}: {list(color)}\n" for name, color in CLASSES.items())
    (folder / "dataset.yaml").write_text(f"classes:\n{colors}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path, help="a new folder for the data set")
    parser.add_argument("--images", type=int, default=200, help="number of images (default: 200)")
    parser.add_argument("--size", type=int, default=320, help="their sides (default: 320)")
    parser.add_argument("--seed", type=int, default=0, help="another one gives other images")
    arguments = parser.parse_args()
    write(arguments.folder, arguments.images, arguments.size, arguments.seed)


if __name__ == "__main__":
    main()
