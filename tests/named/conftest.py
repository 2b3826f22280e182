"""The fixture of each published data set, and opened splits of it."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ccnet.datasets import DATASETS
from ccnet.datasets.named import NamedDataset
from tests.named_data import WRITERS


@pytest.fixture
def opened(tmp_path: Path) -> Callable[[str, str], NamedDataset]:
    """Opens a split of a data set by its name; the files are written at the first call."""

    def open_it(name: str, split: str) -> NamedDataset:
        if not any(tmp_path.iterdir()):
            WRITERS[name](tmp_path)
        dataset = DATASETS[name](tmp_path, split)
        assert isinstance(dataset, NamedDataset)
        return dataset

    return open_it


def labels_in_order(dataset: NamedDataset, index: int = 0) -> list[int]:
    """The class indices of the bands of a label, from top to bottom."""
    flat = dataset[index][1].ravel()
    starts = np.flatnonzero(np.diff(flat, prepend=-1))
    return flat[starts].tolist()
