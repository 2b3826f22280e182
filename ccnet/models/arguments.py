"""The arguments of a network as config.json stores them, checked when the network is built."""

import inspect
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from ccnet.backbones import BACKBONES, backbone_options
from ccnet.models.head import CCNetHead

HEAD_ARGUMENTS = tuple(
    name
    for name in inspect.signature(CCNetHead).parameters
    if name not in ("in_channels", "num_classes")
)
"""What `CCNet` hands on to its head."""
BACKBONE_ARGUMENTS = tuple(
    dict.fromkeys(
        option
        for name in BACKBONES
        for option in backbone_options(name)
        if option not in ("in_channels", "channels")  # arguments of the network itself
    )
)
"""What `CCNet` hands on to its backbone; a backbone may have only some of them."""


def plain_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `CCNet` by name, without `pretrained`, as config.json stores them.

    `given` are the local variables at the start of its constructor. Raises TypeError for an
    argument that neither the network nor any backbone has.
    """
    own = {k: v for k, v in given.items() if k not in ("self", "__class__", "backbone_options")}
    options, backbone = given["backbone_options"], own["backbone"]
    if unknown := [name for name in options if name not in BACKBONE_ARGUMENTS]:
        known = [name for name in backbone_options(backbone) if name not in own]
        raise TypeError(
            f"CCNet has no argument {', '.join(unknown)}; it has {', '.join(own)}, and with "
            f"{backbone} also {', '.join(known) or 'no other'}"
        )
    del own["pretrained"]
    stored = own | dict.fromkeys(BACKBONE_ARGUMENTS) | options
    return {name: to_plain(name, value) for name, value in stored.items()}


def to_plain(name: str, value: Any) -> Any:
    """Convert a value to what JSON has: numbers, strings, True, False, None, lists and dicts.

    Accepts scalars and arrays of numpy, tensors, tuples and iterators, also inside each other.
    Raises TypeError, with `name`, for anything else.
    """
    try:
        return json.loads(json.dumps(value, default=_convert, allow_nan=False))
    except (TypeError, ValueError) as error:  # ValueError: it contains itself or nan
        raise TypeError(f"{name} cannot be stored in config.json: {error}") from error


def _convert(value: Any) -> Any:
    if hasattr(value, "tolist"):  # of numpy and torch; a scalar gives a number
        return value.tolist()
    is_ordered = isinstance(value, Iterable) and not isinstance(value, bytes | set | frozenset)
    if is_ordered and not isinstance(value, type):
        return list(value)
    raise TypeError(f"got {value!r} of type {type(value).__name__}")


def class_names(classes: Iterable[str] | None, num_classes: int) -> tuple[str, ...]:
    """One name per class; without names they are numbered."""
    if classes is None:
        return tuple(f"class {index}" for index in range(num_classes))
    names = tuple(classes)
    require_length("classes", names, num_classes, "classes")
    return names


def class_colors(
    palette: Sequence[Sequence[int]] | None, num_classes: int
) -> tuple[tuple[int, int, int], ...] | None:
    """One RGB color per class, or None."""
    if palette is None:
        return None
    require_length("palette", palette, num_classes, "classes")
    for color in palette:
        if len(color) != 3 or not all(0 <= value <= 255 and value % 1 == 0 for value in color):
            raise ValueError(f"palette wants three integers from 0 to 255 per class, got {color}")
    return tuple((int(red), int(green), int(blue)) for red, green, blue in palette)


def channel_values(
    name: str, values: Sequence[float] | None, default: Sequence[float], in_channels: int
) -> list[float]:
    """One value per channel of the image; `default`, those of RGB, are repeated as needed."""
    if values is None:
        return in_turn(default, in_channels)
    require_length(name, values, in_channels, "channels")
    return list(map(float, values))


def in_turn(values: Sequence[float], in_channels: int) -> list[float]:
    """Values of known channels for other channels, repeated from the first on.

    One channel gets their average, as a grayscale image needs.
    """
    if in_channels == 1:
        return [sum(values) / len(values)]
    return [values[index % len(values)] for index in range(in_channels)]


def require_length(name: str, values: Sequence[Any], count: int, of: str) -> None:
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} entries for {count} {of}")
