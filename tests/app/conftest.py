"""Saved models for the page, and a server that most tests share."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from tests.app.serving import Running, loaded, scene_png, serving
from tests.conftest import new_tiny_model


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "first"
    new_tiny_model().save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def other_folder(tmp_path_factory) -> Path:
    """A model without attention."""
    torch.manual_seed(1)
    folder = tmp_path_factory.mktemp("models") / "second"
    new_tiny_model(recurrence=0).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def scene(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("scenes") / "scene.png"
    path.write_bytes(scene_png())
    return path


@pytest.fixture(scope="module")
def running(model_folder, scene) -> Iterator[Running]:
    """The page of one model, with an example."""
    with serving(loaded(model_folder), examples=[scene]) as server:
        yield server
