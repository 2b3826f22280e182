"""One pixel explained, against dense matrices and against networks whose attention is known."""

import threading
from dataclasses import fields

import numpy as np
import pytest
import torch

from ccnet import CCNet, Predictor
from ccnet.datasets import Scenes
from ccnet.explanation import explain
from ccnet.prediction.batches import as_batch
from ccnet.prediction.protocol import Protocol
from tests.conftest import new_tiny_model, noise, small, with_gamma
from tests.explanation.test_blocks import dense_block_norms
from tests.explanation.test_rows import dense_attention, dense_passes

IMAGE = np.tile(Scenes()[0][0], (1, 2, 1))[:40, :72]  # features of 10×18
POINT = (50, 21)  # x, y; feature (5, 12)


def sharper(model: CCNet) -> CCNet:
    for module in model.head.attention.passes:
        torch.nn.init.normal_(module.query_conv.weight, std=0.5)
    return with_gamma(model, 0.5)


def features_of(model: CCNet, image: np.ndarray) -> torch.Tensor:
    """H, the input of the attention."""
    images = model.normalize(as_batch(image))
    with torch.no_grad():
        return model.head.reduction(model.backbone(images)[-1])


@pytest.mark.parametrize("recurrence", [1, 2, 3])
def test_sums_and_shapes(recurrence):
    explanation = explain(Predictor(new_tiny_model(recurrence), device="cpu"), IMAGE, POINT)
    assert explanation.cell == (5, 12)
    assert len(explanation.reach) == len(explanation.gamma) == recurrence
    for row in explanation.reach:
        assert row.shape == (10, 18)
        assert (row >= 0).all()
        assert row.sum() == pytest.approx(1)
    assert explanation.influence.sum() == pytest.approx(1.5**recurrence)
    assert explanation.probabilities.sum() == pytest.approx(1)


def test_one_pass_looks_along_row_and_column_and_two_everywhere(predictor):
    one, two = explain(predictor, IMAGE, POINT).reach
    cross = np.zeros((10, 18), bool)
    cross[5], cross[:, 12] = True, True
    np.testing.assert_array_equal(one > 0, cross)
    assert (two > 0).all()


@pytest.mark.parametrize("shared", [True, False])
@pytest.mark.parametrize("options", [{}, {"refinement": [2]}, {"align_corners": True}], ids=str)
def test_maps_are_those_of_dense_matrices(shared, options):
    model = CCNet(3, "tiny", channels=16, auxiliary_channels=None, shared=shared, **options)
    model = sharper(model).double().eval()
    explanation = explain(model, IMAGE, POINT)
    features = features_of(model, IMAGE)
    (first, gamma), (second, other) = dense_passes(model.head.attention, features)
    pixel = explanation.cell[0] * 18 + explanation.cell[1]
    identity = torch.eye(180, dtype=torch.float64)
    expected = {
        "one": second[pixel],
        "two": (second @ first)[pixel],
        "influence": ((identity + other * second) @ (identity + gamma * first))[pixel],
        "exact": dense_block_norms(model.head.attention, features, explanation.cell),
    }
    got = {"one": explanation.reach[0], "two": explanation.reach[1]}
    got |= {name: getattr(explanation, name) for name in ("influence", "exact")}
    for name, map in got.items():
        np.testing.assert_allclose(map.ravel(), expected[name].ravel(), rtol=1e-9, atol=1e-12)


def dense_scores(model: CCNet, features: torch.Tensor, wanted: tuple[int, int]) -> torch.Tensor:
    """The logits at one pixel of the whole network behind H, with dense attention matrices."""
    images = model.normalize(as_batch(IMAGE))
    *maps, last = model.backbone(images)
    finer = [[*maps, last][index] for index in model.finer_maps]
    context = features
    for index in range(model.head.attention.recurrence):
        module = model.head.attention.attention(index)
        query, key, value = (
            conv(context)[0].flatten(1)
            for conv in (module.query_conv, module.key_conv, module.value_conv)
        )
        off_cross = dense_attention(module, context) == 0
        matrix = (query.T @ key).masked_fill(off_cross, float("-inf")).softmax(dim=1)
        context = context + module.gamma * (value @ matrix.T).view(context.shape)
    logits = model.head.classify(last, context, finer)
    upsampled = torch.nn.functional.interpolate(
        logits, IMAGE.shape[:2], mode="bilinear", align_corners=model.align_corners
    )
    return upsampled[0, :, wanted[1], wanted[0]]


