"""From the values in a label file to class indices: numbers, palette PNGs, RGB colors."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

import numpy as np
from jaxtyping import Int16, Integer, Real, UInt8
from PIL import Image

from ccnet.classes import IGNORE_INDEX
from ccnet.datasets.description import (
    NUM_NUMBERS,
    Color,
    RawValue,
    class_colors,
    class_names,
    default_palette,
    read_ignored,
    read_mapping,
)
from ccnet.images.exact import open_exact
from ccnet.runtime.files import DataError

LabelForm = Literal["index", "palette", "rgb"]
"""How a label file says the class of a pixel: by a number, by a palette entry, by a color."""

NUMBER_MODES = ("1", "L", "LA", "P", "PA", "I;16", "I;16B", "I;16L", "I;16N", "I", "F")
"""Pillow's modes of pictures that hold one number per pixel."""
COLOR_MODES = ("RGB", "RGBA", "RGBX", "1", "L", "LA", "P", "PA")
"""Pillow's modes of pictures whose pixels have exact RGB colors of 8 bits."""
PALETTE_MODES = ("P", "PA")
MOST_LISTED = 1000
"""Values without a class of one file that are listed."""
UNMAPPED = -1
"""The class index of raw values that stand for no class, before they are refused."""


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


class LabelMap:
    """Which class a raw label value stands for. The arguments are the keys of dataset.yaml.

    Args:
        classes: Names in the order of their indices, or name → color.
        palette: A color for each class, `[r, g, b]` or `"#rrggbb"`. Without one, distinct colors
            are chosen for display, and RGB labels cannot be read.
        ignore: Raw values (numbers or colors) that become 255. The number 255 always does, unless
            `mapping` makes it a class.
        mapping: Raw value → class index, class name or `"ignore"`. Numbers listed here replace the
            rule that a number is its class index; colors listed here are added to the palette.
        labels: "index" reads the stored numbers, "palette" does so from palette PNGs only, "rgb"
            looks up the colors. By default a grayscale or palette PNG is read by its numbers and an
            RGB one by its colors; a palette PNG whose colors contradict its numbers is refused.

    Raises:
        ValueError: The description contradicts itself.
    """

    def __init__(
        self,
        classes: Sequence[str] | Mapping[str, object],
        palette: Sequence[object] | Mapping[str, object] | None = None,
        ignore: object = None,
        mapping: Mapping[object, object] | None = None,
        labels: LabelForm | None = None,
    ):
        if isinstance(classes, Mapping):
            if palette is not None:
                raise ValueError("`classes` already gives each class a color; leave out `palette`")
            palette = classes
        self.classes = class_names(classes)
        colors = None if palette is None else class_colors(palette, self.classes)
        self.palette = default_palette(len(self.classes)) if colors is None else colors
        if labels is not None and labels not in get_args(LabelForm):
            raise ValueError(f"`labels` is {labels!r}; it can be {', '.join(get_args(LabelForm))}")
        self.form = labels

        self.targets: Mapping[RawValue, int] = self._read_targets(colors or (), ignore, mapping)
        """Raw value, a number or a color → class index, or 255 where ignored."""
        self._make_tables()

    def _read_targets(
        self,
        colors: Sequence[Color],
        ignore: object,
        mapping: Mapping[object, object] | None,
    ) -> dict[RawValue, int]:
        mapped = {} if mapping is None else read_mapping(mapping, self.classes)
        targets: dict[RawValue, int] = {color: i for i, color in enumerate(colors)}
        if not any(isinstance(raw, int) for raw in mapped):
            targets |= {i: i for i in range(len(self.classes))}
        targets |= mapped
        for raw in read_ignored(ignore):
            target = targets.setdefault(raw, IGNORE_INDEX)
            if target != IGNORE_INDEX:
                raise ValueError(
                    f"`ignore` lists {raw}, which also stands for {self._meaning(target)}. "
                    "If class numbers do not start at 0, say so: "
                    f"`mapping: {{1: {self.classes[0]}, ...}}`"
                )
        targets.setdefault(IGNORE_INDEX, IGNORE_INDEX)
        return targets

    def _make_tables(self) -> None:
        """Make `targets` arrays, which look up all pixels of a label at once."""
        numbers = {raw: target for raw, target in self.targets.items() if isinstance(raw, int)}
        self._by_number = np.full(NUM_NUMBERS, UNMAPPED, np.int16)
        self._by_number[list(numbers)] = list(numbers.values())
        self._by_byte = self._by_number[:256].astype(np.uint8).tobytes()
        self._known_bytes = bytes(raw for raw in numbers if raw < 256)
        coded = sorted(
            (_color_code(raw), target)
            for raw, target in self.targets.items()
            if not isinstance(raw, int)
        )
        self._color_codes = np.array([code for code, _ in coded], np.int32)
        self._color_targets = np.array([target for _, target in coded], np.int16)

    def read(self, path: Path | str) -> UInt8[np.ndarray, "h w"]:
        """Read a label file as class indices, 255 where ignored. Transparency is left out.

        Raises:
            LabelValueError: Values stand for no class. The message names the file and each value,
                the first pixel that has it and the number of pixels that do.
            DataError: The file cannot be read, has another form than the description says, or
                stores values in a way that changes them, as a JPEG does.
        """
        path = Path(path)
        picture, bits = open_exact(path)
        by_color = self.form == "rgb" or (self.form is None and picture.mode not in NUMBER_MODES)
        if picture.mode not in COLOR_MODES and (by_color or picture.mode not in NUMBER_MODES):
            raise DataError(
                f"{path}: mode {picture.mode!r} has no RGB colors of 8 bits; save the label as a "
                "PNG of colors, or write `labels: index` if it holds numbers.",
                path=path,
            )
        if by_color:
            raw = self._color_raster(picture, path)
            label = self._look_up_colors(raw)
        else:
            raw = self._number_raster(picture, bits, path)
            if raw.dtype == np.uint8:
                values = bytearray(raw)
                if not values.translate(None, self._known_bytes):  # only known values
                    # takes a third of the time of NumPy's indexing
                    known = values.translate(self._by_byte)
                    return np.frombuffer(known, np.uint8).reshape(raw.shape)
            label = self._look_up_numbers(raw)
        if (label == UNMAPPED).any():
            values, total = _unmapped_values(raw, label == UNMAPPED, by_color)
            raise LabelValueError(
                f"{path}: {_list_some(values, total)}: no class has it. "
                f"{self._advice(values, total, picture)}",
                path=path,
                values=values,
            )
        return label.astype(np.uint8)

    def _number_raster(
        self, picture: Image.Image, bits: int, path: Path
    ) -> Real[np.ndarray, "h w"]:
        if self.form == "palette" and picture.mode not in PALETTE_MODES:
            raise DataError(
                f"{path}: `labels: palette` needs palette PNGs, but this file has mode "
                f"{picture.mode!r}. Use `labels: index` for grayscale, `labels: rgb` for colors.",
                path=path,
            )
        raw = np.asarray(picture)
        if picture.mode not in NUMBER_MODES:
            if (raw[:, :, :3] != raw[:, :, :1]).any():
                raise DataError(
                    f"{path}: `labels: index` needs one number per pixel, but this file has "
                    "colors. Use `labels: rgb` with a `palette`.",
                    path=path,
                )
            return raw[:, :, 0]
        if picture.mode in ("LA", "PA"):
            raw = raw[:, :, 0]
        if picture.mode in PALETTE_MODES and self.form is None:
            self._refuse_contradiction(picture, raw, path)
        if picture.mode == "L":
            # Pillow multiplies the numbers of 2 or 4 bits
            return raw // {2: 85, 4: 17}.get(bits, 1)
        return raw.astype(np.uint8) if picture.mode == "1" else raw

    def _color_raster(self, picture: Image.Image, path: Path) -> Integer[np.ndarray, "h w"]:
        if not len(self._color_codes):
            raise DataError(
                f"{path}: an RGB label needs the color of each class. Write "
                f"`classes: {{{self.classes[0]}: [r, g, b], ...}}`, or `labels: index` if its "
                "three channels repeat the class number.",
                path=path,
            )
        if picture.mode == "PA":
            picture = picture.convert("RGBA")
        # one 32-bit word per pixel, 0x00bbggrr, without arithmetic
        return np.asarray(picture.convert("RGBX")).view("<u4")[:, :, 0].astype(np.int32) & 0xFFFFFF

    def _look_up_numbers(self, raw: Real[np.ndarray, "h w"]) -> Int16[np.ndarray, "h w"]:
        if raw.dtype.itemsize <= 2:
            return self._by_number[raw]
        known = (raw >= 0) & (raw < NUM_NUMBERS) & (raw == np.rint(raw))
        return np.where(
            known, self._by_number[np.where(known, raw, 0).astype(np.int32)], np.int16(UNMAPPED)
        )

    def _look_up_colors(self, raw: Integer[np.ndarray, "h w"]) -> Int16[np.ndarray, "h w"]:
        nearest = np.searchsorted(self._color_codes, raw).clip(max=len(self._color_codes) - 1)
        known = self._color_codes[nearest] == raw
        return np.where(known, self._color_targets[nearest], np.int16(UNMAPPED))

    def _refuse_contradiction(
        self, picture: Image.Image, raw: UInt8[np.ndarray, "h w"], path: Path
    ) -> None:
        own = _own_palette(picture)
        for number in np.flatnonzero(np.bincount(raw.ravel(), minlength=256)).tolist():
            by_number = self.targets.get(number)
            by_color = self.targets[own[number]] if own.get(number) in self.targets else None
            if by_number is not None and by_color is not None and by_number != by_color:
                raise DataError(
                    f"{path}: palette entry {number} is {self._meaning(by_number)} by its number "
                    f"but has the color {own[number]} of {self._meaning(by_color)}. Say which "
                    "counts: `labels: index` (numbers) or `labels: rgb` (colors).",
                    path=path,
                )

    def _meaning(self, target: int) -> str:
        return "ignored" if target == IGNORE_INDEX else f"class {target} ({self.classes[target]!r})"

    def _advice(self, values: tuple[UnmappedValue, ...], total: int, picture: Image.Image) -> str:
        found = [value.value for value in values if not isinstance(value.value, tuple)]
        if not all(isinstance(raw, int) and 0 <= raw < NUM_NUMBERS for raw in found):
            return (
                f"Labels are whole numbers from 0 to {NUM_NUMBERS - 1}: save it as a PNG of such."
            )
        if not found:
            if total > len(self.classes) + 16:
                return (
                    "So many colors come from lossy compression or smooth resizing: make the label "
                    "again as a PNG, resized by nearest neighbor."
                )
            if all(value.is_gray for value in values):
                return "If the three channels repeat the class number, write `labels: index`."
            return "Add the color to `palette`, `mapping` or `ignore`."
        numbers = [raw for raw in self.targets if isinstance(raw, int)]
        ignored = [raw for raw in numbers if self.targets[raw] == IGNORE_INDEX]
        known = (
            f"Classes are {_ranges(set(numbers) - set(ignored))}, ignored is {_ranges(ignored)}."
        )
        if found == [len(self.classes)] and len(self.classes) not in self.targets:
            return f"{known} If they count from 1: `mapping: {{1: {self.classes[0]}, ...}}`."
        own = _own_palette(picture) if picture.mode in PALETTE_MODES else {}
        if all(own.get(int(number)) in self.targets for number in found):
            return (
                f"{known} The colors of its palette are known: `labels: rgb` may be what you need."
            )
        return f"{known} Add the value to `mapping` or `ignore`."


def _own_palette(picture: Image.Image) -> dict[int, Color]:
    """The colors of a palette PNG by their number."""
    flat = picture.getpalette("RGB") or []
    return {i: (flat[3 * i], flat[3 * i + 1], flat[3 * i + 2]) for i in range(len(flat) // 3)}


def _color_code(color: Color) -> int:
    """A color as one number, 0xbbggrr."""
    return color[0] | color[1] << 8 | color[2] << 16


def _unmapped_values(
    raw: Real[np.ndarray, "h w"], unmapped: np.ndarray, by_color: bool
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


def _list_some(values: tuple[UnmappedValue, ...], total: int, limit: int = 5) -> str:
    listed = "; ".join(str(value) for value in values[:limit])
    return listed if total <= limit else f"{listed}; and {total - limit} more"


def _ranges(numbers: Iterable[int]) -> str:
    """Numbers as text, such as "0–3, 7"."""
    ordered = sorted(numbers)
    starts = [n for n in ordered if n - 1 not in ordered]
    ends = [n for n in ordered if n + 1 not in ordered]
    return ", ".join(f"{a}" if a == b else f"{a}–{b}" for a, b in zip(starts, ends, strict=True))
