"""Values that YAML files and flags give, checked against annotations.

An annotation is bool, int, float, str, Path, a Literal, a list, a tuple, a dataclass of these, one
of them or None, or a list or words (`list[float] | Literal["auto"]`). `Annotated[float, Between(0,
1)]` limits a number. Every ValueError of this module names the value by its dotted key, such as
`optimizer.momentum`, and says what would work.
"""

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from difflib import get_close_matches
from numbers import Integral, Real
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ccnet.runtime.files import parse_yaml, shown

T = TypeVar("T")

WHOLE_NUMBER = re.compile(r"[-+]?\d{1,19}(_\d{1,19})*")
MOST = 10**9
"""The largest number of steps, images or seconds."""


@dataclass(frozen=True)
class Between:
    """The numbers from `low` to `high`; an end that is `excluded` does not count."""

    low: float
    high: float
    excluded: Literal["", "low", "high", "both"] = ""

    def __contains__(self, value: float) -> bool:
        above = self.low < value if self.excluded in ("low", "both") else self.low <= value
        below = value < self.high if self.excluded in ("high", "both") else value <= self.high
        return above and below

    def __str__(self) -> str:
        low = "above " if self.excluded in ("low", "both") else "from "
        high = "to below " if self.excluded in ("high", "both") else "to "
        return f"{low}{self.low} {high}{self.high}"


def wanted(kind: Any) -> str:
    """What an annotation takes, in words."""
    arguments = get_args(kind)
    if get_origin(kind) is Annotated:
        return f"{wanted(arguments[0])} {arguments[1]}"
    if inner := optional(kind):
        return f"{wanted(inner)} or null"
    if is_union(kind):
        return " or ".join(map(wanted, arguments))
    if get_origin(kind) is Literal:
        return " or ".join(filter(None, [", ".join(arguments[:-1]), arguments[-1]]))
    if get_origin(kind) is list or ... in arguments:
        return f"a list in brackets, each item {wanted(arguments[0])}"
    if get_origin(kind) is tuple:
        return f"a list of {len(arguments)} in brackets, each item {wanted(arguments[0])}"
    if is_dataclass(kind):
        return f"a mapping with keys such as {fields(kind)[0].name}"
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    return words.get(kind, "a path")


def is_union(kind: Any) -> bool:
    return get_origin(kind) in (Union, UnionType)


def optional(kind: Any) -> Any:
    """The annotation `kind` without None; None if it is not a union with None."""
    if not is_union(kind) or NoneType not in get_args(kind):
        return None
    return Union[tuple(part for part in get_args(kind) if part is not NoneType)]  # noqa: UP007


def without_words(kind: Any) -> Any:
    """The other part of a union of a Literal with something else than text."""
    return next(part for part in get_args(kind) if get_origin(part) is not Literal)


def plain(kind: Any) -> Any:
    """An annotation without None, without words that stand for a value, and without its range."""
    kind = optional(kind) or kind
    kind = without_words(kind) if is_union(kind) else kind
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def typed(kind: Any, value: Any, name: str, said: Any = None) -> Any:
    """The value as its annotation wants it: numbers written as text are read, lists made tuples.

    `said` is the annotation that a message names, if `kind` is only a part of it.

    Raises:
        ValueError: it is of another kind or out of range.
    """
    said = said or kind
    inner = optional(kind)
    if inner is not None:
        return None if value is None else typed(inner, value, name, said)
    arguments = get_args(kind)
    if is_union(kind):
        words = [word for part in arguments for word in get_args(part)]
        return value if value in words else typed(without_words(kind), value, name, said)
    if get_origin(kind) is Annotated:
        number = typed(arguments[0], value, name, said)
        return number if number in arguments[1] else refuse(said, value, name)
    if get_origin(kind) in (list, tuple):
        is_fixed = get_origin(kind) is tuple and arguments[-1] is not ...
        if not isinstance(value, list | tuple) or (is_fixed and len(value) != len(arguments)):
            refuse(said, value, name)
        kinds = arguments if is_fixed else arguments[:1] * len(value)
        items = enumerate(zip(kinds, value, strict=True))
        return get_origin(kind)(typed(item, part, f"{name}[{i}]") for i, (item, part) in items)
    if is_dataclass(kind):
        return value if is_dataclass(value) else checked(kind, value, name)
    if get_origin(kind) is Literal:
        return value if value in arguments else refuse(said, value, name)
    read = scalar(kind, value, name)
    return refuse(said, value, name) if read is None else read


