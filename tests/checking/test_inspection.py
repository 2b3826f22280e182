"""What is seen of one pair."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.checking.inspection import Observation, edge_agreement, inspect
from ccnet.datasets.folder import FolderDataset
from ccnet.runtime.files import DataError

ORIENTATION = 0x0112


def textured(label: np.ndarray) -> np.ndarray:
    """An image whose edges are the borders of the label, with some noise."""
    noise = np.random.default_rng(0).integers(0, 20, (*label.shape, 3))
    return (label[:, :, None] * 120 + noise).astype(np.uint8)


def corner(height: int = 48, width: int = 64) -> np.ndarray:
    """A label with a block of class 1 away from the center."""
    label = np.zeros((height, width), np.uint8)
    label[4 : height // 3, 6 : width // 2] = 1
    return label


def write(
    root: Path, label: np.ndarray, image: np.ndarray, orientation: int = 1, extra: str = ""
) -> FolderDataset:
    (root / "dataset.yaml").write_text(f"classes: [ground, thing]\n{extra}")
    for kind in ("images", "labels"):
        (root / "train" / kind).mkdir(parents=True, exist_ok=True)
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    Image.fromarray(image).save(root / "train/images/a.jpg", exif=exif, quality=95)
    Image.fromarray(label).save(root / "train/labels/a.png")
    return FolderDataset(root)


def seen(dataset: FolderDataset, *, compare_edges: bool = True) -> Observation:
    found = inspect(dataset, 0, compare_edges=compare_edges)
    assert isinstance(found, Observation)
    return found


def test_borders_on_edges_agree_and_shifted_ones_do_not():
    label = corner()
    fitting = edge_agreement(textured(label), label)
    shifted = edge_agreement(textured(label), np.roll(label, (20, 20), (0, 1)))
    assert fitting is not None
    assert shifted is not None
    assert fitting > 3
    assert shifted < 1


@pytest.mark.parametrize("label", [np.zeros((48, 64), np.uint8), np.eye(3, dtype=np.uint8)])
def test_too_few_borders_are_not_judged(label: np.ndarray):
    assert edge_agreement(textured(label), label) is None


def test_borders_with_what_is_ignored_do_not_count():
    label = corner() * 255
    assert edge_agreement(textured(corner()), label) is None


def test_a_large_image_is_compared_by_some_of_its_pixels():
    label = np.kron(corner(), np.ones((30, 30), np.uint8))
    agreement = edge_agreement(textured(label), label)
    assert agreement is not None
    assert agreement > 3


@pytest.mark.parametrize(("orientation", "height"), [(3, 48), (2, 48), (4, 48), (6, 64), (8, 64)])
def test_a_turn_that_sizes_leave_open_is_seen_and_judged_by_the_edges(
    tmp_path: Path, orientation: int, height: int
):
    label = corner(height)
    found = seen(write(tmp_path, label, textured(label), orientation))
    assert found.is_turn_open
    assert (found.edges_turned or 0) > 2 * (found.edges or 0)
    settled = seen(write(tmp_path, label, textured(label), orientation, "orientation: stored"))
    assert not settled.is_turn_open
    assert settled.edges == found.edges_turned
    settled = seen(write(tmp_path, label, textured(label), orientation, "orientation: exif"))
    assert not settled.is_turn_open
    assert settled.edges == found.edges


def test_a_turn_that_the_sizes_settle_is_not_open(tmp_path: Path):
    label = corner()
    found = seen(write(tmp_path, np.rot90(label, -1), textured(label), 6))
    assert not found.is_turn_open
    assert (found.edges or 0) > 3
    with_own = write(tmp_path, label, textured(label), 3)
    exif = Image.Exif()
    exif[ORIENTATION] = 3
    Image.fromarray(label).save(tmp_path / "train/labels/a.png", exif=exif)
    assert not seen(with_own).is_turn_open


def test_a_label_drawn_on_the_stored_pixels_is_told_by_its_size(tmp_path: Path):
    label = corner()
    found = inspect(write(tmp_path, label, textured(label), 6), 0)
    assert isinstance(found, DataError)
    assert "write `orientation: stored` in dataset.yaml" in str(found)
    assert seen(write(tmp_path, label, textured(label), 6, "orientation: stored")).size == (64, 48)
    upright = write(tmp_path, np.rot90(label, -1), textured(label), 6, "orientation: stored")
    found = inspect(upright, 0)
    assert "dataset.yaml says `orientation: stored`, which is wrong" in str(found)


@pytest.mark.parametrize("high", [4095, 255, 40000])
def test_the_used_part_of_16_bits_is_seen(tmp_path: Path, high: int):
    dataset = write(tmp_path, corner(), textured(corner()))
    (tmp_path / "train/images/a.jpg").unlink()
    image = np.linspace(0, high, 48 * 64).reshape(48, 64).astype(np.uint16)
    Image.fromarray(image).save(tmp_path / "train/images/a.png")
    dataset = FolderDataset(tmp_path)
    assert seen(dataset, compare_edges=False).highest == (None if high == 40000 else high)


def test_a_dark_image_of_8_bits_is_no_part_of_16(tmp_path: Path):
    dark = np.full((48, 64, 3), 9, np.uint8)
    assert seen(write(tmp_path, corner(), dark)).highest is None


def test_counts_are_those_of_the_classes_and_of_the_ignored(tmp_path: Path):
    label = corner()
    label[:, -1] = 255
    label[0, 0] = 1  # so that 255 is no class
    found = seen(write(tmp_path, label, textured(label)))
    assert found.counts.tolist() == [np.sum(label == 0), np.sum(label == 1), 48]
    assert (found.labeled, found.ignored) == (48 * 63, 48)
