"""Rows of products of attention matrices against the dense matrices, in float64."""

import math
import os
import subprocess
import sys

import pytest
import torch

from ccnet.explanation.rows import entropy, frozen_passes, influence, reach, spread
from ccnet.models.attention import RecurrentCrissCrossAttention
from tests.conftest import ROOT

SHAPES = [(4, 7), (5, 1), (1, 6), (1, 1), (3, 3)]


def sharp_attention(
    recurrence: int, *, shared: bool = True, channels: int = 6, gamma: float = 0.7
) -> RecurrentCrissCrossAttention:
    """Recurrent attention in float64 whose weights differ and whose passes count."""
    attention = RecurrentCrissCrossAttention(channels, recurrence, 2, shared=shared).double()
    for number, module in enumerate(attention.passes):
        torch.nn.init.constant_(module.gamma, gamma * (-1) ** number)
        torch.nn.init.normal_(module.query_conv.weight)
        torch.nn.init.normal_(module.key_conv.weight)
    return attention


def features_of(attention: RecurrentCrissCrossAttention, height: int, width: int) -> torch.Tensor:
    return torch.randn(1, attention.channels, height, width, dtype=torch.float64)


def dense_attention(module, features: torch.Tensor) -> torch.Tensor:
    """A_{u,i} over all pixels (N, N), zero off the cross, by a mask instead of axes."""
    query, key = (conv(features)[0].flatten(1) for conv in (module.query_conv, module.key_conv))
    place = torch.arange(query.shape[1])
    y, x = place // features.shape[-1], place % features.shape[-1]
    on_cross = (y[:, None] == y) | (x[:, None] == x)
    return (query.T @ key).masked_fill(~on_cross, float("-inf")).softmax(dim=1).detach()


def dense_passes(attention: RecurrentCrissCrossAttention, features: torch.Tensor):
    """The dense matrix and γ of each pass."""
    passes = []
    for index in range(attention.recurrence):
        module = attention.attention(index)
        passes.append((dense_attention(module, features), module.gamma.item()))
        features = module(features)
    return passes


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("recurrence", [1, 2, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_reach_is_the_row_of_the_product_of_dense_matrices(shape, recurrence, shared):
    attention = sharp_attention(recurrence, shared=shared)
    features = features_of(attention, *shape)
    passes, _ = frozen_passes(attention, features)
    cell = (shape[0] // 2, shape[1] // 2)
    product = torch.eye(math.prod(shape), dtype=torch.float64)
    for row, (dense, _) in zip(
        reach(passes, cell), reversed(dense_passes(attention, features)), strict=True
    ):
        product = product @ dense
        expected = product[cell[0] * shape[1] + cell[1]].view(shape)
        torch.testing.assert_close(row, expected, rtol=1e-12, atol=1e-14)
        assert float(row.sum()) == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("recurrence", [1, 2, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_influence_is_the_row_of_the_dense_product_with_residual_connections(
    shape, recurrence, shared
):
    attention = sharp_attention(recurrence, shared=shared)
    features = features_of(attention, *shape)
    passes, _ = frozen_passes(attention, features)
    identity = product = torch.eye(math.prod(shape), dtype=torch.float64)
    total = 1.0
    for dense, gamma in dense_passes(attention, features):
        product = (identity + gamma * dense) @ product
        total *= 1 + gamma
    row = influence(passes, (0, shape[1] - 1))
    torch.testing.assert_close(row, product[shape[1] - 1].view(shape), rtol=1e-12, atol=1e-14)
    assert float(row.sum()) == pytest.approx(total, abs=1e-12)


def test_a_negative_gamma_gives_negative_influence():
    attention = sharp_attention(2, gamma=-0.4)
    passes, _ = frozen_passes(attention, features_of(attention, 4, 5))
    assert (influence(passes, (1, 1)) < 0).any()


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_spread_is_the_transposed_matrix_for_many_masses_at_once(shape):
    attention = sharp_attention(1)
    features = features_of(attention, *shape)
    (attention_pass,), _ = frozen_passes(attention, features)
    ((dense, _),) = dense_passes(attention, features)
    mass = torch.randn(3, *shape, dtype=torch.float64)
    expected = (mass.flatten(1) @ dense).view(mass.shape)
    torch.testing.assert_close(spread(attention_pass, mass), expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_entropy_is_that_of_the_dense_weights(shape):
    attention = sharp_attention(2)
    features = features_of(attention, *shape)
    passes, _ = frozen_passes(attention, features)
    for one, (dense, _) in zip(passes, dense_passes(attention, features), strict=True):
        expected = -torch.special.xlogy(dense, dense).sum(1).view(shape)
        torch.testing.assert_close(entropy(one), expected, rtol=1e-10, atol=1e-12)


def test_what_enters_each_pass_is_what_the_module_computes():
    attention = sharp_attention(3)
    features = features_of(attention, 3, 4)
    _, inputs = frozen_passes(attention, features)
    torch.testing.assert_close(attention.attention(2)(inputs[2]), attention(features))


MEMORY = """
import torch
from ccnet.explanation.blocks import block_norms
from ccnet.explanation.rows import entropy, frozen_passes, influence, reach
from ccnet.runtime.memory import peak_memory
from tests.explanation.test_rows import features_of, sharp_attention

attention = sharp_attention(2, channels=8)
warm, _ = frozen_passes(attention, features_of(attention, 20, 20))
passes, _ = frozen_passes(attention, features_of(attention, 400, 400))
before = peak_memory(torch.device("cpu"))
for some in (warm, passes):
    one, two = reach(some, (10, 12))
    influence(some, (10, 12))
    block_norms(some, (10, 12))
    entropy(some[0])
print(peak_memory(torch.device("cpu")) - before, int((one > 0).sum()), float(two.sum()))
"""


@pytest.mark.slow
def test_memory_is_linear_on_a_large_map():
    """The weights of one pass would take 1 GB here in float64; all rows together take some maps."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", MEMORY]
    printed = subprocess.run(
        command, check=True, capture_output=True, text=True, env=environment, cwd=ROOT, timeout=240
    )
    taken, on_cross, total = printed.stdout.split()
    weights = 8 * 400 * 400 * (400 + 400 - 1)
    assert int(taken) < weights / 8
    assert int(on_cross) <= 400 + 400 - 1
    assert float(total) == pytest.approx(1)
