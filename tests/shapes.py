"""Shapes and dtypes that the package's annotations promise, checked at every call in the tests.

`tests/conftest.py` installs jaxtyping's import hook with the checker below before the package is
imported. Tests marked `unchecked` run without it.
"""

from collections.abc import Callable
from types import FunctionType
from typing import Any, cast, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def check_arrays(function: Callable) -> Callable:
    """The function with its annotations of arrays enforced by beartype, and no others.

    The arguments of many functions are more tolerant than their other annotations say, such as an
    int for a float, which is not what this is about.
    """
    annotations = {
        name: hint
        for name, hint in getattr(function, "__annotations__", {}).items()
        if mentions_an_array(hint)
    }
    if not annotations:
        return function
    original = cast(FunctionType, function)
    copy = FunctionType(
        original.__code__,
        original.__globals__,
        original.__name__,
        original.__defaults__,
        original.__closure__,
    )
    copy.__kwdefaults__ = original.__kwdefaults__
    copy.__qualname__, copy.__module__ = original.__qualname__, original.__module__
    copy.__annotations__ = annotations
    return beartype(copy)


def mentions_an_array(hint: Any) -> bool:
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(mentions_an_array(part) for part in get_args(hint))
