"""What may stand in a data set's description: class names, colours, raw label values."""

from collections.abc import Iterable, Mapping, Sequence

from ccnet.classes import IGNORE_INDEX

Color = tuple[int, int, int]
RawValue = int | Color

NUM_NUMBERS = 65536


def default_palette(num_classes: int) -> tuple[Color, ...]:
    """Distinct colours, none black: the bits of 1, 2, ... dealt to red, green and blue from the
    top, as Pascal VOC does."""
    return tuple(
        (
            sum((i >> 3 * bit & 1) << 7 - bit for bit in range(8)),
            sum((i >> 3 * bit + 1 & 1) << 7 - bit for bit in range(8)),
            sum((i >> 3 * bit + 2 & 1) << 7 - bit for bit in range(8)),
        )
        for i in range(1, num_classes + 1)
    )


def class_names(classes: Iterable[object]) -> tuple[str, ...]:
    listed = isinstance(classes, Iterable) and not isinstance(classes, str)
    if not listed or not 1 <= len(tuple(classes)) <= 255:
        raise ValueError(f"`classes` must be a list of 1 to 255 names, got {classes!r}")
    for name in classes:
        if not isinstance(name, str) or not name:
            raise ValueError(f"class name {name!r} is not text: put it in quotes")
    names = tuple(map(str, classes))
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated or "ignore" in names:
        raise ValueError(f"class names must differ, and none be 'ignore'; got {repeated or names}")
    return names


def class_colors(
    palette: Sequence[object] | Mapping[str, object], classes: tuple[str, ...]
) -> tuple[Color, ...]:
    if isinstance(palette, Mapping):
        if set(palette) != set(classes):
            raise ValueError(f"`palette` names {list(palette)}, `classes` {list(classes)}")
        palette = [palette[name] for name in classes]
    if not isinstance(palette, list | tuple):
        raise ValueError(f"`palette` must list a colour for each class, got {palette!r}")
    colors = tuple(read_color(color) for color in palette)
    if len(colors) != len(classes):
        raise ValueError(f"`palette` has {len(colors)} colours for {len(classes)} classes")
    for i, color in enumerate(colors):
        if color in colors[:i]:
            first = classes[colors.index(color)]
            raise ValueError(f"classes {first!r} and {classes[i]!r} have one colour, {color}")
    return colors


def read_color(color: object) -> Color:
    """`[r, g, b]` with 0–255 each, or `"#rrggbb"`; ValueError for anything else."""
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
    raise ValueError(f"{color!r} is no colour: write [r, g, b] with 0–255 each, or '#rrggbb'")


def _read_raw(raw: object) -> RawValue:
    if isinstance(raw, int) and not isinstance(raw, bool):
        if 0 <= raw < NUM_NUMBERS:
            return raw
        raise ValueError(f"raw label value {raw} is outside 0–{NUM_NUMBERS - 1}")
    return read_color(raw)


def read_ignored(ignore: object) -> list[RawValue]:
    if ignore is None:
        return []
    return [_read_raw(raw) for raw in (ignore if isinstance(ignore, list | tuple) else [ignore])]


def read_mapping(mapping: Mapping[object, object], classes: tuple[str, ...]) -> dict[RawValue, int]:
    if not isinstance(mapping, Mapping):
        raise ValueError(f"`mapping` must be raw value: class, got {mapping!r}")
    targets: dict[object, int] = {name: i for i, name in enumerate(classes)}
    targets |= {i: i for i in range(len(classes))}
    targets |= {"ignore": IGNORE_INDEX, IGNORE_INDEX: IGNORE_INDEX}
    read = {}
    for raw, target in mapping.items():
        if isinstance(target, bool) or not isinstance(target, int | str) or target not in targets:
            raise ValueError(
                f"`mapping` sends {raw} to {target!r}, which is neither 'ignore' nor a class: "
                f"{', '.join(classes)} (0–{len(classes) - 1})"
            )
        read[_read_raw(raw)] = targets[target]
    return read
