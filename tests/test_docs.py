"""The documentation says what is there: links, files, names, flags, code and tables."""

import ast
import contextlib
import io
import re
import runpy
import textwrap
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import pytest

from ccnet.commands import COMMANDS
from ccnet.config import TrainConfig
from ccnet.flags import parse
from tests.test_architecture import FLOORS, MODULES

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
FOLDERS = ("tests", "ccnet", "benchmarks", "configs", "examples", "docs")
CITED_PATH = re.compile(rf"(?<![\w./-])(?:{'|'.join(FOLDERS)})/[\w./-]*\w")
LINK = re.compile(r"\]\(([^)\s]+)\)")
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
DOTTED_NAME = re.compile(r"\bccnet(?:\.\w+)+\b")
FLAG = re.compile(r"(?<!\S)--([a-z][\w.-]*)")
GUIDES = [path for path in PAGES if path.parent.name == "docs" and path.name != "README.md"]
BRITISH = (
    r"colour|grey|neighbour|behaviour|favour|centre|\w*(?:normal|minim|optim|initial)is[ei]\w*"
)
CONTRACTIONS = r"\w+n['’]t|(?:it|that|there|what|here)['’]s"
UNWANTED = re.compile(rf"(?i)\b(?:{BRITISH}|labelled|{CONTRACTIONS})")
# names that a recipe or the changelog uses for what is not in the tree
PLACEHOLDERS = ("NAME", "FOLDER")

each_page = pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))


def headings(page: Path) -> set[str]:
    """The anchors that GitHub makes of a page's headings."""
    lines = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", lines, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@each_page
def test_prose_is_american_and_has_no_contractions(path):
    assert not UNWANTED.findall(path.read_text())


@pytest.mark.parametrize("path", GUIDES, ids=lambda path: path.name)
def test_every_guide_begins_with_what_it_is_for_and_a_command(path):
    before, _, _ = path.read_text().partition("\n## ")
    _, purpose, *_ = before.split("\n\n")
    assert purpose.startswith("本页" if path.stem.endswith(".zh") else "This page")
    assert re.search(r"^(    \w|```python)", before, re.MULTILINE)


@each_page
def test_every_relative_link_leads_to_a_file_and_a_heading(path):
    for link in LINK.findall(path.read_text()):
        if link.startswith(("http://", "https://")):
            continue
        file, _, anchor = link.partition("#")
        target = (path.parent / file).resolve() if file else path
        assert target.exists(), link
        assert not anchor or anchor in headings(target), link


@each_page
def test_every_cited_file_exists(path):
    for cited in CITED_PATH.findall(path.read_text()):
        if not any(word in cited for word in PLACEHOLDERS):
            assert (ROOT / cited).exists(), cited


@each_page
def test_every_dotted_name_is_a_module_or_in_one(path):
    text = path.read_text()
    if path.name == "CHANGELOG.md":  # whose tables have old names in the first column
        text = re.sub(r"^\|[^|]*\|", "", text, flags=re.MULTILINE)
    for name in DOTTED_NAME.findall(text):
        assert is_defined(name), name


def is_defined(name: str) -> bool:
    """Whether a dotted name is a module of the package, or a name that one of them defines."""
    module, _, last = name.rpartition(".")
    return name in MODULES or (module in MODULES and last in names_in(MODULES[module]))


def names_in(file: Path) -> set[str]:
    """What a module defines, imports or declares at its top level."""
    names: set[str] = set()
    for node in ast.parse(file.read_text()).body:
        match node:
            case ast.FunctionDef() | ast.ClassDef():
                names.add(node.name)
            case ast.Import() | ast.ImportFrom():
                names |= {alias.asname or alias.name for alias in node.names}
            case ast.Assign():
                names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
            case ast.AnnAssign(target=ast.Name(id=name)):
                names.add(name)
    return names


@each_page
def test_python_code_compiles_and_imports_what_is_there(path):
    for code in PYTHON.findall(path.read_text()):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "ccnet":
                public = ast.literal_eval(assigned("__all__", MODULES["ccnet"]))
                assert {alias.name for alias in node.names} <= set(public)
            elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("ccnet."):
                for alias in node.names:
                    assert is_defined(f"{node.module}.{alias.name}")


