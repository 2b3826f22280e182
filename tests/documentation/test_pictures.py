"""The pictures and the figures of How criss-cross attention works."""

import ast
import re
import runpy
import sys
from pathlib import Path

import pytest
from PIL import Image

from tests.conftest import new_tiny_model
from tests.documentation.blocks import ROOT, blocks_of

PAGES = [ROOT / "docs" / "how-it-works.md", ROOT / "docs" / "how-it-works.zh.md"]
PICTURES = sorted((ROOT / "docs").glob("how-*.png"))
SCRIPT = ROOT / "docs" / "pictures.py"


@pytest.fixture(autouse=True)
def _scripts_beside_it_are_found(monkeypatch):
    monkeypatch.syspath_prepend(SCRIPT.parent)


def pictures_of(page: Path) -> list[str]:
    return re.findall(r"^!\[.*\]\((how-[\w-]+\.png)\)$", page.read_text(), re.MULTILINE)


def table_rows(page: Path) -> list[list[str]]:
    rows = re.findall(r"^\| (\d+×\d+) \| (.*) \|$", page.read_text(), re.MULTILINE)
    return [[size, *values.split(" | ")] for size, values in rows]


def test_both_pages_show_every_picture_in_the_same_order():
    first, second = map(pictures_of, PAGES)
    assert first == second
    assert sorted(first) == [path.name for path in PICTURES]


def test_pictures_are_small():
    assert all(path.stat().st_size < 200_000 for path in PICTURES)
    assert sum(path.stat().st_size for path in PICTURES) < 1_000_000


def test_both_pages_have_the_same_code_and_the_same_measurements():
    first, second = ([b.text for b in blocks_of(page) if b.kind == "python"] for page in PAGES)
    for one, other in zip(first, second, strict=True):
        assert without_docstrings(one) == without_docstrings(other)
    numbers = [[[v for v in row if v[0].isdigit()] for row in table_rows(page)] for page in PAGES]
    assert numbers[0] == numbers[1]


def without_docstrings(code: str) -> str:
    tree = ast.parse(code)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.body = node.body[1:]
    return ast.unparse(tree)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_measurements_are_those_of_the_csv_file(page):
    script = runpy.run_path(str(SCRIPT))
    columns = [script["measured"](form) for form in ("non-local", "plain", "fused")]
    rows = table_rows(page)
    assert [size for size, *_ in rows] == ["48×48", "97×97", "192×192", "384×384"]
    for size, *values in rows:
        side = int(size.partition("×")[0])
        for value, column in zip(values, columns, strict=True):
            if side in column:
                assert float(value) == pytest.approx(column[side], rel=5e-3)
            else:
                assert value in ("not measured", "未测")


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_numbers_of_weights_are_those_of_the_formulas(page):
    text = page.read_text()
    one_pass = 97 * 97 * (97 + 97 - 1)
    assert all(f"{number:,}" in text for number in (97**4, one_pass, 2 * one_pass))
    assert round(97**4 / (2 * one_pass)) == 24


@pytest.mark.slow
def test_the_pictures_are_drawn_by_one_command(tmp_path, monkeypatch):
    new_tiny_model().save_pretrained(tmp_path / "model")
    options = ["--model", str(tmp_path / "model"), "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), *options])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    assert sorted(path.name for path in tmp_path.glob("*.png")) == [p.name for p in PICTURES]
    for picture in PICTURES:
        assert size_of(tmp_path / picture.name) == size_of(picture)


def size_of(path: Path) -> tuple[int, int]:
    with Image.open(path) as picture:
        return picture.size


def test_without_a_model_it_says_how_to_make_one(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", [str(SCRIPT), "--model", str(tmp_path / "none")])
    with pytest.raises(SystemExit, match="make demo"):
        runpy.run_path(str(SCRIPT), run_name="__main__")
