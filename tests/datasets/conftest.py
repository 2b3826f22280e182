"""A small folder of images and labels, which the tests of data sets share."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

CLASSES = ["sky", "road", "car"]
COLORS = {"sky": [0, 0, 255], "road": [128, 64, 128], "car": [0, 0, 142]}
LABEL = np.array([[0, 1, 2, 255], [2, 1, 0, 255]], np.uint8)
IMAGE = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)


def save(path: Path, array: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)
    return path


def describe(root: Path, **keys: Any) -> None:
    root.mkdir(exist_ok=True)
    (root / "dataset.yaml").write_text(yaml.safe_dump(keys, sort_keys=False))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two pairs, one in a sub-folder, described by three class names."""
    describe(tmp_path, classes=CLASSES)
    for name in ("a", "deep/b"):
        save(tmp_path / f"train/images/{name}.png", IMAGE)
        save(tmp_path / f"train/labels/{name}.png", LABEL)
    return tmp_path
