"""Maps over images: sizes, colors, the ring, images of any channels."""

import numpy as np
import pytest

from ccnet.explanation import overlay, scale_of
from ccnet.explanation.grid import Axis, Grid
from ccnet.explanation.overlay import DOT, SIGNED, WEIGHTS, luminance
from tests.conftest import noise

IMAGE, _ = noise(40, 72)


def map_with(cell: tuple[int, int], value: float = 1.0) -> np.ndarray:
    map = np.full((10, 18), 0.01)
    map[cell] = value
    return map


def test_the_brightest_place_is_that_of_the_largest_weight():
    shown = overlay(np.zeros_like(IMAGE), map_with((2, 15)), (20, 30))
    assert shown.shape == IMAGE.shape
    assert shown.dtype == np.uint8
    bright = shown.sum(axis=2, dtype=int)
    y, x = np.unravel_index(np.where(shown_ring(shown), 0, bright).argmax(), bright.shape)
    assert (y // 4, x // 4) == (2, 15)


def shown_ring(shown: np.ndarray) -> np.ndarray:
    return (shown == DOT).all(axis=2) | (shown == 255).all(axis=2)


def test_the_ring_is_around_the_point():
    shown = overlay(IMAGE, map_with((0, 0)), (50, 21))
    y, x = np.argwhere((shown == DOT).all(axis=2)).mean(axis=0)
    assert (x, y) == pytest.approx((50, 21), abs=0.5)


def test_without_opacity_the_image_is_left_in_gray():
    shown = overlay(IMAGE, map_with((0, 0)), (50, 21), opacity=0.0)
    outside = ~shown_ring(shown)
    np.testing.assert_array_equal(shown[outside], luminance(IMAGE)[outside])
    assert (np.ptp(shown[outside], axis=1) == 0).all()


def test_what_the_network_does_not_see_is_dim_and_gray():
    tile = Axis(72, 8.0, 1.0, 16, 4)
    grid = Grid(Axis(40, 0.0, 1.0, 40, 10), tile)
    shown = overlay(IMAGE, np.ones((10, 4)), (16, 20), grid=grid)
    beyond = shown[:, 24:]
    assert (np.ptp(beyond, axis=2) == 0).all()
    assert beyond.mean() < 0.5 * IMAGE[:, 24:].mean()


def test_values_of_both_signs_get_an_even_scale_and_others_start_at_zero():
    signed = scale_of(np.array([[-0.1, 0.4], [0.0, 0.2]]))
    assert (signed.colors, signed.norm.vmin, signed.norm.vmax) == (SIGNED, -0.4, 0.4)
    assert float(signed.norm(0.0)) == 0.5
    weights = scale_of(np.array([[0.1, 0.4], [0.0, np.nan]]))
    assert (weights.colors, weights.norm.vmin, weights.norm.vmax) == (WEIGHTS, 0, 0.4)


def test_the_value_of_the_pixel_itself_does_not_hide_the_others():
    map = map_with((3, 4), 1.0)
    assert scale_of(map, apart=(3, 4)).norm.vmax == 0.01
    assert scale_of(np.ones((1, 1)), apart=(0, 0)).norm.vmax == 1
    assert scale_of(np.zeros((2, 2))).norm.vmax > 0


@pytest.mark.parametrize("colors", [WEIGHTS, SIGNED])
def test_both_scales_can_be_read_by_lightness_on_each_side(colors):
    """A test that needs no eye: lightness rises with weights, and falls on both sides of 0."""
    values = np.linspace(-1 if colors == SIGNED else 0, 1, 101)[None]
    light = scale_of(values).rgb(values)[0] @ np.array([0.2126, 0.7152, 0.0722])
    if colors == SIGNED:
        assert light.argmax() == pytest.approx(50, abs=2)
        assert light[0] < 0.6 * light[50]
        assert light[-1] < 0.6 * light[50]
    else:
        assert (np.diff(light) >= -0.5).all()
        assert light[-1] - light[0] > 150


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_images_of_any_channels_are_shown(channels, dtype):
    image = np.random.default_rng(0).integers(0, np.iinfo(dtype).max, (40, 72, channels), dtype)
    shown = overlay(image, map_with((2, 15)), (50, 21))
    assert shown.shape == (40, 72, 3)
    assert shown.dtype == np.uint8


def test_beside_the_cross_the_image_stays_gray_unless_zeros_have_a_color_too():
    map = map_with((2, 15))
    map[5:] = 0
    shown = overlay(IMAGE, map, (3, 3))
    np.testing.assert_array_equal(shown[20:], luminance(IMAGE)[20:])
    everywhere = overlay(IMAGE, map, (3, 3), gray_zeros=False)
    assert (np.ptp(everywhere[20:], axis=2) > 0).mean() > 0.9
