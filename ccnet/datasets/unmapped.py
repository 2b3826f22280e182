"""Label values that stand for no class: which they are, and what would work."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Real

from ccnet.classes import IGNORE_INDEX
from ccnet.datasets.description import NUM_NUMBERS, Color, RawValue
from ccnet.runtime.files import DataError

MOST_LISTED = 1000
"""Values without a class of one file that are listed."""
MANY = 16
"""So many more values than classes come from smoothing or lossy compression."""


@dataclass(frozen=True)
class UnmappedValue:
    """A value in a label file that stands for no class."""

    value: RawValue | float
    """The number or the color as the file stores it."""
    x: int
    """Column of the first pixel that has it."""
    y: int
    """Row of that pixel."""
    pixels: int
    """Number of pixels that have it."""

    @property
    def is_gray(self) -> bool:
        return isinstance(self.value, tuple) and len(set(self.value)) == 1

    def __str__(self) -> str:
        kind = "color" if isinstance(self.value, tuple) else "value"
        unit = "pixel" if self.pixels == 1 else "pixels"
        return f"{kind} {self.value} first at (x={self.x}, y={self.y}), {self.pixels} {unit}"


class LabelValueError(DataError):
    """A label file holds values that stand for no class; `values` lists up to a thousand."""

    def __init__(
        self, message: str, *, path: Path | None = None, values: tuple[UnmappedValue, ...] = ()
    ):
        super().__init__(message, path=path)
        self.values = values


def unmapped_values(
    raw: Real[np.ndarray, "h w"], unmapped: Bool[np.ndarray, "h w"], by_color: bool
) -> tuple[tuple[UnmappedValue, ...], int]:
    """The first `MOST_LISTED` values without a class, and the number of all."""
    places = np.flatnonzero(unmapped)
    codes, first, counts = np.unique(raw.ravel()[places], return_index=True, return_counts=True)
    values = []
    listed = (codes[:MOST_LISTED].tolist(), places[first[:MOST_LISTED]].tolist(), counts)
    for code, place, pixels in zip(*listed, strict=False):
        value = (code & 255, code >> 8 & 255, code >> 16) if by_color else _plain(code)
        y, x = divmod(place, raw.shape[1])
        values.append(UnmappedValue(value, x, y, int(pixels)))
    return tuple(values), len(counts)


def _plain(number: float) -> int | float:
    """The number as an int where it is a whole one."""
    return int(number) if math.isfinite(number) and number == int(number) else number


def list_some(values: tuple[UnmappedValue, ...], total: int, limit: int = 5) -> str:
    """The first values with their places, as text."""
    listed = "; ".join(str(value) for value in values[:limit])
    return listed if total <= limit else f"{listed}; and {total - limit} more"


def advice_on_colors(values: tuple[UnmappedValue, ...], total: int, classes: Sequence[str]) -> str:
    """What would work for a label of colors that stand for no class."""
    if total > len(classes) + MANY:
        return (
            "So many colors come from lossy compression or smooth resizing: make the label "
            "again as a PNG, resized by nearest neighbor."
        )
    if all(value.is_gray for value in values):
        return "If the three channels repeat the class number, write `labels: index`."
    return "Add the color to `palette`, `mapping` or `ignore`."


def advice_on_numbers(
    raw: Real[np.ndarray, "h w"],
    values: tuple[UnmappedValue, ...],
    total: int,
    classes: Sequence[str],
    targets: Mapping[RawValue, int],
    own_palette: Mapping[int, Color],
) -> str:
    """What would work for a label of numbers that stand for no class.

    Args:
        raw: The label as it is stored.
        values, total: Its values without a class, and the number of all such.
        classes: The names of the classes.
        targets: Raw value → class index.
        own_palette: The colors of the file, if it has any.
    """
    found = [value.value for value in values]
    if not all(isinstance(number, int) and 0 <= number < NUM_NUMBERS for number in found):
        low, high = float(raw.min()), float(raw.max())
        if low >= 0 and high <= 1:
            return (
                "Values between 0 and 1 are shares or soft edges, not classes: round them, and "
                "save the label as a PNG of whole numbers."
            )
        return f"Labels are whole numbers from 0 to {NUM_NUMBERS - 1}: save it as a PNG of such."
    if total > len(classes) + MANY and raw.max() <= 255:
        return _advice_on_soft_edges(len(classes))
    numbers = [number for number in targets if isinstance(number, int)]
    ignored = [number for number in numbers if targets[number] == IGNORE_INDEX]
    known = f"Classes are {ranges(set(numbers) - set(ignored))}, ignored is {ranges(ignored)}."
    if found == [len(classes)] and len(classes) not in targets:
        return f"{known} If they count from 1: `mapping: {{1: {classes[0]}, ...}}`."
    levels = spread_levels(np.unique(raw).tolist(), len(classes))
    if levels is not None:
        return (
            f"{known} If the classes are in this order, write `{written_mapping(levels, classes)}`."
        )
    if all(own_palette.get(number) in targets for number in found if isinstance(number, int)):
        return f"{known} The colors of its palette are known: `labels: rgb` may be what you need."
    return f"{known} Add the value to `mapping` or `ignore`."


def _advice_on_soft_edges(num_classes: int) -> str:
    remedy = "make the label again as a PNG, without them and resized by nearest neighbor"
    if num_classes == 2:
        remedy += ", or set all values from 128 on to 255 and the others to 0"
    return (
        "So many gray values come from soft edges, smooth resizing or lossy compression: "
        f"{remedy}. If they are class numbers, name all classes."
    )


def spread_levels(present: Sequence[float], num_classes: int) -> list[int] | None:
    """The gray values of the classes if those of a file are spread over 0–255, else None.

    They are so if each is k · 255 / (n − 1), rounded up or down, for n classes. Where a file has
    as many other values as there are classes, it is these. The value 255 counts as a class in
    neither case unless the file has no other than these.
    """
    if num_classes < 2 or any(number != int(number) for number in present):
        return None
    exact = [255 * k / (num_classes - 1) for k in range(num_classes)]
    places = [round(number * (num_classes - 1) / 255) for number in present]
    is_spread = [
        k < num_classes and abs(number - exact[k]) < 1
        for number, k in zip(present, places, strict=True)
    ]
    if all(is_spread):
        levels = [round(level) for level in exact]
        for number, k in zip(present, places, strict=True):
            levels[k] = int(number)
        return levels
    return [int(number) for number in present] if len(present) == num_classes else None


def written_mapping(levels: Sequence[int], classes: Sequence[str]) -> str:
    """The `mapping` of dataset.yaml that sends each raw value to a class; cut where it is long."""
    pairs = [f"{level}: {name}" for level, name in zip(levels, classes, strict=True)]
    shown = pairs if len(pairs) <= 6 else [*pairs[:5], "..."]
    return f"mapping: {{{', '.join(shown)}}}"


def ranges(numbers: Iterable[int]) -> str:
    """Numbers as text, such as "0–3, 7"."""
    ordered = sorted(numbers)
    starts = [n for n in ordered if n - 1 not in ordered]
    ends = [n for n in ordered if n + 1 not in ordered]
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in zip(starts, ends, strict=True))
