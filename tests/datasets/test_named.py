"""Published data sets as classes: arguments, photographs with an orientation, colors."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.classes import ADE20K as ADE20K_COLORS
from ccnet.datasets import ADE20K, DATASETS, LIP, COCOStuff164k
from ccnet.datasets.named import NamedDataset
from ccnet.datasets.unmapped import LabelValueError
from ccnet.runtime.files import DataError
from tests.named_data import ade20k, bands, coco_stuff164k, lip, save


def test_labels_lie_on_the_photographs_as_they_are_stored(tmp_path: Path):
    lip(tmp_path)
    path = next(tmp_path.rglob("val_images/10_1010.jpg"))
    stored = LIP(tmp_path, "val")[0]
    with Image.open(path) as picture:
        exif = picture.getexif()
        exif[0x0112] = 6  # which viewers turn by a quarter
        picture.save(path, exif=exif, quality=95)
    image, label = LIP(tmp_path, "val")[0]
    assert image.shape == (64, 48, 3)
    np.testing.assert_array_equal(label, np.rot90(stored[1], -1))


def test_an_unknown_value_names_the_file_the_place_and_what_there_should_be(tmp_path: Path):
    coco_stuff164k(tmp_path)
    path = min(tmp_path.glob("annotations/val2017/*"))
    save(path, bands([0, 183]))
    with pytest.raises(LabelValueError, match=f"^{path}: value 183 first at .x=0, y=24.") as caught:
        COCOStuff164k(tmp_path, "val")[0]
    assert "so these were changed; restore them" in str(caught.value)
    assert caught.value.path == path
    assert [found.value for found in caught.value.values] == [183]


def test_a_broken_label_is_named_with_its_cause(tmp_path: Path):
    ade20k(tmp_path)
    label = ADE20K(tmp_path, "val").files.pairs[0][1]
    label.write_bytes(b"no picture")
    with pytest.raises(DataError, match=f"^{label}: ") as caught:
        ADE20K(tmp_path, "val")[0]
    assert caught.value.__notes__ == ["labels of ADE20K hold numbers, 0–150"]


def test_published_colors_are_kept_even_where_two_classes_share_one(tmp_path: Path):
    ade20k(tmp_path)
    dataset = ADE20K(tmp_path)
    assert dataset.palette == tuple(ADE20K_COLORS.values())
    assert len(set(dataset.palette)) == 149  # road and skyscraper


def test_each_has_a_class_of_its_own():
    kinds = [kind for kind in DATASETS.values() if isinstance(kind, type)]
    named = [kind for kind in kinds if issubclass(kind, NamedDataset)]
    assert len(named) == len({kind.data.title for kind in named}) + 1  # Cityscapes has two
