"""Where features lie in the image: interpolation, tiles, scales, padding."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ccnet import Predictor
from ccnet.explanation.grid import Axis, even_grid, view_around
from ccnet.prediction.batches import as_batch
from ccnet.prediction.protocol import Protocol
from tests.conftest import noise


@pytest.mark.parametrize("align_corners", [True, False])
@pytest.mark.parametrize(("length", "features"), [(72, 18), (65, 9), (50, 13), (7, 1), (1, 1)])
def test_the_nearest_feature_has_the_largest_part_in_the_interpolation(
    length, features, align_corners
):
    axis = Axis(length, 0.0, 1.0, length, features, align_corners)
    parts = F.interpolate(
        torch.eye(features)[None], length, mode="linear", align_corners=align_corners
    )[0]  # [feature, place]
    for place in range(length):
        assert parts[axis.index(place), place] >= parts[:, place].max() - 1e-5


@pytest.mark.parametrize("align_corners", [True, False])
def test_centers_are_where_the_interpolation_has_the_feature_alone(align_corners):
    axis = Axis(33, 0.0, 1.0, 33, 5, align_corners)
    ramp = torch.arange(33.0)  # at feature i of a downsampled ramp stands the place of its center
    for index in range(5):
        assert axis.index(round(axis.center(index))) == index
    if align_corners:
        assert [axis.center(i) for i in (0, 4)] == [0, 32]
        assert axis.ends() == (-4, 36)
    else:
        down = F.interpolate(ramp[None, None], 5, mode="linear", antialias=False)[0, 0]
        assert [axis.center(i) for i in range(5)] == pytest.approx(down.tolist(), abs=1e-4)
        assert axis.ends() == (-0.5, 32.5)


def test_a_map_lies_over_the_image_as_nearest_interpolation_does():
    map = np.arange(6.0).reshape(2, 3)
    shown = even_grid((8, 9), (2, 3)).on_image(map)
    expected = np.repeat(np.repeat(map, 4, axis=0), 3, axis=1)
    np.testing.assert_array_equal(shown, expected)
    assert even_grid((8, 9), (2, 3)).extent() == (-0.5, 8.5, 7.5, -0.5)


def view_of(model, protocol, point, size=(40, 72)):
    image, _ = noise(*size)
    predictor = Predictor(model, device="cpu", protocol=protocol)
    batch = as_batch(image)
    view = view_around(predictor, batch, point)
    return view, predictor.model.normalize(batch)


def test_the_whole_image_is_seen_whole(tiny_model):
    view, normalized = view_of(tiny_model, Protocol(), (50, 21))
    torch.testing.assert_close(view.images, normalized)
    assert view.place == (50, 21)
    grid = view.grid((10, 18), False)
    assert grid.is_whole
    assert grid.cell((50, 21)) == (5, 12)
    assert grid.center((0, 0)) == (1.5, 1.5)


@pytest.mark.parametrize("point", [(0, 0), (71, 39), (50, 21), (30, 5)])
def test_of_tiles_the_one_around_the_point_is_seen(tiny_model, point):
    view, normalized = view_of(tiny_model, Protocol(tile=32, stride=8), point)
    (x, y), (left, top) = point, (round(view.starts[1]), round(view.starts[0]))
    expected = normalized[..., top : top + 32, left : left + 32]
    torch.testing.assert_close(view.images, expected)
    assert view.place == (x - left, y - top)
    for place, start, length in ((x, left, 72), (y, top, 40)):
        is_at_the_edge = start in (0, length - 32)
        assert abs(place - start - 15.5) <= 4.5 or is_at_the_edge
    grid = view.grid((8, 8), False)
    assert not grid.is_whole
    assert grid.cell(point) == ((y - top) // 4, (x - left) // 4)
    shown = grid.on_image(np.ones((8, 8)))
    assert np.isfinite(shown).sum() == 32 * 32
    assert np.isfinite(shown[top : top + 32, left : left + 32]).all()


def test_padding_below_and_right_belongs_to_no_pixel(tiny_model):
    view, _ = view_of(tiny_model, Protocol(tile=64), (19, 39), size=(40, 20))
    assert view.images.shape[-2:] == (64, 64)
    grid = view.grid((16, 16), False)
    assert grid.is_whole
    assert grid.cell((19, 39)) == (9, 4)
    assert grid.on_image(np.ones((16, 16))).shape == (40, 20)
    assert np.isfinite(grid.on_image(np.ones((16, 16)))).all()
    assert grid.extent() == (-0.5, 63.5, 63.5, -0.5)


def test_the_scale_nearest_to_one_is_seen_upright(tiny_model):
    protocol = Protocol(scales=(0.25, 0.5, 4.0), mirror=True)
    view, normalized = view_of(tiny_model, protocol, (51, 21))
    expected = F.interpolate(normalized, (20, 36), mode="bilinear")
    torch.testing.assert_close(view.images, expected)
    assert view.place == (25.25, 10.25)
    grid = view.grid((5, 9), False)
    assert grid.is_whole
    assert grid.cell((51, 21)) == (2, 6)
    assert grid.center((2, 6)) == (51.5, 19.5)


def test_a_pixel_keeps_its_place_through_scaling_and_tiles(tiny_model):
    """The place that a feature's center has in the image is the pixel that falls on the feature."""
    view, _ = view_of(tiny_model, Protocol(tile=32, scales=(0.7,)), (60, 33))
    for align_corners in (True, False):
        grid = view.grid((8, 8), align_corners)
        for row in range(8):
            for column in range(8):
                x, y = grid.center((row, column))
                if 0 <= x < 71 and 0 <= y < 39:
                    assert grid.cell((round(x), round(y))) == (row, column)
