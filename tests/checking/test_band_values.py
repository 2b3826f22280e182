"""Ranges, means and deviations of bands, measured in bounded memory."""

import numpy as np
import pytest
from PIL import Image

from ccnet.checking import band_values
from ccnet.checking.band_values import measure_bands, sample_values
from ccnet.datasets.folder import FolderDataset
from ccnet.images.stored import Kind
from ccnet.runtime.files import DataError


def folder_of(root, images):
    for kind in ("images", "labels"):
        (root / "train" / kind).mkdir(parents=True)
    for index, image in enumerate(images):
        np.save(root / f"train/images/{index}.npy", image)
        label = Image.fromarray(np.zeros(image.shape[:2], np.uint8))
        label.save(root / f"train/labels/{index}.png")
    return FolderDataset(root, "train", classes=["a", "b"])


def random_images(dtype, number=3, low=100, high=3000, bands=4):
    rng = np.random.default_rng(0)
    return [rng.integers(low, high, (40, 50, bands)).astype(dtype) for _ in range(number)]


def test_percentiles_means_and_deviations_are_those_of_all_pixels(tmp_path):
    images = random_images(np.uint16)
    found = measure_bands(folder_of(tmp_path, images), [4, 2], "percentiles")
    chosen = np.concatenate([image.reshape(-1, 4) for image in images])[:, [3, 1]].astype(float)
    expected = np.percentile(chosen, [0.1, 99.9], axis=0)
    np.testing.assert_allclose(np.array(found.bands.ranges).T, expected, rtol=1e-6)
    data = FolderDataset(tmp_path, "train", classes=["a", "b"]).with_bands(found.bands)
    pixels = np.concatenate([data[i][0].reshape(-1, 2) for i in range(3)]) / 257
    np.testing.assert_allclose(found.mean, pixels.mean(0), rtol=1e-3)
    np.testing.assert_allclose(found.std, pixels.std(0), rtol=1e-3)
    assert (found.bands.numbers, found.bands.of, found.warnings) == ((4, 2), 4, [])


def test_floats_have_the_values_of_whole_numbers(tmp_path):
    images = random_images(np.uint16)
    whole = folder_of(tmp_path / "a", images)
    floats = folder_of(tmp_path / "b", [(image / 4096).astype(np.float32) for image in images])
    read = [
        data.with_bands(measure_bands(data, None, "percentiles").bands) for data in (whole, floats)
    ]
    np.testing.assert_array_equal(read[0][1][0], read[1][1][0])


def test_of_many_pixels_few_are_kept_and_the_same_ones_each_time(tmp_path, monkeypatch):
    data = folder_of(tmp_path, random_images(np.float32))
    monkeypatch.setattr(band_values, "MOST_VALUES", 3 * 4 * 100)
    paths, kind = [image for image, _ in data.files.pairs], Kind(4, "float32")
    seen = []
    values = sample_values(paths, kind, (1, 2, 3, 4), lambda *done: seen.append(done))
    assert values.shape == (300, 4)
    assert seen == [(1, 3), (2, 3), (3, 3)]
    np.testing.assert_array_equal(values, sample_values(paths, kind, (1, 2, 3, 4)))


def test_pixels_that_hold_nothing_do_not_count(tmp_path):
    images = random_images(np.float32, bands=2)
    images[0][:20] = np.nan
    found = measure_bands(folder_of(tmp_path, images), None, "percentiles")
    assert 99 < found.bands.ranges[0][0] < found.bands.ranges[0][1] < 3000
    assert np.isfinite(found.mean).all()


@pytest.mark.parametrize(
    ("dtype", "value_range", "ranges"),
    [
        (np.uint8, None, (0.0, 255.0)),
        (np.uint8, "dtype", (0.0, 255.0)),
        (np.uint16, "dtype", (0.0, 65535.0)),
        (np.int16, "dtype", (-32768.0, 32767.0)),
        (np.float32, [0, 4095], (0.0, 4095.0)),
    ],
)
def test_ranges_that_are_said(tmp_path, dtype, value_range, ranges):
    images = random_images(dtype, high=200)
    found = measure_bands(folder_of(tmp_path, images), None, value_range)
    assert found.bands.ranges == (ranges,) * 4


def test_three_bands_of_8_bits_are_normalized_as_rgb(tmp_path):
    found = measure_bands(folder_of(tmp_path, random_images(np.uint8, high=255)), [1, 2, 3], None)
    assert (found.mean, found.std) == (None, None)


@pytest.mark.parametrize(
    ("images", "numbers", "value_range", "said"),
    [
        (
            random_images(np.uint16),
            None,
            None,
            r"only 100 to 2999 is used; give --data.value_range",
        ),
        (random_images(np.float32), None, None, r"whose type does not tell the range"),
        (random_images(np.float32), None, "dtype", r"whose type does not tell the range"),
        (random_images(np.uint8, high=200), [1, 5], None, r"data.bands are numbers from 1 to 4"),
        ([np.zeros((4, 4, 2), np.uint8)], None, None, "band 1 has the same value everywhere"),
        (random_images(np.uint16), None, [5000, 6000], "band 1 has the same value everywhere"),
        ([np.ones((4, 4, 2), np.float32)], None, "percentiles", "band 1 are 1 and 1, which tell"),
        ([np.full((4, 4), np.nan, np.float32)], None, "percentiles", "no value that is a number"),
        ([np.zeros((4, 4, 2)), np.zeros((4, 4, 3))], None, "percentiles", "different bands"),
    ],
)
def test_what_cannot_be_told_is_an_error(tmp_path, images, numbers, value_range, said):
    with pytest.raises(DataError, match=said):
        measure_bands(folder_of(tmp_path, images), numbers, value_range)


def test_values_beyond_the_range_are_a_warning(tmp_path):
    data = folder_of(tmp_path, random_images(np.uint16))
    (warning,) = measure_bands(data, None, [0, 1500]).warnings
    assert "51% of the values of the bands lie beyond the range" in warning
