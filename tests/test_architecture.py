"""House rules that a program can check: arrows between rooms, the cost of imports, one config."""

import ast
import csv
import inspect
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from ccnet import CCNet
from ccnet.cli import build_parser
from ccnet.config import ModelConfig

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "ccnet"
LAYERS = (  # a room imports only from lines below its own
    ("cli", "app", "__main__"),
    ("commands",),
    ("demo",),
    ("train", "check"),
    ("steps", "failures"),
    ("evaluate", "export", "explain", "batch", "progress", "state"),
    ("engine", "assembly"),
    ("predict", "visualize", "agreement", "quantization"),
    ("checkpoint", "manifest", "stamp"),
    ("jobs",),
    ("config", "datasets", "losses", "metrics", "saves", "folding"),
    ("models", "transforms"),
    ("head",),
    ("backbones", "modules", "published", "card"),
    ("ops", "recompute", "weights", "classes", "processes", "signals", "disk", "events", "launch"),
)
FILES = sorted(PACKAGE.rglob("*.py"))


def level(room: str) -> int:
    return next(index for index, rooms in enumerate(LAYERS) if room in rooms)


def imported(path: Path) -> set[str]:
    """Modules of the package that a file imports, at the top or inside functions."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module == "ccnet.ops":
            names |= {f"ccnet.ops.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names.add(node.module)
        elif isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
    return {name for name in names if name.startswith("ccnet.")}


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room = path.relative_to(PACKAGE).with_suffix("").parts[0]
    if room == "__init__":
        return
    for name in imported(path):
        other = name.split(".")[1]
        if room == "__main__":
            assert other == "cli"
        elif other != room:
            assert level(other) > level(room), f"{room} imports {name}"


def test_forms_of_the_operator_do_not_import_each_other():
    for name in ("reference", "cpu", "depthwise"):
        assert imported(PACKAGE / "ops" / f"{name}.py") == set()
    assert imported(PACKAGE / "ops" / "triton.py") == {"ccnet.ops.triton_kernels"}
    assert imported(PACKAGE / "ops" / "triton_kernels.py") == set()


def test_no_room_is_a_drawer_and_no_file_is_long():
    for path in FILES:
        assert path.stem not in {"utils", "common", "core", "base", "helpers", "misc"}
        assert len(path.read_text().splitlines()) <= 400, path


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
    parameters = inspect.signature(CCNet).parameters
    for field in fields(ModelConfig):
        assert parameters[field.name].default == field.default, field.name


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_shipped_config_is_read(path):
    build_parser().parse_args(["train", "--config", str(path)])


def test_the_ablation_s_gaps_are_clear():
    scores: dict[str, list[float]] = {}
    with (ROOT / "benchmarks" / "results" / "recurrence.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            scores.setdefault(row["recurrence"], []).append(float(row["miou"]))
    assert [len(scores[passes]) for passes in "0123"] == [3] * 4
    assert max(scores["0"]) + 0.1 < min(scores["1"])
    assert max(scores["1"]) + 0.3 < min(scores["2"])
    assert min(scores["2"] + scores["3"]) > 0.95
