"""A model and files that several tests of the export need."""

from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import config
from PIL import Image

from ccnet import CCNet
from ccnet.datasets import Scenes
from ccnet.export.exporter import export
from tests.conftest import new_tiny_model


@pytest.fixture(scope="session")
def model() -> CCNet:
    torch.manual_seed(0)
    return new_tiny_model(auxiliary_channels=8)


@pytest.fixture(scope="session")
def onnx_file(model, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("onnx") / "model.onnx"
    config.update("jaxtyping_disable", True)  # torch traces the annotated code
    export(model, path, labels=True)
    config.update("jaxtyping_disable", False)
    return path


@pytest.fixture(scope="session")
def photos(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    scenes = Scenes("val", num_images=6)
    for index in range(len(scenes)):
        Image.fromarray(scenes[index][0]).save(folder / f"{index}.png")
    return folder


def scene(height: int = 50, width: int = 64) -> np.ndarray:
    return Scenes("val", num_images=1)[0][0][:height, :width]
