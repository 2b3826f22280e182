"""What a run refuses before its first step, and what it warns of."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.checking import requirements
from ccnet.checking.requirements import evenly_spread, require_bright_images, require_usable
from ccnet.datasets.folder import FolderDataset
from ccnet.datasets.scenes import Scenes
from ccnet.images.bands import Bands
from ccnet.runtime.files import DataError


def write(root: Path, split: str, labels: list, dtype: type = np.uint8, high: int = 200) -> None:
    for i, label in enumerate(labels):
        target = np.array(label, np.uint8)
        image = np.linspace(0, high, target.size).reshape(target.shape).astype(dtype)
        for kind, array in (("images", image), ("labels", target)):
            path = root / split / kind / f"{i}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "dataset.yaml").write_text("classes: [a, b, c]")
    write(tmp_path, "train", [[[0, 1, 2]], [[2, 1, 0]]])
    write(tmp_path, "val", [[[0, 1, 2]]])
    return tmp_path


def check(root: Path) -> None:
    require_usable(FolderDataset(root, "train"), FolderDataset(root, "val"))


def test_good_data_pass_and_say_what_limits_them(root: Path, capsys):
    check(root)
    write(root, "val", [[[0, 1, 1]]])
    check(root)
    said = capsys.readouterr().err
    assert "train data: few pairs: 2" in said
    assert "val data: no pixel of c: this cannot be scored" in said


@pytest.mark.parametrize("split", ["train", "val"])
@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[[255, 255]]], r"the {split} data: no labeled pixel at all"),
        ([[[1, 1]]], r"the {split} data: all labeled pixels are b, so there is nothing"),
        ([[[0, 1, 9]]], r"{split}/labels/0\.png: value 9 .*no class has it"),
        ([[[7, 1]], [[0, 8]]], r"labels/0\.png: value 7 .*There are 2 faulty pairs among 2"),
    ],
)
def test_what_would_end_badly_is_refused(root: Path, split: str, labels: list, message: str):
    for path in (root / split).rglob("*.png"):
        path.unlink()
    write(root, split, labels)
    with pytest.raises(DataError, match=message.format(split=split)):
        check(root)


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_an_unreadable_file_is_named(root: Path, kind: str):
    path = root / "val" / kind / "0.png"
    path.write_bytes(path.read_bytes()[:45])
    with pytest.raises(DataError, match=rf"val/{kind}/0\.png: cannot be read as an image"):
        check(root)


def test_12_bits_in_16_are_refused_with_the_range(root: Path):
    write(root, "train", [[[0, 1, 2]], [[0, 1, 2]]], np.uint16, 4095)
    with pytest.raises(DataError, match=r"use only 0–4095 of 0–65535.*multiply them by 16"):
        check(root)


def test_12_bits_in_16_are_not_evaluated_as_rgb(root: Path):
    write(root, "val", [[[0, 1, 2]], [[0, 1, 2]]], np.uint16, 4095)
    data = FolderDataset(root, "val")
    with pytest.raises(DataError, match="16 bits of which only the lowest 7 % are used"):
        require_bright_images(data)
    require_bright_images(data, [Bands((1,), 1, "uint16", ((0, 4095),))])
    write(root, "val", [[[0, 1, 2]]], np.uint16, 65_000)  # the other one may be of the night
    require_bright_images(data)


def test_splits_whose_255_means_different_things_are_refused(tmp_path: Path):
    (tmp_path / "dataset.yaml").write_text("classes: [a, b]")
    write(tmp_path, "train", [[[0, 255]]])
    write(tmp_path, "val", [[[0, 1, 255]]])
    with pytest.raises(DataError, match=r"in the training labels 255 is 'b'.*the other split"):
        check(tmp_path)
    write(tmp_path, "val", [[[0, 255]]])
    check(tmp_path)


def test_of_large_splits_some_pairs_are_read(root: Path, monkeypatch):
    monkeypatch.setattr(requirements, "MOST_TRAINING_PAIRS", 1)
    (root / "train/labels/1.png").write_bytes(b"broken")
    check(root)


@pytest.mark.parametrize(
    ("total", "most", "chosen"), [(5, 9, 5), (10, 5, 5), (11, 5, 4), (0, 5, 0), (1000, 1, 1)]
)
def test_pairs_are_chosen_at_equal_distances(total: int, most: int, chosen: int):
    assert len(evenly_spread(total, most)) == chosen


def test_scenes_are_not_read(monkeypatch):
    monkeypatch.setattr(requirements, "check_split", None)
    require_usable(Scenes("train"), Scenes("val"))
