"""Images that files are compared on: sizes, depths, and which files calibrate."""

import numpy as np
import pytest
from PIL import Image

from ccnet.export.sample_images import noise, photographs, read_images


def test_photographs_are_taken_at_the_first_one_s_size_and_half_of_it():
    images = [np.full((h, w, 5), 7, np.uint8) for h, w in ((50, 80), (64, 64))]
    sizes = [[tuple(image.shape) for image in part] for part in photographs(images)]
    assert sizes == [[(1, 5, 50, 80)] * 2, [(1, 5, 32, 40)] * 2]
    assert all((image == 7).all() for part in photographs(images) for image in part)


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((64, 96), [(65, 97), (32, 48)]),
        ((128, 192), [(128, 192), (65, 97)]),
        ((20, 50), [(32, 50), (32, 32)]),
    ],
)
def test_photographs_never_have_the_size_that_was_traced(size, expected):
    parts = photographs([np.zeros((*size, 3), np.uint8)])
    assert [tuple(image.shape[2:]) for (image,) in parts] == expected


def test_channels_are_resized_as_pillow_resizes_a_picture():
    image = np.random.default_rng(0).integers(0, 256, (50, 80, 3), np.uint8)
    half = photographs([image])[1][0]
    expected = np.array(Image.fromarray(image).resize((40, 32)))
    np.testing.assert_array_equal(half[0].movedim(0, -1), expected)


def test_sixteen_bits_become_eight_before_they_are_compared(tmp_path):
    image = np.random.default_rng(0).integers(0, 255, (8, 9, 3), np.uint8)
    np.save(tmp_path / "a.npy", image.astype(np.uint16) * 257 + 100)
    np.save(tmp_path / "b.npy", image)
    for (read,) in read_images(tmp_path, 3):
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, image)


def test_one_size_is_that_of_all_images():
    images = [np.full((h, w, 5), 7, np.uint8) for h, w in ((50, 80), (64, 64))]
    for batches in (photographs(images, (40, 96)), noise(5, (40, 96))):
        assert {tuple(batch.shape[1:]) for part in batches for batch in part} == {(5, 40, 96)}


def test_every_second_file_calibrates_and_the_others_are_compared(tmp_path):
    for index in range(7):
        np.save(tmp_path / f"{index}.npy", np.full((4, 4, 1), index, np.uint8))
    (tmp_path / ".hidden.npy").touch()
    values = [[int(image.max()) for image in part] for part in read_images(tmp_path, 1)]
    assert values == [[0, 2, 4, 6], [1, 3, 5]]


def test_a_folder_with_fewer_than_two_images_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="has 1 images; at least two are needed"):
        read_images(tmp_path, 3)
