"""House rules that a program can check: arrows between floors, the cost of imports, one config."""

import ast
import inspect
import itertools
import subprocess
import sys
from dataclasses import fields
from functools import cache
from graphlib import TopologicalSorter
from importlib import import_module
from pathlib import Path

import pytest

from ccnet import CCNet
from ccnet.config import ModelConfig
from ccnet.models.arguments import BACKBONE_ARGUMENTS
from tests.conftest import CHECKED, UNCHECKED
from tests.shapes import mentions_an_array

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ccnet"
# floor → the floors that it may import from; every arrow goes from a line to lines below it
FLOORS = {
    "__main__": "cli runtime",
    "cli": "flags commands runtime",
    "flags": "commands config runtime",
    "commands": "app demo planning training saving explanation report export polygons labeling "
    "config prediction checking datasets annotations layouts models published metrics images "
    "runtime",
    "app": "explanation report polygons labeling prediction datasets images runtime",
    "demo": "training explanation report labeling config prediction datasets metrics runtime",
    "planning": "training config prediction checking datasets models backbones runtime classes",
    "training": "tracking saving config prediction losses checking datasets models metrics images "
    "weights runtime classes",
    "tracking": "saving report config prediction datasets metrics images runtime",
    "saving": "config datasets models weights runtime",
    "explanation": "report prediction models images runtime ops",
    "report": "export checking datasets layouts metrics images runtime classes",
    "export": "prediction inference models images runtime",
    "polygons": "labeling images runtime classes",
    "labeling": "prediction models images runtime classes",
    "config": "prediction datasets images runtime",
    "prediction": "datasets inference models metrics images runtime",
    "losses": "datasets runtime classes",
    "checking": "datasets layouts images runtime classes",
    "datasets": "named legends annotations layouts images runtime classes",
    "named": "layouts runtime classes",
    "legends": "images runtime classes",
    "annotations": "images runtime classes",
    "layouts": "images runtime",
    "inference": "models backbones runtime",
    "models": "published backbones images weights runtime ops",
    "published": "weights classes",
    "metrics": "classes",
    "backbones": "weights",
    "images": "runtime classes",
    "weights": "runtime",
    "runtime": "",
    "classes": "",
    "ops": "",
}
# modules without a test file of their own → whose test file is theirs too
TESTED_BY = {
    "published/names": "published/keys",  # tables
    "ops/triton_kernels": "ops/triton",  # which launches them
    "export/names": "export/formats",
}
DRAWERS = {"utils", "common", "core", "base", "helpers", "misc"}
FILES = sorted(PACKAGE.rglob("*.py"))


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in FILES}


@cache
def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, at the top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module is not None:
            inner = {f"{node.module}.{alias.name}" for alias in node.names}
            names |= {name if name in MODULES else node.module for name in inner}
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return names & MODULES.keys()


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    floor = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if floor == "__init__":
        return
    others = {name.split(".")[1] for name in imported(path) - {"ccnet"}} - {floor}
    assert others <= set(FLOORS[floor].split())


def test_the_table_of_floors_is_the_tree_and_its_arrows_go_down():
    tree = {path.relative_to(PACKAGE).with_suffix("").parts[0] for path in FILES} - {"__init__"}
    order = list(FLOORS)
    assert set(order) == tree
    arrows = [(floor, other) for floor, others in FLOORS.items() for other in others.split()]
    assert all(order.index(floor) < order.index(other) for floor, other in arrows)
    used = {
        (path.relative_to(PACKAGE).with_suffix("").parts[0], name.split(".")[1])
        for path in FILES
        for name in imported(path) - {"ccnet"}
    }
    assert set(arrows) <= used, f"no file draws {set(arrows) - used}"


def test_files_import_each_other_without_circles():
    arrows = {name: imported(path) - {name, "ccnet"} for name, path in MODULES.items()}
    TopologicalSorter(arrows).prepare()  # raises CycleError, with the circle


def test_forms_of_the_operator_do_not_import_each_other():
    for name in ("reference", "cpu"):
        assert imported(PACKAGE / "ops" / f"{name}.py") == set()
    assert imported(PACKAGE / "ops" / "triton.py") == {"ccnet.ops.triton_kernels"}
    assert imported(PACKAGE / "ops" / "triton_kernels.py") == set()


