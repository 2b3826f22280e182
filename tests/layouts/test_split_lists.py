"""The lists of `ccnet split`, beside what the test of the command shows."""

from pathlib import Path

import pytest

from ccnet.layouts.search import find_pairs
from ccnet.layouts.split_lists import Count, undivided, write_splits
from ccnet.layouts.splits import Division
from ccnet.runtime.files import DataError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for index in range(10):
        for name in (f"images/{index}.jpg", f"labels/{index}.png"):
            (tmp_path / name).parent.mkdir(exist_ok=True)
            (tmp_path / name).touch()
    return tmp_path


def test_lists_are_those_that_a_division_gives_without_them(root: Path):
    before = {split: find_pairs(root, split, division=Division()) for split in ("train", "val")}
    counts = write_splits(root, undivided(root), Division())
    for split, files in before.items():
        assert counts[split] == Count(len(files.pairs), len(files.pairs))
        assert find_pairs(root, split).pairs == files.pairs
    assert (root / "val.txt").read_text().startswith("# written by `ccnet split`: divided by the h")


def test_files_without_a_partner_are_not_left_out_in_silence(root: Path):
    (root / "labels/3.png").unlink()
    with pytest.raises(DataError, match=r"images without a label \(1\): images/3\.jpg"):
        undivided(root)


def test_a_list_that_is_a_folder_is_told(root: Path):
    (root / "train.txt").mkdir()
    with pytest.raises(DataError, match=r"train\.txt: it is a folder"):
        write_splits(root, undivided(root), Division())
    assert not (root / "val.txt").exists()
