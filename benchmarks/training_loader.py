"""The part "loader" of training.py: from files of photographs and labels to random crops.

*usual* decodes, resizes the whole image and crops. *ours* is what `ccnet train` runs, which resizes
only the window of the crop. Both draw the same scale, position and mirroring, and give the same
crops. Decoding alone has rows of its own, as the lower limit of the time of both. The processor
time of one process is measured, so that other work on the machine has little influence.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ccnet.classes import IGNORE_INDEX
from ccnet.datasets import FolderDataset
from ccnet.datasets.transforms import RandomTransform
from ccnet.training.samples import AugmentedDataset

HEIGHT, WIDTH = 1024, 2048
CROP = 769
NUM_CLASSES = 19
FORMATS = {"JPEG": {"quality": 90}, "PNG": {}}

Pair = tuple[Image.Image, Image.Image]
Form = Callable[[int, int], object]
"""Called with the turn and the index of a sample; does all or some of the work of loading it."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("loader")
    group.add_argument("--images", type=int, default=8, help="images of each file format")
    group.add_argument("--turns", type=int, default=15, help="how often each form loads all images")
    group.add_argument(
        "--scale",
        type=float,
        nargs=2,
        default=(0.75, 2.0),
        metavar=("LOW", "HIGH"),
        help="range of the random scales (default: 0.75 2.0)",
    )


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Rows of each file format. Raises RuntimeError if the two ways give different crops."""
    torch.set_num_threads(1)
    for kind in FORMATS:
        with tempfile.TemporaryDirectory() as folder:
            write_photographs(Path(folder), kind, arguments.images)
            data = FolderDataset(
                folder, "train", classes=[f"class {i}" for i in range(NUM_CLASSES)]
            )
            low, high = arguments.scale
            name = f"{WIDTH}x{HEIGHT} {kind} to {CROP}x{CROP}, scale {low:g}-{high:g}"
            for row in rows_of_format(data, kind, arguments):
                yield {"input": name, "turns": arguments.turns, **row}


def rows_of_format(
    data: FolderDataset, kind: str, arguments: argparse.Namespace
) -> Iterator[dict[str, object]]:
    transform = RandomTransform((CROP, CROP), tuple(arguments.scale), max_class_share=1)
    ours = AugmentedDataset(data, transform)
    decoded = [data[index] for index in range(len(data))]
    pictures = [decode(data, index) for index in range(len(data))]
    ours_decoded = AugmentedDataset(InMemory(data, decoded), transform)
    forms: dict[str, Form] = {
        "usual": lambda turn, i: whole_then_crop(decode(data, i), transform, turn, i),
        "ours": lambda turn, i: ours[turn, i],
        "decoding": lambda _, i: decode(data, i),
        "usual, decoded before": lambda turn, i: whole_then_crop(pictures[i], transform, turn, i),
        "ours, decoded before": lambda turn, i: ours_decoded[turn, i],
    }
    if kind == "JPEG":
        forms["decoding at half size"] = lambda _, i: decode(data, i, half=True)
    for index in range(len(data)):
        check(ours[0, index], whole_then_crop(pictures[index], transform, 0, index))

    seconds: dict[str, list[float]] = {form: [] for form in forms}
    for turn in range(arguments.turns):
        for form, sample in forms.items():
            start = time.process_time()
            for index in range(len(data)):
                sample(turn, index)
            seconds[form].append(time.process_time() - start)
    for form, times in seconds.items():
        rates = [len(data) / spent for spent in times]
        yield {"form": form, "quantity": "images/s a core", **summary(rates)}
    ratios = [usual / our for usual, our in zip(seconds["usual"], seconds["ours"], strict=True)]
    yield {"form": "ours", "quantity": "times the usual's images/s", **summary(ratios)}
    if kind == "JPEG":
        yield from half_size_rows(data, arguments.scale)


def half_size_rows(data: FolderDataset, scale: tuple[float, float]) -> Iterator[dict[str, object]]:
    """How useful decoding a JPEG at half size would be: the scales it serves, and its exactness.

    It serves scales of at most one half.
    """
    low, high = scale
    share = min(1.0, max(0.0, (0.5 - low) / (high - low))) if high > low else float(low <= 0.5)
    form = "decoding at half size"
    yield {"form": form, "quantity": "share of the scales it serves", "value": share}
    errors = []
    for index in range(len(data)):
        whole, half = decode(data, index)[0], decode(data, index, half=True)[0]
        resized = np.asarray(whole.resize(half.size, Image.Resampling.BILINEAR)).astype(int)
        errors.append(float(np.abs(np.asarray(half) - resized).mean()))
    quantity = "mean difference from the resized whole, of 255"
    yield {"form": form, "quantity": quantity, **summary(errors)}


def decode(data: FolderDataset, index: int, *, half: bool = False) -> Pair:
    """Image and label as Pillow reads them.

    Args:
        half: decode each 8×8 block of a JPEG to 4×4 pixels.
    """
    image_path, label_path = data.files.pairs[index]
    with Image.open(image_path) as image, Image.open(label_path) as label:
        if half:
            image.draft("RGB", (WIDTH // 2, HEIGHT // 2))
        return image.convert("RGB"), label.copy()


def whole_then_crop(
    pair: Pair, transform: RandomTransform, turn: int, index: int
) -> tuple[Tensor, Tensor]:
    """Resize image and label, crop, mirror and pad, as `RandomTransform` draws at random."""
    image, label = pair
    rng = np.random.default_rng(np.random.SeedSequence((0, turn, index)))
    scale = rng.uniform(*transform.scale)
    size = (round(image.width * scale), round(image.height * scale))
    image = image.resize(size, Image.Resampling.BILINEAR)
    label = label.resize(size, Image.Resampling.NEAREST)
    width, height = min(image.width, CROP), min(image.height, CROP)
    top = int(rng.integers(image.height - height + 1))
    left = int(rng.integers(image.width - width + 1))
    box = (left, top, left + width, top + height)
    view, target = image.crop(box), label.crop(box)
    if rng.random() < transform.mirror:
        view = view.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        target = target.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    if (width, height) != (CROP, CROP):
        view, target = pad(view, "RGB", transform.fill), pad(target, "L", IGNORE_INDEX)
    pixels = np.array(np.asarray(view).transpose(2, 0, 1), order="C")
    return torch.from_numpy(pixels), torch.from_numpy(np.asarray(target).astype(np.int64))


def pad(picture: Image.Image, mode: str, fill: int | tuple[int, int, int]) -> Image.Image:
    padded = Image.new(mode, (CROP, CROP), fill)
    padded.paste(picture)
    return padded


def check(ours: tuple[Tensor, Tensor], usual: tuple[Tensor, Tensor]) -> None:
    """Raise RuntimeError if pixels differ by more than 1 gray level or labels in more than 1 %.

    Labels may differ where rounding selects another neighbor.
    """
    largest = (ours[0].int() - usual[0].int()).abs().max().item()
    share = (ours[1] != usual[1]).float().mean().item()
    if largest > 1 or share > 0.01:
        raise RuntimeError(
            f"not timed: the crops differ by up to {largest} gray levels and in {share:.2%} of "
            "the labels; at most 1 level and 1 % of the labels are allowed"
        )


class InMemory:
    """A data set whose samples were read before and are in memory."""

    def __init__(self, data: FolderDataset, samples: list[tuple[np.ndarray, np.ndarray]]) -> None:
        self.samples = samples
        self.classes, self.palette = data.classes, data.palette
        self.ignore_index = data.ignore_index

    def __len__(self) -> int:
        return len(self.samples)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        return self.samples[index]

    def name(self, index: int) -> str:
        return str(index)


def write_photographs(
    folder: Path,
    kind: str,
    num_images: int,
    size: tuple[int, int] = (WIDTH, HEIGHT),
    split: str = "train",
) -> None:
    """Write a data set of images with the spectrum and the sensor noise of photographs.

    The labels are smooth regions.
    """
    for part in ("images", "labels"):
        (folder / split / part).mkdir(parents=True)
    suffix = {"JPEG": "jpg", "PNG": "png"}[kind]
    for index in range(num_images):
        rng = np.random.default_rng(index)
        gray, colors = clouds(rng, 1, 1.3, size), clouds(rng, 3, 1.6, size)
        image = 115 + 45 * gray + 12 * colors + rng.normal(0, 1, (*size[::-1], 3))
        label = clouds(rng, NUM_CLASSES, 2.0, size).argmax(axis=2).astype(np.uint8)
        path = folder / split / "images" / f"{index}.{suffix}"
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(path, kind, **FORMATS[kind])
        Image.fromarray(label).save(folder / split / "labels" / f"{index}.png")


def clouds(
    rng: np.random.Generator, channels: int, exponent: float, size: tuple[int, int]
) -> np.ndarray:
    """Noise (h, w, channels) whose amplitude falls as frequency^-exponent.

    Each channel has mean 0 and standard deviation 1.
    """
    width, height = size
    y, x = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)[None]
    frequency = np.hypot(y, x)
    frequency[0, 0] = np.inf  # makes the mean 0
    spectrum = rng.normal(size=(2, channels, *frequency.shape)) / frequency**exponent
    waves = np.fft.irfft2(spectrum[0] + 1j * spectrum[1], (height, width))
    waves /= waves.std(axis=(1, 2), keepdims=True)
    return waves.transpose(1, 2, 0)


def summary(values: list[float]) -> dict[str, object]:
    """Median and interquartile range."""
    low, middle, high = statistics.quantiles(values * 2, n=4, method="inclusive")
    return {"value": f"{middle:.4g}", "spread": f"{high - low:.2g}"}
