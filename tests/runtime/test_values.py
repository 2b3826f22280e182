"""Values against annotations: what fits, what is read from text, what is refused and how."""

import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import pytest

from ccnet.runtime.values import (
    Between,
    build,
    checked,
    flags_of,
    from_text,
    require_fields,
    typed,
    wanted,
)


@dataclass(frozen=True)
class Inner:
    size: tuple[int, int]
    share: Annotated[float, Between(0, 1)] = 0.5


@dataclass(frozen=True)
class Outer:
    name: str = "x"
    count: Annotated[int, Between(1, 10)] | None = None
    weights: list[Annotated[float, Between(0, 9)]] = field(default_factory=list)
    inner: Inner | None = None

    def __post_init__(self):
        require_fields(self, "outer")


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (bool, "TRUE", True),
        (bool, False, False),
        (int, "1_000", 1000),
        (int, np.int64(3), 3),
        (float, "1e-3", 0.001),
        (float, 3, 3.0),
        (float | None, None, None),
        (str, "123", "123"),
        (str, Path("a"), Path("a")),
        (Path, "a/b", Path("a/b")),
        (Literal["a", "b"], "b", "b"),
        (tuple[int, float], [1, 2], (1, 2.0)),
        (list[str], ["a"], ["a"]),
        (list[float] | Literal["auto"] | None, ["1"], [1.0]),
        (list[float] | Literal["auto"] | None, "auto", "auto"),
        (list[float] | Literal["auto"] | None, None, None),
    ],
    ids=str,
)
def test_values_that_fit_are_read(kind, value, expected):
    found = typed(kind, value, "x")
    assert found == expected
    assert type(found) is type(expected) or isinstance(value, np.integer)


@pytest.mark.parametrize(
    ("kind", "value", "said"),
    [
        (bool, 1, "x must be true or false, got 1"),
        (int, True, "x must be a whole number, got True"),
        (int, 1.5, "x must be a whole number, got 1.5"),
        (int, "1e3", "x must be a whole number, got '1e3'"),
        (int, None, r"x must be a whole number, got nothing \(null\)"),
        (Annotated[int, Between(0, 9)], 16**5000, "from 0 to 9, got a int with a very long number"),
        (float, "nan", "x must be a number, got 'nan'"),
        (float, math.inf, "x must be a number, got inf"),
        (float, 10**400, "x must be a number, got 1000"),
        (Annotated[float, Between(0, 1, excluded="high")], 1, "a number from 0 to below 1, got 1"),
        (Annotated[float, Between(0, 1, excluded="low")] | None, 0, "above 0 to 1 or null, got 0"),
        (str, 5, "x must be text, got 5"),
        (str, "", "x is empty; give text, or leave it out"),
        (Path, "", "x is empty; give a path"),
        (Path, "a\0b", "x contains a NUL character"),
        (Literal["a", "b"], "c", "x must be a or b, got 'c'"),
        (Literal["a", "b"], ["a"], r"x must be a or b, got \['a'\]"),
        (tuple[int, int], [1], r"a list of 2 in brackets, each item a whole number, got \[1\]"),
        (list[str], "head", "x must be a list in brackets, each item text, got 'head'"),
        (list[str], ["a", 3], r"x\[1\] must be text, got 3"),
        (Inner, [], "x must be a mapping with keys such as size"),
    ],
    ids=lambda value: value[:40] if isinstance(value, str) else "",
)
def test_values_that_do_not_fit_are_named_with_what_would(kind, value, said):
    with pytest.raises(ValueError, match=said) as caught:
        typed(kind, value, "x")
    assert len(str(caught.value)) < 250


def test_a_mapping_becomes_a_dataclass():
    given = {"count": "3", "weights": [1, "2.5"], "inner": {"size": [4, 5]}}
    assert build(Outer, checked(Outer, given)) == Outer(
        count=3, weights=[1.0, 2.5], inner=Inner((4, 5))
    )


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ([], "the configuration must be a mapping"),
        (None, r"the configuration must be a mapping with keys such as name, got nothing"),
        ({"nam": "y"}, r"there is no key nam; did you mean name\?"),
        ({"class_path": "os.system"}, "no key class_path; the known keys are name, count"),
        ({3: 4}, "there is no key 3; the known"),
        ({"inner": {"size": [1, 2], "x": 1}}, "there is no key inner.x; the known"),
        ({"inner": {"share": 2}}, "inner.share must be a number from 0 to 1, got 2"),
        ({"inner": {}}, "inner.size is missing; it is a list of 2"),
        ({"weights": [1, math.nan]}, r"weights\[1\] must be a number from 0 to 9, got nan"),
    ],
    ids=str,
)
def test_a_mapping_that_does_not_fit_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        build(Outer, checked(Outer, given))


@pytest.mark.unchecked
def test_a_constructor_checks_too_and_names_the_key():
    with pytest.raises(ValueError, match=r"outer\.count must be a whole number .*, got 11"):
        Outer(count=11)
    with pytest.raises(ValueError, match=r"outer\.weights\[0\] must be"):
        Outer(weights=[-1.0])


def test_text_of_flags_is_taken_as_it_is_where_text_is_wanted():
    assert from_text(str, "null", "x") == "null"
    assert from_text(str | None, "Null", "x") is None
    assert from_text(str, "{a: b}", "x") == "{a: b}"
    assert from_text(list[str], "[a, b]", "x") == ["a", "b"]
    assert from_text(list[float] | Literal["auto"] | None, "[1, 2]", "x") == [1, 2]
    assert from_text(list[float] | Literal["auto"] | None, "auto", "x") == "auto"
    assert from_text(Inner | None, "{share: 1}", "x") == {"share": 1}
    with pytest.raises(ValueError, match=r"--x.*aliases are not read"):
        from_text(list[str], "[&a b, *a]", "x")


def test_all_keys_are_listed_with_what_they_take():
    kinds = dict(flags_of(Outer))
    assert list(kinds) == ["name", "count", "weights", "inner", "inner.size", "inner.share"]
    assert wanted(kinds["count"]) == "a whole number from 1 to 10 or null"
    weights = list[float] | Literal["auto"] | None
    assert wanted(weights) == "a list in brackets, each item a number or auto or null"
