"""The arguments of a network as config.json stores them, checked when the network is built."""

import inspect
import itertools
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from ccnet.backbones import BACKBONES, backbone_options
from ccnet.images.bands import Bands
from ccnet.models.head import CCNetHead
from ccnet.runtime.files import read_json, shown

HEAD_ARGUMENTS = tuple(
    name
    for name in inspect.signature(CCNetHead).parameters
    if name not in ("in_channels", "num_classes", "finer_channels")
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


LIMITS = {
    "num_classes": (2, 255),  # labels are bytes, of which 255 is ignored
    "recurrence": (0, 16),  # two passes reach every pixel
    "channels": (1, 4096),
    "reduction": (1, 4096),
    "auxiliary_channels": (1, 4096),
    "embedding_channels": (1, 4096),
    "in_channels": (1, 1024),  # hyperspectral cameras have some hundred
    "output_stride": (1, 64),
}
"""The least and the largest value of arguments that are integers.

The largest ones are several times those of published networks: a network must not take gigabytes
because of one number in a file.
"""
SWITCHES = ("shared", "auxiliary_bias", "align_corners", "ceil_mode")
WORDS = ("backbone", "activation", "stem", "dilation")
ADDED = ("refinement", "embedding_channels", "bands")
"""Arguments since 0.1.0, stored only where they are not None: config.json and the fingerprint of a
network without them stay as they were.
"""
OPTIONAL = ("auxiliary_channels", *ADDED, *BACKBONE_ARGUMENTS)
"""Arguments that may be None."""
MOST_STAGES = 4
"""Of a refinement."""
LONGEST_NAME = 200
"""Characters of the name of a class."""
LARGEST_VALUE = 1e6
"""Of a mean or standard deviation, for images of 0 to 255; the least deviation is 1 / this."""


def read_arguments(path: Path) -> dict[str, Any]:
    """What a config.json holds, without `pretrained`: reading a model must not start a download."""
    arguments = read_json(path)
    if not isinstance(arguments, dict):
        raise ValueError(f"{path.name} must be an object of JSON")
    arguments.pop("pretrained", None)
    return arguments


def plain_arguments(given: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `CCNet` by name, without `pretrained`, as config.json stores them.

    `given` are the local variables at the start of its constructor.

    Raises:
        TypeError: an argument that neither the network nor any backbone has, or one that
            config.json cannot store.
        ValueError: a value of another type than the argument's, or out of its limits.
    """
    own = {k: v for k, v in given.items() if k not in ("self", "__class__", "backbone_options")}
    del own["pretrained"]
    options = given["backbone_options"]
    known = own | dict.fromkeys(BACKBONE_ARGUMENTS)
    known |= {name: value for name, value in options.items() if name in BACKBONE_ARGUMENTS}
    plain = {name: to_plain(name, value) for name, value in known.items()}
    if unknown := [name for name in options if name not in BACKBONE_ARGUMENTS]:
        backbone = require_type("backbone", plain["backbone"])
        others = [name for name in backbone_options(backbone) if name not in own]
        names = ", ".join(shown(name) for name in unknown[:3])
        more = f" and {len(unknown) - 3} more" if unknown[3:] else ""
        raise TypeError(
            f"CCNet has no argument {names}{more}; it has {', '.join(own)}, and with "
            f"{backbone} also {', '.join(others) or 'no other'}"
        )
    for name, value in plain.items():
        require_type(name, value)
    return {name: value for name, value in plain.items() if name not in ADDED or value is not None}


def require_type(name: str, value: Any) -> Any:
    """The value of an argument; raises ValueError for another type or one out of its limits."""
    wanted = ""
    fits: bool = value is None and name in OPTIONAL
    if name in LIMITS:
        least, largest = LIMITS[name]
        wanted = f"an integer from {least} to {largest}"
        fits |= type(value) is int and least <= value <= largest
    elif name in SWITCHES:
        wanted, fits = "true or false", fits or isinstance(value, bool)
    elif name == "backend":
        wanted, fits = '"fused", "reference" or null', value in (None, "fused", "reference")
    elif name in WORDS:
        wanted, fits = "a word", fits or isinstance(value, str)
    elif name == "refinement":
        wanted, fits = "strides from coarse to fine such as [4, 2], or null", is_refinement(value)
    elif name == "dropout":
        wanted, fits = "a number from 0 to 1", is_number(value) and 0 <= value <= 1
    else:
        fits = True
    if not fits:
        raise ValueError(f"{name} must be {wanted}, got {shown(value)}")
    return value


def is_refinement(value: Any) -> bool:
    """Whether a value of JSON is None or a list of strides, each finer than the one before it."""
    if value is None:
        return True
    is_list = isinstance(value, list) and 1 <= len(value) <= MOST_STAGES
    return (
        is_list
        and all(type(stride) is int and stride >= 1 for stride in value)
        and all(finer < stride for stride, finer in itertools.pairwise(value))
    )


def stored_bands(arguments: Mapping[str, Any]) -> Bands | None:
    """Which bands a network takes, from its arguments; raises ValueError for what cannot be."""
    if arguments.get("bands") is None:
        return None
    bands = Bands.from_dict(arguments["bands"])
    if len(bands.numbers) != arguments["in_channels"]:
        raise ValueError(
            f"bands takes {len(bands.numbers)} bands, and in_channels is {arguments['in_channels']}"
        )
    return bands


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a value of JSON is a number that a float can hold."""
    is_numeric = isinstance(value, int | float) and not isinstance(value, bool)
    return is_numeric and abs(value) <= sys.float_info.max


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


def class_names(classes: Sequence[str] | None, num_classes: int) -> tuple[str, ...]:
    """One name per class; without names they are numbered."""
    if classes is None:
        return tuple(f"class {index}" for index in range(num_classes))
    require_length("classes", classes, num_classes, "classes")
    for name in classes:
        if not isinstance(name, str) or len(name) > LONGEST_NAME:
            raise ValueError(
                f"classes must be names of at most {LONGEST_NAME} characters, got {shown(name)}"
            )
    return tuple(classes)


def class_colors(
    palette: Sequence[Sequence[int]] | None, num_classes: int
) -> tuple[tuple[int, int, int], ...] | None:
    """One RGB color per class, or None."""
    if palette is None:
        return None
    require_length("palette", palette, num_classes, "classes")
    for color in palette:
        is_triple = isinstance(color, list) and len(color) == 3
        if not is_triple or not all(
            is_number(value) and 0 <= value <= 255 and value % 1 == 0 for value in color
        ):
            raise ValueError(
                f"palette wants three integers from 0 to 255 per class, got {shown(color)}"
            )
    return tuple((int(red), int(green), int(blue)) for red, green, blue in palette)


def channel_values(
    name: str, values: Sequence[float] | None, default: Sequence[float], in_channels: int
) -> list[float]:
    """One value per channel of the image; `default`, those of RGB, are repeated as needed.

    `name` is "mean", whose values may be negative, or "std". Raises ValueError for values with
    which no image can be normalized.
    """
    if values is None:
        return in_turn(default, in_channels)
    require_length(name, values, in_channels, "channels")
    for value in values:
        is_usable = is_number(value) and abs(value) <= LARGEST_VALUE
        if not is_usable or (name == "std" and value < 1 / LARGEST_VALUE):
            least = -LARGEST_VALUE if name == "mean" else 1 / LARGEST_VALUE
            raise ValueError(
                f"{name} must be numbers from {least:g} to {LARGEST_VALUE:g}, got {shown(value)}"
            )
    return list(map(float, values))


def in_turn(values: Sequence[float], in_channels: int) -> list[float]:
    """Values of known channels for other channels, repeated from the first on.

    One channel gets their average, as a grayscale image needs.
    """
    if in_channels == 1:
        return [sum(values) / len(values)]
    return [values[index % len(values)] for index in range(in_channels)]


def require_length(name: str, values: Any, count: int, of: str) -> None:
    if not isinstance(values, list):
        raise ValueError(f"{name} must be a list, got {shown(values)}")
    if len(values) != count:
        raise ValueError(f"{name} has {len(values)} entries for {count} {of}")