@pytest.mark.parametrize("options", [{}, {"refinement": [2]}, {"align_corners": True}], ids=str)
def test_the_gradient_is_that_of_the_winning_class_through_dense_matrices(options):
    model = CCNet(3, "tiny", channels=16, auxiliary_channels=None, **options)
    model = sharper(model).double().eval()
    explanation = explain(model, IMAGE, POINT)
    features = features_of(model, IMAGE).requires_grad_()
    scores = dense_scores(model, features, POINT)
    (gradient,) = torch.autograd.grad(scores.max(), features)
    assert explanation.class_index == int(scores.argmax())
    assert explanation.class_name == model.classes[explanation.class_index]
    np.testing.assert_allclose(explanation.probabilities, scores.detach().softmax(0), rtol=1e-5)
    norm = torch.linalg.vector_norm(gradient[0], dim=0)
    np.testing.assert_allclose(explanation.gradient, norm, rtol=1e-8, atol=1e-12)
    evidence = (gradient * features)[0].sum(0).detach()
    np.testing.assert_allclose(explanation.evidence, evidence, rtol=1e-8, atol=1e-12)


def test_a_small_change_of_a_feature_changes_the_score_as_the_gradient_says():
    """Finite differences, which know no automatic differentiation."""
    model = sharper(CCNet(3, "tiny", channels=8, auxiliary_channels=None)).double().eval()
    explanation = explain(model, IMAGE, POINT)
    features = features_of(model, IMAGE)
    direction = torch.zeros_like(features)
    direction[..., 2, 3] = features[..., 2, 3]  # so that the change is the evidence of (2, 3)
    with torch.no_grad():
        ahead, behind = (
            dense_scores(model, features + step * direction, POINT)[explanation.class_index]
            for step in (1e-4, -1e-4)
        )
    change = float(ahead - behind) / 2e-4
    assert change == pytest.approx(explanation.evidence[2, 3], rel=1e-5, abs=1e-12)


def test_the_class_is_the_one_that_is_predicted(predictor):
    probabilities = predictor.probabilities(IMAGE)
    for x, y in ((0, 0), (71, 39), (33, 20)):
        explanation = explain(predictor, IMAGE, (x, y))
        assert explanation.class_index == predictor.predict(IMAGE)[y, x]
        np.testing.assert_allclose(explanation.probabilities, probabilities[:, y, x], atol=1e-5)


def test_fewer_passes_are_the_last_ones():
    model = sharper(new_tiny_model(3)).double()
    every, last = explain(model, IMAGE, POINT), explain(model, IMAGE, POINT, passes=1)
    assert len(last.reach) == len(last.gamma) == len(last.entropy) == 1
    np.testing.assert_array_equal(last.reach[0], every.reach[0])
    np.testing.assert_array_equal(last.entropy[0], every.entropy[2])
    assert last.influence.sum() == pytest.approx(1.5)
    assert (last.influence > 0).sum() == 10 + 18 - 1
    assert last.class_index == every.class_index
    np.testing.assert_allclose(last.probabilities, every.probabilities)


def test_the_two_routes_to_a_second_pixel_are_its_weight_in_two_passes():
    model = sharper(new_tiny_model(2)).double()
    explanation = explain(model, IMAGE, POINT, to=(9, 37))
    assert [route.corner for route in explanation.routes] == [(5, 2), (9, 12)]
    assert {route.source for route in explanation.routes} == {(9, 2)}
    total = sum(route.weight for route in explanation.routes)
    assert total == pytest.approx(explanation.reach[1][9, 2], rel=1e-12)
    for route in explanation.routes:
        assert route.second == pytest.approx(explanation.reach[0][route.corner])


def test_in_one_pass_there_are_no_routes_and_to_itself_one():
    assert explain(new_tiny_model(1), IMAGE, POINT, to=(0, 0)).routes == ()
    (route,) = explain(new_tiny_model(2), IMAGE, POINT, to=POINT).routes
    assert route.source == route.corner == (5, 12)


def looking_at(model: CCNet, row: int, column: int) -> CCNet:
    """The model with attention whose keys single out one feature: every cross looks there."""

    class Marked(torch.nn.Module):
        out_channels = 2

        def forward(self, features):
            key = torch.zeros_like(features[:, :2])
            key[:, 0, row], key[:, 1, :, column] = 50.0, 50.0
            return key

    class Ones(Marked):
        def forward(self, features):
            return torch.ones_like(features[:, :2])

    for module in model.head.attention.passes:
        module.key_conv, module.query_conv = Marked(), Ones()
    return model


