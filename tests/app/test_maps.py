"""The panel of a pixel."""

import re

import numpy as np
import pytest
from matplotlib import colormaps
from matplotlib.colors import to_hex

from ccnet.app.loading import AS_VALIDATED
from ccnet.app.maps import color_bar, map_scale, pixel_maps, pixel_panel, scaled
from ccnet.app.storage import Storage
from ccnet.app.workbench import Workbench
from ccnet.explanation.grid import Axis
from ccnet.explanation.overlay import WEIGHTS
from tests.app.serving import loaded


@pytest.fixture
def bench(model_folder, other_folder, tmp_path) -> Workbench:
    return Workbench(loaded(model_folder, other_folder), Storage(tmp_path))


def test_a_panel_has_the_classes_and_a_map_for_each_number_of_passes(bench, scene):
    model = bench.models[0]
    panel = pixel_panel(bench, model, scene, AS_VALIDATED, (20, 30))
    label = bench.segmentation(model, scene).labels[30, 20]
    assert f"Pixel (20, 30): {model.predictor.classes[label]}" in panel
    assert panel.count("<figure>") == 2
    assert panel.count("<tr>") == 4
    assert "takes much" in panel


def test_maps_differ_between_pixels_and_passes(bench, scene):
    found = bench.segmentation(bench.models[0], scene)
    maps = [
        picture
        for point in ((3, 4), (60, 50))
        for picture, _ in pixel_maps(bench.models[0], found, AS_VALIDATED, point)
    ]
    assert len(set(maps)) == 4


def test_the_bar_below_the_maps_has_their_colors():
    first, *_, last = re.findall("#[0-9a-f]{6}", color_bar())
    for place, color in ((0.0, first), (1.0, last)):
        assert color == to_hex(colormaps[WEIGHTS](place))


def test_a_model_without_attention_says_so(bench, scene):
    panel = pixel_panel(bench, bench.models[1], scene, AS_VALIDATED, (20, 30))
    assert "no attention" in panel
    assert "<figure>" not in panel


@pytest.mark.parametrize("point", [(64, 0), (0, 64), (-1, 3)])
def test_a_pixel_outside_is_an_error(bench, scene, point):
    with pytest.raises(ValueError, match=re.escape("outside the image: x is 0 to 63, y 0 to 63")):
        pixel_panel(bench, bench.models[0], scene, AS_VALIDATED, point)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("factor", [0.5, 3])
def test_a_map_lies_in_the_picture_as_in_the_image(factor, align_corners):
    axis = Axis(120, 12.0, 1.5, 64, 8, align_corners)
    other = scaled(axis, int(120 * factor))
    for index in range(8):
        assert other.center(index) + 0.5 == pytest.approx(factor * (axis.center(index) + 0.5))
    assert np.ptp(other.indices()) == np.ptp(axis.indices())


def test_maps_are_at_most_as_large_as_the_page_shows_them():
    assert map_scale(64, 32).shown == (640, 320)
    assert map_scale(1000, 4000).shown == (160, 640)
