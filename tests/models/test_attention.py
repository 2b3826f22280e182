"""The layers: identity at the start, names, and how far one and two passes reach."""

import pytest
import torch

from ccnet import CrissCrossAttention, RecurrentCrissCrossAttention, criss_cross_attention

SIZES = {1: (9,), 2: (6, 7), 3: (3, 4, 5)}


def with_gamma(module: torch.nn.Module, gamma: float = 0.7) -> torch.nn.Module:
    for name, parameter in module.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.constant_(parameter, gamma)
    return module


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_new_module_is_the_identity(dims):
    features = torch.randn(2, 16, *SIZES[dims])
    module = RecurrentCrissCrossAttention(16, dims=dims)
    assert torch.equal(module(features), features)
    assert not torch.equal(with_gamma(module)(features), features)


def test_parameters_have_the_published_names_and_shapes():
    shapes = {k: tuple(v.shape) for k, v in CrissCrossAttention(512).state_dict().items()}
    assert shapes == {
        "gamma": (1,),
        "query_conv.weight": (64, 512, 1, 1),
        "query_conv.bias": (64,),
        "key_conv.weight": (64, 512, 1, 1),
        "key_conv.bias": (64,),
        "value_conv.weight": (512, 512, 1, 1),
        "value_conv.bias": (512,),
    }
    assert CrissCrossAttention(4).query_conv.out_channels == 1


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_one_product_for_three_projections_changes_no_result(dims, backend):
    module = with_gamma(CrissCrossAttention(16, dims=dims, backend=backend).double())
    features = torch.randn(2, 16, *SIZES[dims], dtype=torch.float64, requires_grad=True)
    query, key, value = (
        conv(features) for conv in (module.query_conv, module.key_conv, module.value_conv)
    )
    defined = module.gamma * criss_cross_attention(query, key, value) + features
    leaves = [features, *module.parameters()]
    expected = (defined, *torch.autograd.grad(defined.square().sum(), leaves))
    out = module(features)
    got = (out, *torch.autograd.grad(out.square().sum(), leaves))
    for ours, definition in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, definition, rtol=1e-10, atol=1e-10)


def reached_from(module: torch.nn.Module, pixel: tuple[int, ...], dims: int) -> torch.Tensor:
    """Input pixels with a non-zero entry in the Jacobian of one output pixel."""
    features = torch.randn(1, 8, *SIZES[dims], dtype=torch.float64, requires_grad=True)
    module(features)[0, :, *pixel].sum().backward()
    assert features.grad is not None
    return features.grad[0].abs().sum(0) > 0


@pytest.mark.parametrize(("dims", "pixel"), [(2, (2, 3)), (2, (0, 6)), (3, (1, 2, 3))])
def test_one_pass_reaches_the_cross_and_as_many_as_axes_reach_every_pixel(dims, pixel):
    attention = with_gamma(RecurrentCrissCrossAttention(8, 1, dims=dims).double())
    offsets = torch.stack(torch.meshgrid(*map(torch.arange, SIZES[dims]), indexing="ij"))
    differing = (offsets != torch.tensor(pixel).view(-1, *[1] * dims)).sum(0)
    for recurrence in range(1, dims + 1):
        attention.recurrence = recurrence
        assert torch.equal(reached_from(attention, pixel, dims), differing <= recurrence)


def test_shared_passes_have_one_set_of_weights_and_others_have_their_own():
    features = torch.randn(1, 8, 5, 5)
    shared = with_gamma(RecurrentCrissCrossAttention(8, recurrence=3))
    once = shared.attention(0)
    torch.testing.assert_close(shared(features), once(once(once(features))))
    assert len(shared.state_dict()) == 7
    assert len(RecurrentCrissCrossAttention(8, recurrence=3, shared=False).state_dict()) == 21
    assert len(RecurrentCrissCrossAttention(8, recurrence=0).state_dict()) == 0


def test_autocast_keeps_the_features_in_its_dtype():
    features = torch.randn(1, 8, 5, 5, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert with_gamma(CrissCrossAttention(8))(features).dtype == torch.bfloat16


def test_the_backend_is_handed_to_the_operator():
    features = torch.randn(1, 8, 5, 5)
    fused = with_gamma(CrissCrossAttention(8, backend="fused"))
    expected = fused(features)
    fused.backend = "reference"
    torch.testing.assert_close(fused(features), expected)
    with pytest.raises(ValueError, match="backend"):
        CrissCrossAttention(8, backend="fast")(features)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"channels": 0}, "channels"), ({"channels": 8, "dims": 4}, "dims must be 1, 2 or 3, got 4")],
)
def test_arguments_that_do_not_fit_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        CrissCrossAttention(**arguments)
    with pytest.raises(ValueError, match="recurrence must be ≥ 0, got -1"):
        RecurrentCrissCrossAttention(8, recurrence=-1)