@pytest.mark.parametrize("options", [{}, {"refinement": [2]}], ids=str)
@pytest.mark.parametrize("backbone", ["tiny", "mobilenet_v2", "resnet18"])
def test_known_attention_is_found_at_its_place_in_the_image(backbone, options):
    """Every pixel looks at row 3 and column 5 of the features: two passes meet at (3, 5)."""
    refinement = {} if not options else {"refinement": [4 if backbone != "tiny" else 2]}
    model = looking_at(with_gamma(small(backbone, **refinement)), 3, 5)
    image, _ = noise(72, 120)
    explanation = explain(model, image, (100, 60))
    row, column = explanation.cell
    one, two = explanation.reach
    assert one[3, column] + one[row, 5] == pytest.approx(1, abs=1e-6)
    assert two[3, 5] == pytest.approx(1, abs=1e-6)
    height, width = two.shape
    shown = explanation.grid.on_image(two)
    y, x = np.argwhere(shown > 0.5).mean(axis=0)
    assert (x, y) == pytest.approx((5.5 * 120 / width - 0.5, 3.5 * 72 / height - 0.5), abs=0.6)


def test_of_tiles_the_place_in_the_image_is_found():
    model = looking_at(new_tiny_model(2), 1, 2)
    predictor = Predictor(model, device="cpu", protocol=Protocol(tile=32, stride=16))
    explanation = explain(predictor, IMAGE, (60, 30))
    assert not explanation.grid.is_whole
    shown = explanation.grid.on_image(explanation.reach[1])
    # the tile begins at (40, 8), and a feature has 4×4 pixels
    expected = np.zeros((40, 72), bool)
    expected[8 + 4 : 8 + 8, 40 + 8 : 40 + 12] = True
    np.testing.assert_array_equal(np.nan_to_num(shown) > 0.5, expected)


def test_images_of_other_channels_and_bits_are_explained():
    model = with_gamma(small(in_channels=5))
    image = np.random.default_rng(0).integers(0, 65536, (40, 48, 5), np.uint16)
    assert explain(model, image, (47, 39)).reach[1].sum() == pytest.approx(1)


def test_the_model_is_left_as_it_was_and_threads_share_it(predictor):
    before = predictor.predict(IMAGE)
    expected = explain(predictor, IMAGE, POINT)
    found = []
    threads = [
        threading.Thread(target=lambda: found.append(explain(predictor, IMAGE, POINT)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
        np.testing.assert_array_equal(predictor.predict(IMAGE), before)
    for thread in threads:
        thread.join()
    assert len(found) == 4
    for other in found:
        for field in fields(expected):
            one, two = (getattr(x, field.name) for x in (expected, other))
            np.testing.assert_array_equal(one, two)
    assert all(parameter.grad is None for parameter in predictor.model.parameters())


def test_it_works_inside_inference_mode_and_in_lower_precision(predictor, tiny_model):
    expected = explain(predictor, IMAGE, POINT)
    with torch.inference_mode():
        explanation = explain(
            Predictor(tiny_model, device="cpu", precision="bfloat16"), IMAGE, POINT
        )
    np.testing.assert_allclose(explanation.reach[1], expected.reach[1])
    np.testing.assert_allclose(explanation.gradient, expected.gradient, rtol=1e-5)


@pytest.mark.parametrize("pixel", [(72, 0), (0, 40), (-1, 0), (0, -1)])
def test_a_pixel_outside_is_named_with_the_size(predictor, pixel):
    match = rf"the pixel {pixel[0]},{pixel[1]} is outside the image, which is 72 pixels wide and 40"
    with pytest.raises(ValueError, match=match):
        explain(predictor, IMAGE, pixel)
    with pytest.raises(ValueError, match=match):
        explain(predictor, IMAGE, POINT, to=pixel)


def test_a_model_without_attention_or_with_fewer_passes_is_refused():
    with pytest.raises(ValueError, match="recurrence 0"):
        explain(new_tiny_model(0), IMAGE, POINT)
    with pytest.raises(ValueError, match="passes must be 1 to 2"):
        explain(new_tiny_model(2), IMAGE, POINT, passes=3)


def test_nan_is_an_error(tiny_model):
    torch.nn.init.constant_(tiny_model.head.classifier.bias, float("nan"))
    with pytest.raises(FloatingPointError, match="nan or infinite"):
        explain(tiny_model, IMAGE, POINT)


def test_a_model_in_training_mode_is_refused(predictor):
    predictor.model.train()
    with pytest.raises(RuntimeError, match="training mode"):
        explain(predictor, IMAGE, POINT)