def test_a_floor_has_3_to_12_files_and_no_file_is_a_drawer_or_long():
    for folder in {path.parent for path in FILES} - {PACKAGE}:
        files = [path for path in folder.glob("*.py") if path.stem != "__init__"]
        assert 3 <= len(files) <= 12, folder
    for path in FILES:
        assert path.stem not in DRAWERS
        assert len(path.read_text().splitlines()) <= 360, path


def test_functions_fit_a_screen():
    for path in FILES:
        if path.stem == "triton_kernels":  # a kernel is one function
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef):
                assert num_lines(node) <= 60, f"{path}: {node.name}"


def num_lines(function: ast.FunctionDef) -> int:
    """Lines of a function without its docstring."""
    first, end = function.body[0], function.end_lineno
    assert end is not None
    assert first.end_lineno is not None
    has_docstring = ast.get_docstring(function) is not None
    return end - function.lineno + 1 - has_docstring * (first.end_lineno - first.lineno + 1)


def test_every_module_has_its_test_file():
    for path in FILES:
        name = path.relative_to(PACKAGE).with_suffix("")
        if name.parts[0] == "commands":
            name = Path("commands")  # end to end, on one data set
        name = TESTED_BY.get(name.as_posix(), name)
        is_tested = Path(ROOT, "tests", name).with_name(f"test_{Path(name).name}.py").is_file()
        assert is_tested or path.stem.startswith("__"), path


def run_python(program: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", program], check=True, timeout=120, capture_output=True, text=True
    )
    return result.stdout


def test_importing_the_package_loads_torch_at_most():
    loaded = run_python("import sys, ccnet; print(*sys.modules)").split()
    assert "torch" not in loaded
    program = "import sys; from ccnet import criss_cross_attention; print(*sys.modules)"
    loaded = set(run_python(program).split())
    heavy = {"PIL", "huggingface_hub", "lightning_fabric", "matplotlib", "rich", "torchmetrics"}
    assert "torch" in loaded
    assert not loaded & heavy


def test_help_loads_no_torch():
    program = """
import sys
from ccnet.cli import main
try:
    main(["--help"])
except SystemExit:
    pass
print("torch" in sys.modules)
"""
    assert run_python(program).split()[-1] == "False"


@pytest.mark.slow
def test_public_names_are_there_and_no_others():
    program = """
from ccnet import criss_cross_attention, CrissCrossAttention, RecurrentCrissCrossAttention
from ccnet import CCNet, CCNetHead, Predictor
import ccnet
try:
    ccnet.other
except AttributeError as error:
    print(error)
"""
    assert "has no attribute 'other'" in run_python(program)


def test_model_flags_are_the_model_s_arguments():
    defaults = {name: p.default for name, p in inspect.signature(CCNet).parameters.items()}
    defaults |= dict.fromkeys(BACKBONE_ARGUMENTS)  # None stands for the backbone's own default
    for field in fields(ModelConfig):
        assert defaults[field.name] == field.default, field.name
    of_data = {
        "num_classes",
        "classes",
        "palette",
        "metrics",
        "in_channels",
        "mean",
        "std",
        "bands",
    }
    of_loss = {"embedding_channels"}  # loss.consistency.channels
    no_flag = of_data | of_loss | {"backend", "backbone_options"}
    assert {field.name for field in fields(ModelConfig)} == defaults.keys() - no_flag


@pytest.mark.parametrize("name", [name for name in MODULES if name not in CHECKED])
def test_files_that_are_not_enforced_have_no_annotations_of_arrays(name):
    path = MODULES[name]
    if path.stem in UNCHECKED:
        return
    module = import_module(name)
    own = [kind for kind in vars(module).values() if getattr(kind, "__module__", None) == name]
    members = [vars(kind).values() for kind in own if isinstance(kind, type)]
    for item in (*own, *itertools.chain(*members)):
        inner = inspect.unwrap(getattr(item, "fget", None) or getattr(item, "__func__", item))
        hints = getattr(inner, "__annotations__", {}) or {}
        assert not any(map(mentions_an_array, hints.values())), f"{name}.{inner}"