def assigned(name: str, file: Path) -> ast.expr:
    for node in ast.parse(file.read_text()).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return node.value
    raise AssertionError(f"{file} assigns no {name}")


@pytest.fixture(scope="module")
def flags() -> dict[str, set[str]]:
    """The flags of each command, as its --help lists them, and the keys of a configuration."""
    found = {name: set(re.findall(r"--([a-z][\w.]*)", help_of(name))) for name in COMMANDS}
    found["train"] |= set(keys_of(TrainConfig))
    return found


def help_of(command: str) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output), contextlib.suppress(SystemExit):
        parse([command, "--help"])
    return output.getvalue()


def keys_of(config: type, prefix: str = "") -> Iterator[str]:
    """Dotted keys of a dataclass and of the dataclasses in it."""
    hints = get_type_hints(config)
    for field in fields(config):
        yield prefix + field.name
        kind = hints[field.name]
        for inner in (kind, *get_args(kind)):
            if is_dataclass(inner) and isinstance(inner, type):
                yield from keys_of(inner, f"{prefix}{field.name}.")


def commands_in(page: str) -> Iterator[tuple[str, list[str]]]:
    """(command, flags) of every `ccnet COMMAND ...` in a page, with lines that go on joined."""
    for line in page.replace("\\\n", " ").splitlines():
        for call in re.findall(r"(?:^|[\s`])ccnet ([a-z-]+)((?: [^`|]*)?)", line):
            if call[0] in COMMANDS:
                yield call[0], FLAG.findall(call[1])


@each_page
def test_every_flag_of_a_command_exists(path, flags):
    for command, given in commands_in(path.read_text()):
        for flag in given:
            name = flag.replace("-", "_")
            positive = re.sub(r"(^|\.)no_", r"\1", name)
            assert {name, positive} & flags[command], f"ccnet {command} has no --{flag}"


def test_flags_cited_alone_are_of_some_command(flags):
    known = set().union(*flags.values())
    others = {"device", "nodes", "nproc_per_node", "constraint"}  # of pytest and torchrun
    for path in PAGES:
        for flag in re.findall(r"`--([a-z][\w.-]*)[^`]*`", path.read_text()):
            name = flag.replace("-", "_")
            found = {name, re.sub(r"(^|\.)no_", r"\1", name)}
            assert found & (known | others), f"{path.name}: --{flag}"


def test_the_checks_find_what_is_wrong(flags):
    text = textwrap.dedent("""
        ccnet train --no-such-flag \\
            --steps 3
    """)
    assert list(commands_in(text)) == [("train", ["no-such-flag", "steps"])]
    assert "steps" in flags["train"]
    assert "such_flag" not in flags["train"]
    assert "data.augment.crop_size" in flags["train"]
    assert is_defined("ccnet.models.ccnet.CCNet")
    assert not is_defined("ccnet.models.ccnet.DDNet")
    assert CITED_PATH.findall("`tests/ops/test_x.py`, ccnet/cli.py.") == [
        "tests/ops/test_x.py",
        "ccnet/cli.py",
    ]


def test_the_table_of_floors_in_design_is_the_one_that_is_tested():
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\|([^|]*)\|$", (ROOT / "DESIGN.md").read_text(), re.M)
    assert {floor: set(others.split()) for floor, others in rows} == {
        floor: set(others.split()) for floor, others in FLOORS.items()
    }


@pytest.mark.slow
def test_tables_of_measurements_are_those_of_the_csv_files(monkeypatch):
    """The tables that the scripts in benchmarks/ print, line by line."""
    benchmarks = ROOT / "benchmarks"
    monkeypatch.syspath_prepend(str(benchmarks))
    recurrence = runpy.run_path(str(benchmarks / "recurrence.py"))
    report = runpy.run_path(str(benchmarks / "attention_report.py"))
    rows = report["Rows"](report["RESULTS"], gpu=False)
    performance = (ROOT / "docs" / "performance.md").read_text().splitlines()
    for dtype in ("float32", "bfloat16"):
        assert set(report["times_table"](rows, dtype)) <= set(performance)
    assert set(report["goals_table"](report["cpu_goals"](rows))) <= set(performance)
    table = recurrence["table"](recurrence["read_rows"](recurrence["RESULTS"] / "recurrence.csv"))
    assert table in (ROOT / "docs" / "results.md").read_text()
