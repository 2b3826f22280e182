"""Random scale, crop, mirror and color of an image together with its label."""

import dataclasses
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from ccnet.datasets.transforms import RandomTransform, largest_share
from tests.conftest import noise

FILL = (1, 2, 3)


def ramps(height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Red and green hold the position x and y; the label holds x."""
    y, x = np.mgrid[:height, :width].astype(np.uint8)
    return np.dstack([x, y, np.zeros_like(x)]), x


@pytest.mark.parametrize("scale", [0.43, 0.61, 1.0, 1.37, 2.2])
@pytest.mark.parametrize("mirror", [0.0, 1.0])
@pytest.mark.parametrize("axis", ["x", "y"])
def test_image_and_label_are_sampled_on_one_grid(scale: float, mirror: float, axis: str):
    image, label = ramps(200, 180)
    if axis == "y":
        label = np.ascontiguousarray(image[:, :, 1])
    transform = RandomTransform((60, 70), (scale, scale), mirror=mirror, max_class_share=1)
    for seed in range(5):
        view, target = transform(image, label, np.random.default_rng(seed))
        difference = view[:, :, "xy".index(axis)].astype(float) - target
        # half a pixel for the nearest neighbor, half a gray level for rounding, and the filter's
        # one-sided reach at the image's edge
        assert np.abs(difference).max() <= 1 + max(0, 1 / scale - 1)
        assert np.abs(difference.mean()) < 0.3


@pytest.mark.parametrize("scale", [0.43, 0.75, 1.0, 1.31, 2.0])
def test_crop_equals_a_crop_of_the_resized_whole(scale: float):
    image, label = noise(90, 110)
    size = (round(110 * scale), round(90 * scale))
    whole = np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR)).astype(int)
    labels = np.asarray(Image.fromarray(label).resize(size, Image.Resampling.NEAREST))
    transform = RandomTransform((24, 30), (scale, scale), mirror=0)
    for seed in range(4):
        view, target = transform(image, label, np.random.default_rng(seed))
        places = [
            (y, x)
            for y in range(size[1] - 23)
            for x in range(size[0] - 29)
            if abs(whole[y, x, 0] - int(view[0, 0, 0])) <= 1
            and np.abs(whole[y : y + 24, x : x + 30] - view).max() <= 1
        ]
        assert len(places) == 1
        y, x = places[0]
        # half-way between two pixels rounding may take either: a row or a column in a few
        assert (labels[y : y + 24, x : x + 30] != target).mean() < 0.1


@settings(max_examples=60, deadline=None)
@given(
    size=st.tuples(st.integers(1, 70), st.integers(1, 70)),
    crop=st.tuples(st.integers(1, 50), st.integers(1, 50)),
    scale=st.floats(0.05, 4),
    seed=st.integers(0, 99),
)
def test_any_size_gives_the_crop_padded_with_fill_and_255(
    size: tuple[int, int], crop: tuple[int, int], scale: float, seed: int
):
    image, label = np.full((*size, 3), 200, np.uint8), np.zeros(size, np.uint8)
    transform = RandomTransform(crop, (scale, scale), fill=FILL, brightness=0.2, hue=0.1)
    view, target = transform(image, label, np.random.default_rng(seed))
    height, width = (
        min(want, max(1, round(side * scale))) for want, side in zip(crop, size, strict=True)
    )
    assert (view.dtype, view.shape) == (np.uint8, (*crop, 3))
    assert (target.dtype, target.shape) == (np.uint8, crop)
    padding = np.ones(crop, bool)
    padding[:height, :width] = False
    assert (target[padding] == 255).all()
    assert (target[~padding] == 0).all()
    assert (view[padding] == FILL).all()
    assert (view[~padding] > 100).all()


def test_random_draws_cover_scales_places_and_both_sides():
    image, label = ramps(200, 200)
    transform = RandomTransform((40, 40), (0.5, 2), max_class_share=1)
    rng = np.random.default_rng(0)
    views = [transform(image, label, rng)[0].astype(float) for _ in range(200)]
    steps = np.array([view[20, 21, 0] - view[20, 20, 0] for view in views])
    assert 60 < (steps < 0).sum() < 140
    spans = np.array([np.ptp(view[:, :, 1]) for view in views])
    assert spans.min() < 23
    assert spans.max() > 70
    corners = np.array([view[:, :, :2].min(axis=(0, 1)) for view in views])
    assert (corners.min(axis=0) < 5).all()
    assert (corners.max(axis=0) > 150).all()


def test_crops_are_drawn_again_while_one_class_takes_too_much():
    image, label = noise(200, 200)
    label[:, :140] = 0

    def shares(limit: float) -> np.ndarray:
        transform = RandomTransform((50, 50), (1, 1), max_class_share=limit)
        rng = np.random.default_rng(0)
        crops = [transform(image, label, rng)[1] for _ in range(100)]
        return np.array([np.bincount(crop.ravel()).max() / crop.size for crop in crops])

    assert (shares(1.0) > 0.8).sum() > 50
    assert (shares(0.75) > 0.8).sum() < 10


@pytest.mark.parametrize("value", [0, 255])
def test_class_limit_that_no_crop_meets_still_gives_one(value: int):
    image, label = noise(40, 40)
    _, target = RandomTransform((20, 20))(image, label * 0 + value, np.random.default_rng(0))
    assert (target == value).all()


def test_largest_share_leaves_ignored_pixels_out():
    label = np.array([[0, 1, 1, 1], [255, 255, 255, 255]], np.uint8)
    assert largest_share(label, (0, 0, 4, 2)) == 0.75
    assert largest_share(label, (0, 0, 2, 2)) == 0.5
    assert largest_share(label, (0, 1, 4, 2)) == 1


def luma(image: np.ndarray) -> np.ndarray:
    return image @ np.array([0.299, 0.587, 0.114])


def jittered(image: np.ndarray, seed: int = 0, **strengths: float) -> np.ndarray:
    size = (image.shape[0], image.shape[1])
    label = np.zeros(size, np.uint8)
    transform = RandomTransform(size, (1, 1), mirror=0, **strengths)  # pyright: ignore[reportArgumentType]
    return transform(image, label, np.random.default_rng(seed))[0].astype(float)


def test_no_strength_leaves_colors_alone():
    image, _ = noise(20, 20)
    np.testing.assert_array_equal(jittered(image), image)


def test_each_color_change_does_what_it_says():
    image = (noise(40, 40)[0] // 4 + 90).astype(np.uint8)
    gray = np.repeat(image[:, :, :1], 3, axis=2)
    bright = jittered(image, brightness=0.3)
    ratio = bright.mean() / image.mean()
    assert abs(ratio - 1) > 0.01
    np.testing.assert_allclose(bright, image * ratio, atol=1.5)
    contrast = jittered(image, contrast=0.5)
    assert abs(contrast.std() / image.std() - 1) > 0.03
    assert luma(contrast).mean() == pytest.approx(luma(image).mean(), abs=3)
    for kind in ("saturation", "hue"):
        changed = jittered(image, **{kind: 0.5})
        assert np.abs(changed - image).mean() > 2
        np.testing.assert_allclose(luma(changed), luma(image), atol=1.5)
        np.testing.assert_allclose(jittered(gray, **{kind: 0.5}), gray, atol=1)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"crop_size": (0, 5)}, r"data\.augment\.crop_size\[0\] must be .* got 0"),
        ({"crop_size": (5, 10**6)}, r"crop_size\[1\] must be a whole number from 1 to 16384"),
        ({"scale": (0.0, 1.0)}, r"scale\[0\] must be a number from 0.01 to 100"),
        ({"scale": (1.0, math.inf)}, r"scale\[1\] must be .* got inf"),
        ({"scale": (2.0, 1.0)}, r"scale must be \[low, high\], got \[2.0, 1.0\]"),
        ({"mirror": 1.5}, "mirror must be a number from 0 to 1, got 1.5"),
        ({"mirror": math.nan}, "mirror must be a number from 0 to 1, got nan"),
        ({"max_class_share": 0.0}, "above 0 to 1, got 0.0"),
        ({"brightness": -0.1}, "brightness must be a number from 0 to 1, got -0.1"),
        ({"hue": 0.6}, "hue must be a number from 0 to 0.5, got 0.6"),
        ({"fill": (0, 0, 256)}, r"fill\[2\] must be .* from 0 to 255, got 256"),
    ],
)
def test_settings_out_of_range_are_refused(keys: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(RandomTransform((4, 4)), **keys)


@pytest.mark.unchecked
def test_image_and_label_of_different_size_are_refused():
    image, label = noise(10, 12)
    with pytest.raises(ValueError, match=r"image is \(10, 12\) but its label is \(10, 11\)"):
        RandomTransform((4, 4))(image, label[:, :11], np.random.default_rng(0))


@pytest.mark.parametrize("scale", [0.43, 1.0, 2.2])
@pytest.mark.parametrize("mirror", [0.0, 1.0])
def test_bands_are_seen_as_the_colors_of_a_photograph(scale: float, mirror: float):
    image, label = noise(80, 90)
    transform = RandomTransform((60, 50), (scale, scale), mirror=mirror, max_class_share=1)
    bands = np.dstack([image, image[:, :, :1]])
    wide = bands.astype(np.uint16) * 257  # 0 to 65535
    for seed in range(3):
        view, target = transform(image, label, np.random.default_rng(seed))
        for stored, factor in ((bands, 1), (wide, 257)):
            found, own_target = transform(stored, label, np.random.default_rng(seed))
            assert found.dtype == stored.dtype
            np.testing.assert_array_equal(own_target, target)
            is_seen = target != 255
            np.testing.assert_allclose(
                found[is_seen, :3].astype(float), view[is_seen].astype(float) * factor, atol=factor
            )
            np.testing.assert_array_equal(found[:, :, 3], found[:, :, 0])


def test_padding_of_bands_is_the_mean_of_each():
    image = np.zeros((10, 10, 5), np.uint16) + np.arange(5, dtype=np.uint16) * 1000
    transform = RandomTransform((20, 20), (1, 1), max_class_share=1)
    view, target = transform(image, np.zeros((10, 10), np.uint8), np.random.default_rng(0))
    assert (target == 255).sum() == 300
    assert (view == image[0, 0]).all()


def test_brightness_and_contrast_change_all_bands_alike():
    rng = np.random.default_rng(0)
    image = rng.integers(20_000, 40_000, (30, 30, 4)).astype(np.uint16)
    label = np.zeros((30, 30), np.uint8)

    def seen(**strength: float) -> np.ndarray:
        transform = RandomTransform((30, 30), (1, 1), mirror=0, max_class_share=1, **strength)
        return transform(image, label, np.random.default_rng(1))[0].astype(float)

    plain = seen()
    np.testing.assert_array_equal(plain, image)
    ratios = seen(brightness=0.3) / plain
    assert abs(ratios.mean() - 1) > 0.01
    assert np.ptp(ratios) < 1e-4
    view = seen(contrast=0.3)
    slopes = (view - view.mean()) / (plain - plain.mean())
    assert view.mean() == pytest.approx(plain.mean(), abs=1)
    assert np.median(slopes) == pytest.approx(slopes.mean(), abs=0.01)
    assert abs(np.median(slopes) - 1) > 0.01


def test_values_of_bands_stay_in_their_range():
    image = np.full((8, 8, 2), 65_000, np.uint16)
    transform = RandomTransform((8, 8), (1, 1), max_class_share=1, brightness=1.0)
    draws = (np.random.default_rng(seed) for seed in range(20))
    views = [transform(image, np.zeros((8, 8), np.uint8), rng)[0].max() for rng in draws]
    assert max(views) == 65_535


@pytest.mark.parametrize("name", ["saturation", "hue"])
def test_colors_of_bands_cannot_be_changed(name: str):
    transform = RandomTransform((8, 8), **{name: 0.2})
    image = np.zeros((8, 8, 4), np.uint8)
    with pytest.raises(ValueError, match=r"these have 4 bands of uint8; leave them at 0"):
        transform(image, np.zeros((8, 8), np.uint8), np.random.default_rng(0))
