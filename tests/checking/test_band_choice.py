"""Which bands are chosen where nobody has said it."""

import numpy as np
import pytest
from PIL import Image

from ccnet.checking.band_choice import choose_bands, has_mask, is_bright, only_kind
from ccnet.datasets import Scenes
from ccnet.datasets.folder import FolderDataset
from ccnet.runtime.files import DataError
from tests.images.test_tiff import write_tiff


def folder_of(root, *images):
    """A folder of these images, as .npy, or as a function of a path writes them."""
    for kind in ("images", "labels"):
        (root / "train" / kind).mkdir(parents=True)
    for index, image in enumerate(images):
        if isinstance(image, np.ndarray):
            np.save(root / f"train/images/{index}.npy", image)
        else:
            image(root / f"train/images/{index}")
        label = Image.fromarray(np.zeros((4, 4), np.uint8))
        label.save(root / f"train/labels/{index}.png")
    return FolderDataset(root, "train", classes=["a", "b"])


def png(array):
    return lambda path: Image.fromarray(array).save(path.with_suffix(".png"))


def tif(array, **tags):
    return lambda path: write_tiff(path.with_suffix(".tif"), array, **tags)


def filled(value, channels, dtype=np.uint8):
    return np.full((4, 4, channels), value, dtype)


RGB = {"tag262": (3, [2])}


def test_photographs_need_no_choice(tmp_path):
    for number, images in enumerate(
        [
            (png(filled(1, 3)), png(filled(1, 1)[:, :, 0]), png(filled(1, 4))),
            (png(filled(60000, 1, np.uint16)[:, :, 0]), png(filled(9, 3))),
            (tif(filled(255, 4), **RGB, tag338=(3, [2])),),
        ]
    ):
        assert choose_bands(folder_of(tmp_path / str(number), *images)) is None
    assert choose_bands(Scenes()) is None


@pytest.mark.parametrize(
    ("image", "bands", "value_range"),
    [
        (tif(filled(99, 4), **RGB, tag338=(3, [2])), 4, "dtype"),  # called transparency
        (tif(filled(99, 4), **RGB, tag338=(3, [0])), 4, "dtype"),
        (tif(filled(99, 5, np.uint16)), 5, "percentiles"),
        (tif(filled(60000, 3, np.uint16)), 3, "percentiles"),  # not called RGB
        (png(filled(4095, 1, np.uint16)[:, :, 0]), 1, "percentiles"),  # 12 bits in a file of 16
        (filled(9, 2), 2, "dtype"),
        (filled(60000, 3, np.uint16), 3, "percentiles"),
        (filled(0.5, 1, np.float32)[:, :, 0], 1, "percentiles"),
    ],
)
def test_all_bands_of_other_images_are_chosen(tmp_path, image, bands, value_range):
    choice = choose_bands(folder_of(tmp_path, image))
    assert (choice.numbers, choice.value_range) == (list(range(1, bands + 1)), value_range)
    assert f"{bands} band" in choice.reason
    assert choice.provisional().of == bands


def test_images_of_different_kinds_are_an_error(tmp_path):
    data = folder_of(tmp_path, filled(9, 4), filled(9, 5))
    with pytest.raises(DataError, match=r"1 have 4 bands of uint8, such as .*0.npy; 1 have 5"):
        choose_bands(data)
    with pytest.raises(DataError, match="no image can be read"):
        only_kind({})


def test_bands_of_photographs_are_chosen_if_they_are_asked_for(tmp_path):
    data = folder_of(tmp_path, png(filled(1, 3)))
    assert choose_bands(data, is_asked=True).numbers == [1, 2, 3]


def test_masks_and_bright_images(tmp_path):
    write_tiff(tmp_path / "a.tif", filled(65535, 2, np.uint16))
    assert has_mask(tmp_path / "a.tif")
    assert is_bright(tmp_path / "a.tif")
    write_tiff(tmp_path / "a.tif", filled(8000, 2, np.uint16))
    assert not has_mask(tmp_path / "a.tif")
    assert not is_bright(tmp_path / "a.tif")
