"""The definition against a loop over pixels that follows the paper word by word."""

import itertools

import pytest
import torch

from ccnet.ops import criss_cross_attention, reference
from tests.conftest import attention_inputs

pytestmark = pytest.mark.usefixtures("device")
SIZES = [(5,), (1,), (4, 5), (1, 6), (6, 1), (1, 1), (2, 3, 4), (3, 1, 2), (1, 1, 1)]


def cross(pixel: tuple[int, ...], spatial: tuple[int, ...]) -> list[tuple[int, ...]]:
    """The pixels that differ from this one in at most one coordinate, each once."""
    return [
        other
        for other in itertools.product(*map(range, spatial))
        if sum(a != b for a, b in zip(pixel, other, strict=True)) <= 1
    ]


def loop_over_pixels(query, key, value):
    out = torch.zeros_like(value)
    spatial = tuple(query.shape[2:])
    for b in range(query.shape[0]):
        for u in itertools.product(*map(range, spatial)):
            positions = cross(u, spatial)
            scores = torch.stack([(query[b, :, *u] * key[b, :, *i]).sum() for i in positions])
            values = torch.stack([value[b, :, *i] for i in positions])
            out[b, :, *u] = scores.softmax(0) @ values
    return out


@pytest.mark.parametrize("backend", ["reference", "fused"])
@pytest.mark.parametrize("spatial", SIZES, ids=str)
def test_values_and_gradients_match_a_loop_over_pixels(spatial, backend, device):
    if (backend, device) == ("fused", "cuda"):
        pytest.skip("no float64 kernel")
    inputs = attention_inputs(*spatial, dtype=torch.float64)
    weight = torch.randn_like(inputs[2])
    results = []
    for form in (loop_over_pixels, lambda *x: criss_cross_attention(*x, backend=backend)):
        out = form(*inputs)
        results.append((out, *torch.autograd.grad((out * weight).sum(), inputs)))
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("spatial", SIZES, ids=str)
def test_the_cross_has_one_position_an_axis_and_counts_the_pixel_once(spatial):
    query, key, _ = (x.movedim(1, -1) for x in attention_inputs(*spatial))
    weights = torch.cat(reference.attention_weights(query, key), dim=-1)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, *spatial))
    positions = (weights > 0).sum(-1)
    assert (positions == sum(spatial) - len(spatial) + 1).all()
