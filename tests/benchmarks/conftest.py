"""Scripts find the modules beside them, as `python benchmarks/NAME.py` does."""

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _scripts_beside_it_are_found(monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parents[2] / "benchmarks")
