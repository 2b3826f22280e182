"""The values that a dataset.yaml may hold: class names, colors, raw label values.

Each function reads one of them and raises ValueError, with what would work, for anything else.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any

from ccnet.classes import IGNORE_INDEX
from ccnet.legends.rasters import Color
from ccnet.runtime.files import shown

RawValue = int | Color
"""A pixel as a label file stores it: a number, or a color."""

NUM_NUMBERS = 65536
"""Numbers that a label file of 16 bits can hold."""


def default_palette(num_classes: int) -> tuple[Color, ...]:
    """Distinct colors, none of them black, made as those of Pascal VOC.

    The bits of 1, 2, 3, ... are dealt in turn to red, green and blue, the most significant bit of
    each color first.
    """
    return tuple(
        (
            sum((i >> 3 * bit & 1) << 7 - bit for bit in range(8)),
            sum((i >> 3 * bit + 1 & 1) << 7 - bit for bit in range(8)),
            sum((i >> 3 * bit + 2 & 1) << 7 - bit for bit in range(8)),
        )
        for i in range(1, num_classes + 1)
    )


def without_numbers(classes: Any) -> Any:
    """`classes` as a list of names if it is number → name or name → number, else unchanged.

    Raises:
        ValueError: The numbers are not 0, 1, 2, ... without a gap.
    """
    if not isinstance(classes, Mapping) or not classes:
        return classes
    pairs = list(classes.items())
    if _are_numbers([value for _, value in pairs]):
        pairs = [(value, name) for name, value in pairs]
    elif not _are_numbers([key for key, _ in pairs]) or any(
        isinstance(value, list | tuple) or str(value).startswith("#") for _, value in pairs
    ):
        return classes
    numbered = {int(number): name for number, name in pairs}
    if sorted(numbered) != list(range(len(pairs))):
        raise ValueError(
            f"the numbers of `classes` must be 0, 1, 2, ... without a gap; got "
            f"{shown([number for number, _ in pairs])}. If the label files hold these numbers, "
            "list the names in `classes` and write `mapping: {number: name, ...}`"
        )
    return [numbered[i] for i in range(len(pairs))]


def _are_numbers(values: Sequence[object]) -> bool:
    """Whether all are whole numbers, also as text, as JSON writes keys."""
    return all(
        (isinstance(value, int) and not isinstance(value, bool))
        or (isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 6)
        for value in values
    )


def class_names(classes: Iterable[object]) -> tuple[str, ...]:
    """The names of `classes`, a list of names or a mapping from names to colors."""
    # a set has no order, and the order of names is that of their indices
    is_list = isinstance(classes, Iterable) and not isinstance(classes, str | bytes | Set)
    if not is_list or not 1 <= len(tuple(classes)) <= IGNORE_INDEX:
        raise ValueError(f"`classes` must be a list of 1 to 255 names, got {shown(classes)}")
    for name in classes:
        if not isinstance(name, str) or not name:
            raise ValueError(f"class name {shown(name)} is not text: put it in quotes")
    names = tuple(map(str, classes))
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or "ignore" in names:
        raise ValueError(
            f"class names must differ, and none be 'ignore'; got {shown(repeated or list(names))}"
        )
    return names


def class_colors(
    palette: Sequence[object] | Mapping[str, object], classes: tuple[str, ...]
) -> tuple[Color, ...]:
    """The color of each class, from a list in the order of the classes or from name → color."""
    if isinstance(palette, Mapping):
        if set(palette) != set(classes):
            raise ValueError(
                f"`palette` names {shown(list(palette))}, `classes` {shown(list(classes))}"
            )
        palette = [palette[name] for name in classes]
    if not isinstance(palette, list | tuple):
        raise ValueError(f"`palette` must list a color for each class, got {shown(palette)}")
    colors = tuple(read_color(color) for color in palette)
    if len(colors) != len(classes):
        raise ValueError(f"`palette` has {len(colors)} colors for {len(classes)} classes")
    for i, color in enumerate(colors):
        if color in colors[:i]:
            first = classes[colors.index(color)]
            raise ValueError(
                f"classes {shown(first)} and {shown(classes[i])} have the same color, {color}"
            )
    return colors


def read_color(color: object) -> Color:
    """A color written as `[r, g, b]` with 0 to 255 each, or as `"#rrggbb"`."""
    if isinstance(color, str) and color.startswith("#") and len(color) == 7:
        try:
            red, green, blue = bytes.fromhex(color[1:])
        except ValueError:
            pass
        else:
            return red, green, blue
    elif isinstance(color, list | tuple) and len(color) == 3:
        red, green, blue = color
        if all(type(part) is int and 0 <= part <= 255 for part in color):
            return red, green, blue
    raise ValueError(
        f"{shown(color)} is not a color: write [r, g, b] with 0–255 each, or '#rrggbb'"
    )


def read_ignored(ignore: object) -> list[RawValue]:
    """The raw values of `ignore`: one, a list of them, or none."""
    if ignore is None:
        return []
    return [_read_raw(raw) for raw in (ignore if isinstance(ignore, list | tuple) else [ignore])]


def read_mapping(mapping: Mapping[object, object], classes: tuple[str, ...]) -> dict[RawValue, int]:
    """`mapping` with class indices as its targets, 255 where a value is ignored."""
    if not isinstance(mapping, Mapping):
        raise ValueError(f"`mapping` must be raw value: class, got {shown(mapping)}")
    targets: dict[object, int] = {name: i for i, name in enumerate(classes)}
    targets |= {i: i for i in range(len(classes))}
    targets |= {"ignore": IGNORE_INDEX, IGNORE_INDEX: IGNORE_INDEX}
    read = {}
    for raw, target in mapping.items():
        if isinstance(target, bool) or not isinstance(target, int | str) or target not in targets:
            raise ValueError(
                f"`mapping` sends {shown(raw)} to {shown(target)}, which is neither 'ignore' nor "
                f"a class: {', '.join(classes)[:500]} (0–{len(classes) - 1})"
            )
        read[_read_raw(raw)] = targets[target]
    return read


def _read_raw(raw: object) -> RawValue:
    if isinstance(raw, int) and not isinstance(raw, bool):
        if 0 <= raw < NUM_NUMBERS:
            return raw
        raise ValueError(f"raw label value {shown(raw)} is outside 0–{NUM_NUMBERS - 1}")
    if not isinstance(raw, str | list | tuple):
        raise ValueError(
            f"raw label value {shown(raw)} is neither a whole number 0–{NUM_NUMBERS - 1} nor a "
            "color: a color is [r, g, b] with 0–255 each, or '#rrggbb'"
        )
    return read_color(raw)