def scalar(kind: Any, value: Any, name: str) -> Any:
    """`typed` for bool, int, float, str and Path; None if the value is of another kind."""
    if kind is bool and isinstance(value, bool):
        return value
    if kind is bool and isinstance(value, str) and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if kind is int and isinstance(value, Integral) and not isinstance(value, bool):
        return value
    if kind is int and isinstance(value, str) and WHOLE_NUMBER.fullmatch(value):
        return int(value)
    if kind is float and isinstance(value, Real | str) and not isinstance(value, bool):
        number = as_float(value)
        return number if math.isfinite(number) else None
    if kind in (str, Path) and isinstance(value, str | os.PathLike):
        if not os.fspath(value):
            raise ValueError(f"{name} is empty; give {wanted(kind)}, or leave it out")
        if "\0" in os.fspath(value):
            raise ValueError(f"{name} contains a NUL character, which no name may: {shown(value)}")
        return Path(value) if kind is Path else value
    return None


def as_float(value: Any) -> float:
    """A number, or the text of one (YAML reads 1e-3 as text); nan for anything else."""
    try:
        return float(value)
    except (ValueError, OverflowError):
        return math.nan


def refuse(kind: Any, value: Any, name: str) -> Any:
    got = "nothing (null)" if value is None else shown(value)
    raise ValueError(f"{name} must be {wanted(kind)}, got {got}")


def from_text(kind: Any, text: str, name: str) -> Any:
    """The value of a flag, for `typed`: null, a list or a mapping in YAML, or the text itself."""
    if optional(kind) and text.lower() == "null":
        return None
    if get_origin(plain(kind)) in (list, tuple) or is_dataclass(plain(kind)):
        return parse_yaml(text, Path(f"--{name}"))
    return text


def checked(kind: Any, given: Any, owner: str = "") -> dict[str, Any]:
    """The values of a mapping, of which a dataclass takes the keys, each as `typed` gives it.

    Args:
        kind: the dataclass; values of dataclasses in it stay mappings.
        given: the mapping; keys may be missing.
        owner: the dotted key of the mapping itself.

    Raises:
        ValueError: it is no mapping, a key is unknown, or a value is wrong.
    """
    if not isinstance(given, Mapping):
        refuse(kind, given, owner or "the configuration")
    hints = get_type_hints(kind, include_extras=True)
    prefix = owner and f"{owner}."
    for key in given:
        if key not in hints:
            raise ValueError(
                f"there is no key {prefix}{key if isinstance(key, str) else shown(key)}"[:120]
                + nearest(key, list(hints), "; the known keys are " + ", ".join(hints))
            )
    return {key: typed(hints[key], value, prefix + key) for key, value in given.items()}


def nearest(word: object, known: Sequence[str], otherwise: str = "") -> str:
    """The end of a message about an unknown word: "; did you mean ...?", or `otherwise`."""
    found = get_close_matches(str(word)[:60], known, n=1, cutoff=0.7)
    return f"; did you mean {found[0]}?" if found else otherwise


def build(kind: type[T], values: Mapping[str, Any], owner: str = "") -> T:
    """The dataclass `kind` with the values that `checked` returned.

    Raises:
        ValueError: a value is missing, or values contradict each other.
    """
    hints = get_type_hints(kind)
    arguments = dict(values)
    for item in fields(kind):  # pyright: ignore[reportArgumentType]
        name = f"{owner}.{item.name}" if owner else item.name
        inner = plain(hints[item.name])
        if is_dataclass(inner) and isinstance(arguments.get(item.name), Mapping):
            arguments[item.name] = build(inner, arguments[item.name], name)  # pyright: ignore[reportArgumentType]
        elif (
            item.name not in arguments
            and item.default is MISSING
            and item.default_factory is MISSING
        ):
            raise ValueError(f"{name} is missing; it is {wanted(hints[item.name])}")
    return kind(**arguments)


def require_fields(config: object, owner: str = "") -> None:
    """Check the values of a dataclass, which its constructor took as they are.

    Raises:
        ValueError: a value is of another kind than its annotation, or out of range.
    """
    for name, kind in get_type_hints(type(config), include_extras=True).items():
        typed(kind, getattr(config, name), f"{owner}.{name}" if owner else name)


def flags_of(kind: Any, owner: str = "") -> Iterator[tuple[str, Any]]:
    """The dotted keys of a dataclass and of the dataclasses in it, with their annotations."""
    for name, inner in get_type_hints(kind, include_extras=True).items():
        yield owner + name, inner
        if is_dataclass(plain(inner)):
            yield from flags_of(plain(inner), f"{owner}{name}.")
