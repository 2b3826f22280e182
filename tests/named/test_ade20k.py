"""ADE20K: 0 is ignored and the others move down by one; labels that did so already are refused."""

from pathlib import Path

import numpy as np
import pytest

from ccnet.classes import ADE20K as CLASSES
from ccnet.datasets import ADE20K
from ccnet.runtime.files import DataError
from tests.named.conftest import labels_in_order
from tests.named_data import ade20k, bands, save


def test_zero_is_ignored_and_150_classes_follow(opened):
    dataset = opened("ade20k", "train")
    assert labels_in_order(dataset) == [255, *range(150)]
    assert dataset.classes == tuple(CLASSES)
    assert (dataset.classes[0], dataset.classes[149]) == ("wall", "flag")
    assert dataset.palette == tuple(CLASSES.values())


def test_the_folders_training_and_validation_are_the_splits(opened):
    assert len(opened("ade20k", "train")) == 4
    home = "ADEChallengeData2016/images/validation"
    assert opened("ade20k", "val").name(1) == f"{home}/ADE_val_00000002.jpg"


def test_labels_with_255_have_been_changed(tmp_path: Path):
    ade20k(tmp_path)
    path = tmp_path / "ADEChallengeData2016/annotations/validation/ADE_val_00000001.png"
    save(path, bands([0, 1, 149, 255]))  # as other programs number them: 255 for what was 0
    with pytest.raises(
        DataError, match=r"ADE_val_00000001.png: value 255 first .*ADE20K hold 0–150 as downloaded"
    ):
        ADE20K(tmp_path, "val")[0]
    np.testing.assert_array_equal(np.unique(ADE20K(tmp_path, "val")[1][1]), [*range(150), 255])
