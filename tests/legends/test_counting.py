"""Counting the values of label files, and what is refused while counting."""

import numpy as np
import pytest
from PIL import Image

from ccnet.legends.counting import NoClassesError, count_values, is_thin
from ccnet.runtime.files import DataError


def save(folder, *pictures):
    paths = []
    for index, picture in enumerate(pictures):
        if isinstance(picture, np.ndarray):
            picture = Image.fromarray(picture)
        paths.append(folder / f"{index}.png")
        picture.save(paths[-1])
    return paths


def test_values_are_counted_over_all_files(tmp_path):
    first = np.array([[0, 0, 0, 3], [0, 0, 0, 3]], np.uint8)
    found = count_values(save(tmp_path, first, np.full((2, 4), 3, np.uint8)))
    assert (found.num_files, found.num_pixels, found.has_colors) == (2, 16, False)
    counts = {v: (count.pixels, count.files, count.thin) for v, count in found.counts.items()}
    assert counts == {0: (6, 1, 0), 3: (10, 2, 0)}
    assert found.counts[3].example == tmp_path / "0.png"


def test_colors_numbers_in_three_channels_and_palettes(tmp_path):
    color = np.array([[[255, 0, 0], [0, 0, 9]]], np.uint8)
    assert set(count_values(save(tmp_path, color)).counts) == {0x0000FF, 0x090000}
    gray = np.repeat(np.array([[[1], [2]]], np.uint8), 3, axis=2)
    found = count_values(save(tmp_path, gray, np.array([[7, 2]], np.uint8)))
    assert (set(found.counts), found.has_colors, found.counts[2].files) == ({1, 2, 7}, False, 2)
    palette = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    palette.putpalette([9, 9, 9, 8, 0, 0])
    assert count_values(save(tmp_path, palette)).palettes == {0: {(9, 9, 9)}, 1: {(8, 0, 0)}}


def test_a_changed_file_is_counted_again(tmp_path):
    paths = save(tmp_path, np.zeros((2, 2), np.uint8))
    assert set(count_values(paths).counts) == {0}
    paths = save(tmp_path, np.ones((30, 20), np.uint8))
    assert set(count_values(paths).counts) == {1}


def test_files_that_cannot_be_read_are_left_out_unless_all_are(tmp_path):
    paths = save(tmp_path, np.zeros((2, 2), np.uint8), np.ones((2, 2), np.uint8))
    paths[0].write_bytes(b"no picture")
    assert count_values(paths).num_files == 1
    with pytest.raises(DataError, match=r"0\.png"):
        count_values(paths[:1])


def test_what_no_class_has_is_refused(tmp_path):
    (tmp_path / "c").mkdir()
    gray = np.arange(70, dtype=np.uint8).reshape(7, 10)
    colors = np.zeros((7, 10, 3), np.uint8)
    colors[:, :, 0] = gray
    for picture, said in (
        (gray, r"0\.png: 70 different values from 0 to 69, as an image"),
        (colors, "70 different colors"),
    ):
        with pytest.raises(NoClassesError, match=said):
            count_values(save(tmp_path, picture))
    for array, said in (
        (np.array([[0.5, 0]], np.float32), "not whole: shares or soft edges"),
        (np.array([[-1, 0]], np.int32), "class numbers are from 0 on"),
    ):
        np.save(tmp_path / "a.npy", array)
        with pytest.raises(NoClassesError, match=said):
            count_values([tmp_path / "a.npy"])
    red = np.array([[[255, 0, 0], [0, 0, 9]]], np.uint8)
    with pytest.raises(NoClassesError, match=r"1\.png holds numbers and .*0\.png holds colors"):
        count_values(save(tmp_path, red, np.array([[7, 2]], np.uint8)))


def test_thin_lines_are_one_pixel_wide():
    raw = np.zeros((5, 6), np.int32)
    raw[:, 2] = 1
    assert is_thin(raw).tolist() == (raw == 1).tolist()
    raw[:, 3] = 1
    assert not is_thin(raw).any()
