"""Norms of the blocks of the Jacobian, against the dense Jacobian by automatic differentiation."""

import pytest
import torch
from torch import nn

from ccnet.explanation.blocks import block_norms, linear_part, scalar_maps
from ccnet.explanation.rows import frozen_passes, influence
from ccnet.models.attention import CrissCrossAttention
from tests.explanation.test_rows import SHAPES, dense_attention, features_of, sharp_attention


def dense_block_norms(attention, features, cell):
    """Norms (h, w) of the blocks of the Jacobian of frozen attention with dense matrices."""
    matrices, entering = [], features
    for index in range(attention.recurrence):
        matrices.append(dense_attention(attention.attention(index), entering))
        entering = attention.attention(index)(entering)

    def at_the_cell(inputs):
        for index, matrix in enumerate(matrices):
            module = attention.attention(index)
            value = module.value_conv(inputs).flatten(2)
            inputs = inputs + module.gamma * (value @ matrix.T).view(inputs.shape)
        return inputs[0, :, *cell]

    jacobian = torch.autograd.functional.jacobian(at_the_cell, features)  # [C, 1, C, h, w]
    return torch.linalg.vector_norm(jacobian[:, 0], dim=(0, 1))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("recurrence", [1, 2, 3])
@pytest.mark.parametrize("shared", [True, False])
def test_norms_are_those_of_the_dense_jacobian(shape, recurrence, shared):
    attention = sharp_attention(recurrence, shared=shared)
    features = features_of(attention, *shape)
    passes, _ = frozen_passes(attention, features)
    cell = (shape[0] - 1, shape[1] // 2)
    torch.testing.assert_close(
        block_norms(passes, cell),
        dense_block_norms(attention, features, cell),
        rtol=1e-10,
        atol=1e-13,
    )


def test_small_norms_keep_their_digits():
    """Where the terms of a block nearly cancel; a Gram matrix would leave half of the digits."""
    attention = sharp_attention(1, gamma=1.0)
    nn.init.zeros_(attention.passes[0].query_conv.weight)
    nn.init.zeros_(attention.passes[0].query_conv.bias)  # all weights are 1/5
    weight = -5 * torch.eye(6, dtype=torch.float64) + 1e-9 * torch.randn(6, 6, dtype=torch.float64)
    attention.passes[0].value_conv.weight.data = weight[:, :, None, None]
    passes, _ = frozen_passes(attention, features_of(attention, 3, 3))
    own = float(block_norms(passes, (1, 1))[1, 1])  # I + γ W / 5
    expected = float(torch.linalg.matrix_norm(torch.eye(6, dtype=torch.float64) + weight / 5))
    assert own == pytest.approx(expected, rel=1e-5)
    assert expected < 1e-8


def test_with_the_identity_as_values_the_norm_is_the_influence():
    attention = sharp_attention(3)
    attention.passes[0].value_conv.weight.data = torch.eye(6, dtype=torch.float64)[..., None, None]
    passes, _ = frozen_passes(attention, features_of(attention, 4, 3))
    norms = block_norms(passes, (2, 1))
    torch.testing.assert_close(norms, influence(passes, (2, 1)).abs() * 6**0.5)


def test_shared_weights_need_one_term_per_power_and_others_one_per_subset():
    for shared, expected in ((True, {(), (0,), (0, 0)}), (False, {(), (0,), (1,), (1, 0)})):
        attention = sharp_attention(2, shared=shared)
        passes, _ = frozen_passes(attention, features_of(attention, 2, 3))
        terms, maps = scalar_maps(passes, (0, 0))
        assert set(terms) == expected
        assert maps.shape == (len(expected), 2, 3)


def test_too_many_passes_with_weights_of_their_own_are_refused():
    attention = sharp_attention(7, shared=False)
    passes, _ = frozen_passes(attention, features_of(attention, 2, 3))
    with pytest.raises(ValueError, match=r"the last 6 can \(passes=6\)"):
        block_norms(passes, (0, 0))
    assert block_norms(passes[1:], (0, 0)).isfinite().all()
    shared, _ = frozen_passes(sharp_attention(16, gamma=0.1), torch.randn(1, 6, 2, 3).double())
    assert block_norms(shared, (0, 0)).isfinite().all()


class Adapted(nn.Module):
    """A convolution with an adapter beside it."""

    def __init__(self, conv: nn.Module) -> None:
        super().__init__()
        self.conv, self.adapter = conv, nn.Conv2d(6, 6, 1, bias=False, dtype=torch.float64)

    def forward(self, features):
        return self.conv(features) + self.adapter(features)


def test_the_value_matrix_is_what_the_layer_computes_adapters_included():
    module = CrissCrossAttention(6, 2).double()
    own = module.value_conv.weight[:, :, 0, 0].detach()
    torch.testing.assert_close(linear_part(module), own)
    module.value_conv = adapted = Adapted(module.value_conv)
    torch.testing.assert_close(linear_part(module), own + adapted.adapter.weight[:, :, 0, 0])
