"""The table of data sets: each follows the protocol, and every door takes the same names."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.datasets import DATASETS, open_dataset
from ccnet.datasets.pairs import PairedDataset
from ccnet.flags import parse
from ccnet.runtime.files import DataError
from tests.datasets.conftest import describe, save
from tests.named_data import WRITERS


@pytest.fixture(params=sorted(DATASETS))
def opened(request, tmp_path: Path):
    """A split of each data set; those on disk with a few pairs of files."""
    WRITERS.get(request.param, lambda root: None)(tmp_path)
    return open_dataset(request.param, tmp_path, "val")


def test_every_data_set_follows_the_protocol(opened):
    assert len(opened) >= 1
    assert len(opened.classes) == len(opened.palette) == len(set(opened.classes))
    assert len(set(opened.palette)) >= len(opened.palette) - 1  # two classes of ADE20K share one
    assert all(isinstance(name, str) for name in opened.classes)
    assert opened.ignore_index == 255
    image, label = opened[0]
    assert (image.dtype, image.shape) == (np.uint8, (*label.shape, 3))
    assert label.dtype == np.uint8
    assert set(np.unique(label).tolist()) <= {*range(len(opened.classes)), 255}
    names = [opened.name(index) for index in range(len(opened))]
    assert len(set(names)) == len(names)
    with pytest.raises(IndexError):
        opened[len(opened)]


@pytest.mark.parametrize("name", sorted(DATASETS))
@pytest.mark.parametrize(
    ("command", "flag"),
    [
        (["train"], "--data.name"),
        (["evaluate", "model"], "--data"),
        (["check-data", "root"], "--data"),
    ],
    ids=["train", "evaluate", "check-data"],
)
@pytest.mark.slow
def test_every_command_takes_every_data_set(command, flag, name):
    _, arguments = parse([*command, f"{flag}={name}"])
    found = arguments["config"].data.name if "config" in arguments else arguments["data"]
    assert found == name


def test_a_data_set_of_another_name_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match=r"one of scenes, folder, cityscapes, .* got 'coco'"):
        open_dataset("coco")


@pytest.mark.parametrize("name", sorted(DATASETS.keys() - {"scenes"}))
def test_a_data_set_on_disk_needs_its_root(name):
    with pytest.raises(DataError, match=f"{name} needs `root`"):
        open_dataset(name)


@pytest.mark.parametrize("name", sorted(DATASETS.keys() - {"scenes"}))
def test_files_without_a_partner_are_refused_unless_not_strict(name, tmp_path: Path):
    WRITERS[name](tmp_path)
    dataset = open_dataset(name, tmp_path, "train")
    assert isinstance(dataset, PairedDataset)
    dataset.files.pairs[0][1].unlink()
    with pytest.raises(DataError, match="images without a label"):
        open_dataset(name, tmp_path, "train")
    assert len(open_dataset(name, tmp_path, "train", strict=False)) == len(dataset) - 1


def test_the_scenes_need_no_root():
    assert open_dataset("scenes", split="test").name(0) == "test-000000"


def test_images_are_rgb_whatever_their_mode(tmp_path: Path):
    describe(tmp_path, classes=["sky"])
    (tmp_path / "val/images").mkdir(parents=True)
    for index, mode in enumerate(("L", "P", "RGBA", "CMYK", "1")):
        Image.new(mode, (4, 2)).save(tmp_path / f"val/images/{index}.tif")
        save(tmp_path / f"val/labels/{index}.png", np.zeros((2, 4), np.uint8))
    dataset = open_dataset("folder", tmp_path)
    assert [dataset[index][0].shape for index in range(5)] == [(2, 4, 3)] * 5
