"""From the values in a label file to class indices: numbers, palette PNGs, RGB colors."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, Self, get_args

import numpy as np
from jaxtyping import Bool, Int16, Integer, Real, UInt8
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
    without_numbers,
)
from ccnet.datasets.unmapped import (
    LabelValueError,
    advice_on_colors,
    advice_on_numbers,
    list_some,
    unmapped_values,
    written_mapping,
)
from ccnet.images.exact import open_exact
from ccnet.legends.rasters import (
    COLOR_MODES,
    GRAY_MODES,
    NUMBER_MODES,
    PALETTE_MODES,
    color_code,
    color_raster,
    is_gray,
    number_raster,
    own_colors,
)
from ccnet.runtime.files import DataError

LabelForm = Literal["index", "palette", "rgb"]
"""How a label file says the class of a pixel: by a number, by a palette entry, by a color."""

NUM_SAMPLED = 64
"""Label files that are read to see which of two meanings their values have."""
UNMAPPED = -1
"""The class index of raw values that stand for no class, before they are refused."""


class LabelMap:
    """Which class a raw label value stands for. The arguments are the keys of dataset.yaml.

    Args:
        classes: Names in the order of their indices, index → name, name → index, or name → color.
        palette: A color for each class, `[r, g, b]` or `"#rrggbb"`. Without one, distinct colors
            are chosen for display, and RGB labels cannot be read.
        ignore: Raw values (numbers or colors) that become 255. The number 255 always does, unless
            `mapping` makes it a class.
        mapping: Raw value → class index, class name or `"ignore"`. Numbers listed here replace the
            rule that a number is its class index; colors listed here are added to the palette.
        labels: "index" reads the stored numbers, "palette" does so from palette PNGs only, "rgb"
            looks up the colors. By default a grayscale or palette PNG is read by its numbers and an
            RGB one by its colors, or by its numbers if no class has a color and its channels are
            equal; a palette PNG whose colors contradict its numbers is refused.

    Raises:
        ValueError: The description contradicts itself.
    """

    def __init__(
        self,
        classes: Sequence[str] | Mapping[Any, object],
        palette: Sequence[object] | Mapping[str, object] | None = None,
        ignore: object = None,
        mapping: Mapping[object, object] | None = None,
        labels: LabelForm | None = None,
    ):
        classes = without_numbers(classes)
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
        self.note: str | None = None
        """What `settled` has decided, as a part of a sentence."""
        self._has_gray_palette = (
            labels is None and colors is not None and all(len(set(c)) == 1 for c in colors)
        )
        self._gray_form: LabelForm | None = None
        """How gray labels are read where all classes have gray colors; None: as is left open."""
        raws = [*read_ignored(ignore), *(mapping or ())]
        self._may_redefine_255 = not any(isinstance(raw, int) for raw in mapping or ()) and (
            IGNORE_INDEX not in raws
        )

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
            (color_code(raw), target)
            for raw, target in self.targets.items()
            if not isinstance(raw, int)
        )
        self._color_codes = np.array([code for code, _ in coded], np.int32)
        self._color_targets = np.array([target for _, target in coded], np.int16)

    def read(self, path: Path | str, *, upright: bool = True) -> UInt8[np.ndarray, "h w"]:
        """Read a label file as class indices, 255 where ignored. Transparency is left out.

        Args:
            path: The file.
            upright: Turn the label by the EXIF orientation that its file has, if any.

        Raises:
            LabelValueError: Values stand for no class. The message names the file and each value,
                the first pixel that has it and the number of pixels that do.
            DataError: The file cannot be read, has another form than the description says, or
                stores values in a way that changes them, as a JPEG does.
        """
        path = Path(path)
        picture, bits = open_exact(path, upright=upright)
        by_color = self._is_by_color(picture)
        if picture.mode not in COLOR_MODES and (by_color or picture.mode not in NUMBER_MODES):
            raise DataError(
                f"{path}: mode {picture.mode!r} has no RGB colors of 8 bits; save the label as a "
                "PNG of colors, or write `labels: index` if it holds numbers.",
                path=path,
            )
        if by_color:
            if not len(self._color_codes):
                raise DataError(
                    f"{path}: an RGB label needs the color of each class. Write "
                    f"`classes: {{{self.classes[0]}: [r, g, b], ...}}`, or `labels: index` if its "
                    "three channels repeat the class number.",
                    path=path,
                )
            raw = color_raster(picture)
            label = self._look_up_colors(raw)
        else:
            self._require_palette(picture, path)
            raw = number_raster(picture, bits, path)
            if self._may_contradict(picture):
                self._refuse_contradiction(raw, own_colors(picture, bits), path)
            if raw.dtype == np.uint8:
                values = bytearray(raw)
                if not values.translate(None, self._known_bytes):  # only known values
                    # takes a third of the time of NumPy's indexing
                    known = values.translate(self._by_byte)
                    return np.frombuffer(known, np.uint8).reshape(raw.shape)
            label = self._look_up_numbers(raw)
        if (label == UNMAPPED).any():
            raise self._unmapped_error(path, picture, raw, label == UNMAPPED, by_color)
        return label.astype(np.uint8)

    def _is_by_color(self, picture: Image.Image) -> bool:
        """Whether a file is read by its colors, not by its numbers."""
        if self.form is not None:
            return self.form == "rgb"
        if picture.mode in GRAY_MODES:
            return self._gray_form == "rgb"
        has_colors = picture.mode not in NUMBER_MODES
        # without a color to look up, three equal channels can only repeat a number
        return has_colors and (bool(len(self._color_codes)) or not is_gray(picture))

    def _unmapped_error(
        self,
        path: Path,
        picture: Image.Image,
        raw: Real[np.ndarray, "h w"],
        unmapped: Bool[np.ndarray, "h w"],
        by_color: bool,
    ) -> LabelValueError:
        values, total = unmapped_values(raw, unmapped, by_color)
        if by_color:
            advice = advice_on_colors(values, total, self.classes)
        else:
            own = own_colors(picture, 8) if picture.mode in PALETTE_MODES else {}
            advice = advice_on_numbers(raw, values, total, self.classes, self.targets, own)
        if self.note is not None:
            advice += f" (In other labels {self.note}.)"
        message = f"{path}: {list_some(values, total)}: no class has it. {advice}"
        return LabelValueError(message, path=path, values=values)

    def settled(self, paths: Sequence[Path]) -> Self:
        """The same map with what the description leaves open decided by the label files.

        Two things are left open. Where there are two classes, 255 may be the second one, as in the
        black and white masks of many tools, or what is ignored: it is the second class if the
        labels hold 0, 255 and no other number. Where all classes have gray colors, a gray label
        holds either these or class numbers: it is read by color if only that explains its values.
        The map's `note` says what was decided. At most `NUM_SAMPLED` files of `paths` are read for
        that; values of the others that contradict it are errors.
        """
        is_binary = len(self.classes) == 2 and self._may_redefine_255
        if not (is_binary or self._has_gray_palette):
            return self
        step = max(1, -(-len(paths) // NUM_SAMPLED))
        seen: set[float] = set()
        for path in paths[::step]:
            seen |= self._numbers_of(path)
            if is_binary and not self._has_gray_palette and not seen <= {0, IGNORE_INDEX}:
                return self
        if self._has_gray_palette:
            return self._settled_by_gray_values(seen)
        return self._with_255_as_class() if seen == {0, IGNORE_INDEX} else self

    def _settled_by_gray_values(self, seen: set[float]) -> Self:
        levels = {raw[0] for raw in self.targets if isinstance(raw, tuple)}
        numbers = {raw for raw in self.targets if isinstance(raw, int)}
        settled = copy.copy(self)
        if seen <= levels and not seen <= set(range(len(self.classes))):
            settled._gray_form = "rgb"
            settled.note = "the gray values are the colors of the classes"
        elif seen <= numbers and not seen <= levels:
            settled._gray_form = "index"
            settled.note = "the gray values are the numbers of the classes"
        return settled

    def _with_255_as_class(self) -> Self:
        settled = copy.copy(self)
        settled.targets = {raw: target for raw, target in self.targets.items() if raw != 1}
        settled.targets |= {IGNORE_INDEX: 1}
        settled.note = (
            f"255 is {self.classes[1]!r}, since there are two classes and the labels hold only "
            f"0 and 255; to say so, write `{written_mapping((0, IGNORE_INDEX), self.classes)}`, "
            "or, if 255 does not count, `ignore: 255`"
        )
        settled._make_tables()
        return settled

    def without_255(self) -> Self:
        """The same map in which 255 stands for nothing, for labels that never hold it."""
        known = copy.copy(self)
        known.targets = {raw: to for raw, to in self.targets.items() if raw != IGNORE_INDEX}
        known._make_tables()
        return known

    def _numbers_of(self, path: Path) -> set[float]:
        """The numbers in a label file; none if it has colors or cannot be read."""
        try:
            picture, bits = open_exact(path)
            if self._is_by_color(picture) or (
                self._has_gray_palette  # and the numbers of the file are no gray values
                and (picture.mode in (*PALETTE_MODES, "1") or bits < 8)
            ):
                return set()
            raw = number_raster(picture, bits, path)
        except DataError:  # which reading the pair tells
            return set()
        if raw.dtype.itemsize <= 2:
            return set(np.flatnonzero(np.bincount(raw.ravel())).tolist())
        return set(np.unique(raw).tolist())

    def _require_palette(self, picture: Image.Image, path: Path) -> None:
        if self.form == "palette" and picture.mode not in PALETTE_MODES:
            raise DataError(
                f"{path}: `labels: palette` needs palette PNGs, but this file has mode "
                f"{picture.mode!r}. Use `labels: index` for grayscale, `labels: rgb` for colors.",
                path=path,
            )

    def _may_contradict(self, picture: Image.Image) -> bool:
        """Whether the colors of a file that is read by number may be those of other classes."""
        if self.form is not None:
            return False
        is_open_gray = self._has_gray_palette and self._gray_form is None
        return picture.mode in PALETTE_MODES or (is_open_gray and picture.mode in GRAY_MODES)

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
        self, raw: UInt8[np.ndarray, "h w"], own: Mapping[int, Color], path: Path
    ) -> None:
        for number in np.flatnonzero(np.bincount(raw.ravel(), minlength=256)).tolist():
            by_number = self.targets.get(number)
            by_color = self.targets[own[number]] if own.get(number) in self.targets else None
            if by_number is not None and by_color is not None and by_number != by_color:
                raise DataError(
                    f"{path}: the value {number} is {self._meaning(by_number)} by its number "
                    f"but has the color {own[number]} of {self._meaning(by_color)}. Say which "
                    "counts: `labels: index` (numbers) or `labels: rgb` (colors).",
                    path=path,
                )

    def _meaning(self, target: int) -> str:
        return "ignored" if target == IGNORE_INDEX else f"class {target} ({self.classes[target]!r})"
