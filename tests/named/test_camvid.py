"""CamVid in both layouts, and its statistics where the files are there."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.checking.check import check_dataset
from ccnet.datasets import CamVid
from ccnet.named.camvid import CLASSES
from ccnet.runtime.files import DataError

PUBLISHED_WEIGHTS = np.array(
    [0.2595, 0.1826, 4.564, 0.1417, 0.9051, 0.3826, 9.6446, 1.8418, 0.6823, 6.2478, 7.3614]
)
SIGN = 6


def save_pair(image: Path, label: Path) -> None:
    for path, array in ((image, np.zeros((1, 12, 3))), (label, np.arange(12)[None])):
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(array.astype(np.uint8)).save(path)


@pytest.mark.parametrize("split", ["train", "val", "test"])
@pytest.mark.parametrize("folders", ["{0}/images {0}/labels", "{0} {0}annot"])
def test_both_layouts_are_read_and_eleven_is_ignored(tmp_path: Path, split: str, folders: str):
    images, labels = folders.format(split).split()
    save_pair(tmp_path / images / "a.png", tmp_path / labels / "a.png")
    (tmp_path / f"{split}.txt").write_text("/elsewhere/a.png /elsewhere/annot/a.png")
    dataset = CamVid(tmp_path, split)
    assert dataset.name(0) == f"{images}/a.png"
    assert dataset[0][1].tolist() == [[*range(11), 255]]


def test_missing_split_names_the_layouts(tmp_path: Path):
    with pytest.raises(DataError, match=r"split val of CamVid needs val and valannot \(or val/im"):
        CamVid(tmp_path, "val")


def test_labels_of_colors_are_read_too(tmp_path: Path):
    for name in ("train/images/a.png", "train/labels/a.png"):
        (tmp_path / name).parent.mkdir(parents=True)
    colors = np.array([[*CLASSES.values(), (0, 0, 0)]], np.uint8)
    Image.fromarray(colors).save(tmp_path / "train/images/a.png")
    Image.fromarray(colors).save(tmp_path / "train/labels/a.png")
    assert CamVid(tmp_path)[0][1].tolist() == [[*range(11), 255]]


@pytest.mark.parametrize(("split", "count"), [("train", 367), ("val", 101)])
def test_camvid_has_its_pairs(shared_data: Path, split: str, count: int):
    dataset = CamVid(shared_data / "camvid", split)
    image, label = dataset[count - 1]
    assert len(dataset) == count
    assert (image.shape, label.shape) == ((360, 480, 3), (360, 480))


@pytest.mark.slow
def test_camvid_statistics_agree_with_the_published_ones(shared_data: Path):
    report = check_dataset(CamVid(shared_data / "camvid", "train", strict=False))
    assert report.fit
    assert report.warnings == []
    total = sum(report.class_pixels) + report.ignored_pixels
    shares = 100 * np.array(report.class_pixels) / total
    published = [16.85, 23.26, 0.98, 31.66, 4.49, 9.72, 1.17, 1.13, 5.87, 0.64, 0.29]
    np.testing.assert_allclose(shares, published, atol=0.005)
    # the published weights take their median over void too, a common factor; and their sign
    # class is rarer than in these labels
    ratio = np.delete(np.array(report.class_weights) / PUBLISHED_WEIGHTS, SIGN)
    np.testing.assert_allclose(ratio / np.median(ratio), 1, atol=0.12)
