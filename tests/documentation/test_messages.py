"""Every message of docs/troubleshooting.md is one that the code gives."""

import ast
import re
from collections.abc import Iterator
from functools import cache

import pytest

from tests.documentation.blocks import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"


def messages() -> list[str]:
    """The first cell of each row, between one or two backticks."""
    cells = re.findall(r"^\| (?:`` (.+?) ``|`([^`]+)`) \|", PAGE.read_text(), re.MULTILINE)
    return [(double or single).strip() for double, single in cells]


@cache
def templates() -> tuple[str, ...]:
    """All texts in the package, with … for what is filled in; joined literals are one text."""
    found = []
    for path in sorted((ROOT / "ccnet").rglob("*.py")):
        found += texts_of(ast.parse(path.read_text()))
    return tuple(found)


def texts_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.JoinedStr():
                yield "".join(map(text_of, node.values))
            case ast.Constant(value=str(text)):
                yield re.sub(r"\{\w*\}", "…", text)


def text_of(part: ast.expr) -> str:
    return part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else "…"


@pytest.mark.parametrize("message", messages())
def test_the_code_has_this_message(message):
    assert any(message in template for template in templates())


def test_messages_are_found_and_others_are_not():
    assert len(messages()) > 35
    tree = ast.parse('raise ValueError(f"{path}: no such file; " "give {another}", f"a{1}b")')
    assert "…: no such file; give {another}" in "".join(texts_of(tree))
    assert "a…b" in set(texts_of(tree))
    assert not any("…: a message that nobody wrote" in template for template in templates())
