"""Where a pixel looks: sums, support, and the product of dense attention matrices."""

import numpy as np
import pytest
import torch

from ccnet import CCNet, Predictor
from ccnet.datasets import Scenes
from ccnet.prediction.batches import as_batch
from ccnet.report.attention import attention_maps, save_attention
from tests.conftest import new_tiny_model
from tests.report.test_pictures import read_png

IMAGE = np.tile(Scenes()[0][0], (1, 2, 1))[:40, :72]  # features of 10×18
PIXEL = (50, 21)  # x, y; feature (5, 12)


@pytest.mark.parametrize("recurrence", [1, 2, 3])
def test_every_map_is_a_distribution(recurrence):
    maps = attention_maps(Predictor(new_tiny_model(recurrence), device="cpu"), IMAGE, PIXEL)
    assert len(maps) == recurrence
    for weights in maps:
        assert weights.shape == (10, 18)
        assert (weights >= 0).all()
        assert weights.sum() == pytest.approx(1, abs=1e-5)


def test_one_pass_looks_along_row_and_column_and_two_everywhere(predictor):
    one, two = attention_maps(predictor, IMAGE, PIXEL)
    cross = np.zeros((10, 18), bool)
    cross[5], cross[:, 12] = True, True
    np.testing.assert_array_equal(one > 0, cross)
    assert (two > 0).all()


@pytest.mark.parametrize(
    ("pixel", "feature"),
    [((0, 0), (0, 0)), ((71, 39), (9, 17)), ((7, 11), (2, 1)), ((8, 12), (3, 2))],
)
def test_pixels_of_the_image_fall_on_the_features_above_them(predictor, pixel, feature):
    rows, columns = (attention_maps(predictor, IMAGE, pixel)[0] > 0).nonzero()
    assert np.bincount(rows).argmax() == feature[0]
    assert np.bincount(columns).argmax() == feature[1]


def dense_attention(module, features: torch.Tensor) -> torch.Tensor:
    """A_{u,i} over all pixels (h·w, h·w), zero off the cross."""
    query, key = (conv(features)[0].flatten(1) for conv in (module.query_conv, module.key_conv))
    y, x = np.divmod(np.arange(query.shape[1]), features.shape[-1])
    on_cross = torch.from_numpy((y[:, None] == y) | (x[:, None] == x))
    return (query.T @ key).masked_fill(~on_cross, float("-inf")).softmax(dim=1)


@pytest.mark.parametrize("shared", [True, False])
def test_maps_are_the_product_of_dense_attention_matrices(shared):
    model = CCNet(3, "tiny", channels=16, kernel_size=1, auxiliary_channels=None, shared=shared)
    for module in model.head.attention.passes:
        torch.nn.init.constant_(module.gamma, 0.5)
        torch.nn.init.normal_(module.query_conv.weight, std=0.5)  # sharper than at the start
    predictor = Predictor(model.eval(), device="cpu")
    images = model.normalize(as_batch(IMAGE))
    with torch.no_grad():
        features = model.head.reduction(model.backbone(images)[-1])
        first, second = (model.head.attention.attention(index) for index in range(2))
        earlier = dense_attention(first, features)
        later = dense_attention(second, first(features))
    one, two = attention_maps(predictor, IMAGE, PIXEL)
    pixel = 5 * 18 + 12
    np.testing.assert_allclose(one.ravel(), later[pixel], rtol=1e-4, atol=1e-7)
    np.testing.assert_allclose(two.ravel(), (later @ earlier)[pixel], rtol=1e-4, atol=1e-7)


def test_the_model_is_left_as_it_was(predictor, tiny_model):
    before = predictor.predict(IMAGE)
    attention_maps(predictor, IMAGE, PIXEL)
    assert not any(module._forward_pre_hooks for module in tiny_model.modules())
    np.testing.assert_array_equal(predictor.predict(IMAGE), before)


def test_lower_precision_gives_nearly_the_same_maps(predictor, tiny_model):
    lower = Predictor(tiny_model, device="cpu", precision="bfloat16")
    for weights, exact in zip(
        attention_maps(lower, IMAGE, PIXEL), attention_maps(predictor, IMAGE, PIXEL), strict=True
    ):
        assert weights.dtype == np.float32
        np.testing.assert_allclose(weights, exact, atol=0.05 * exact.max())


@pytest.mark.parametrize("recurrence", [1, 3])
def test_maps_can_be_drawn(tmp_path, recurrence):
    predictor = Predictor(new_tiny_model(recurrence), device="cpu")
    maps = attention_maps(predictor, IMAGE, PIXEL)
    save_attention(tmp_path / "attention.png", [(IMAGE, PIXEL, maps)])
    assert (tmp_path / "attention.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("counts", [[1], [3], [1, 3]], ids=str)
def test_attention_is_drawn_for_any_number_of_passes(tmp_path, counts):
    image, _ = Scenes()[0]
    maps = np.random.default_rng(0).random((3, 8, 8))
    save_attention(tmp_path / "a.png", [(image, (5, 9), list(maps[:count])) for count in counts])
    height, width, _ = read_png(tmp_path / "a.png").shape
    assert width == pytest.approx(120 * 2.4 * (1 + max(counts)), abs=1)
    assert height == pytest.approx(120 * (2.4 * len(counts) + 0.6), abs=1)


@pytest.mark.parametrize("pixel", [(72, 0), (0, 40), (-1, 0), (0, -1)])
def test_a_pixel_outside_is_named(predictor, pixel):
    with pytest.raises(ValueError, match=r"pixel \(.*\) is outside the image of 72×40"):
        attention_maps(predictor, IMAGE, pixel)


def test_a_model_without_attention_has_no_maps():
    with pytest.raises(ValueError, match="recurrence 0"):
        attention_maps(Predictor(new_tiny_model(0), device="cpu"), IMAGE, PIXEL)
