"""The context modules of the comparison: shapes, and values against their definitions."""

import runpy
from pathlib import Path

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from tests.conftest import with_gamma

CONTEXTS = runpy.run_path(str(Path(__file__).parents[2] / "benchmarks" / "contexts.py"))
context_module = CONTEXTS["context_module"]


def randomized(module: nn.Module) -> nn.Module:
    """In float64 and evaluation mode, with norms and γ that count."""
    for norm in module.modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.running_mean is not None
            assert norm.running_var is not None
            for tensor in (norm.weight, norm.running_var):
                nn.init.uniform_(tensor, 0.8, 1.2)
            for tensor in (norm.bias, norm.running_mean):
                nn.init.uniform_(tensor, -0.1, 0.1)
    return with_gamma(module).double().eval()


def at_pixel(layers, vector):
    """Convolution, norm and ReLU of a vector (C,), written out; the center counts of a 3×3 one."""
    conv, norm, _ = list(layers)[-3:]
    center = conv.weight.shape[-1] // 2
    sums = conv.weight[:, :, center, center] @ vector
    scaled = (sums - norm.running_mean) / (norm.running_var + norm.eps).sqrt()
    return (scaled * norm.weight + norm.bias).relu()


@pytest.mark.parametrize("name", CONTEXTS["MODULES"])
def test_a_module_returns_what_it_gets_in_shape_and_learns(name):
    module, features = context_module(name, 16), torch.randn(2, 16, 9, 13, requires_grad=True)
    out = module(features)
    assert out.shape == features.shape
    out.square().mean().backward()
    assert features.grad is not None
    assert all(parameter.grad is not None for parameter in module.parameters())


def test_an_unknown_module_is_an_error():
    with pytest.raises(KeyError):
        context_module("gcn", 16)


@torch.no_grad()
def test_non_local_is_a_dense_softmax():
    module, features = (
        randomized(context_module("non-local", 16)),
        torch.randn(2, 16, 5, 7).double(),
    )
    pixels = features.flatten(2).mT  # (B, N, C)
    query, key, value = (
        pixels @ conv.weight.flatten(1).mT + conv.bias
        for conv in (module.query_conv, module.key_conv, module.value_conv)
    )
    expected = torch.empty_like(pixels)
    for b in range(2):
        for u in range(35):
            exponentials = torch.stack([query[b, u] @ key[b, i] for i in range(35)]).exp()
            weights = exponentials / exponentials.sum()
            expected[b, u] = 0.7 * (weights @ value[b]) + pixels[b, u]
    torch.testing.assert_close(module(features).flatten(2).mT, expected)


def test_ppm_of_a_constant_map_is_the_fusion_of_its_levels():
    module, vector = randomized(context_module("ppm", 16)), torch.randn(16).double()
    levels = [at_pixel(level, vector) for level in module.levels]
    expected = at_pixel(module.fusion, torch.cat([vector, *levels]))
    out = module(vector[None, :, None, None].expand(1, 16, 11, 8))
    torch.testing.assert_close(out, expected[None, :, None, None].expand_as(out))


def test_ppm_averages_over_its_grids():
    module = randomized(CONTEXTS["PyramidPooling"](16, (1, 2)))
    features = torch.randn(1, 16, 6, 8).double()
    quarter = at_pixel(module.levels[1], features[0, :, :3, :4].mean((1, 2)))
    whole = at_pixel(module.levels[0], features[0].mean((1, 2)))
    corner = at_pixel(module.fusion, torch.cat([features[0, :, 0, 0], whole, quarter]))
    torch.testing.assert_close(module(features)[0, :, 0, 0], corner)


def test_aspp_of_a_single_pixel_is_the_fusion_of_centers_and_average():
    module, vector = randomized(context_module("aspp", 16)), torch.randn(16).double()
    branches = [at_pixel(branch, vector) for branch in (*module.branches, module.average)]
    expected = at_pixel(module.fusion, torch.cat(branches))
    out = module(vector[None, :, None, None])
    torch.testing.assert_close(out[0, :, 0, 0], expected)


def test_aspp_sees_the_pixels_of_its_rates_and_the_average():
    module = randomized(context_module("aspp", 16, rates=(1, 3)))
    module.average[0] = nn.AdaptiveMaxPool2d(1)  # of which the gradient reaches one pixel
    features = torch.rand(1, 16, 9, 9).double()
    features[0, :, 0, 1] = 2.0  # the largest, so the one that the maximum is of
    features.requires_grad_()
    module.fusion[2] = nn.Identity()  # so that no pixel is cut off
    for branch in (*module.branches, module.average):
        branch[-1] = nn.Identity()
    module(features)[0, :, 4, 4].sum().backward()
    seen = {(int(y), int(x)) for y, x in features.grad[0].abs().sum(0).nonzero()}
    steps = [(y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)]
    assert seen == {(4 + rate * y, 4 + rate * x) for rate in (1, 3) for y, x in steps} | {(0, 1)}


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("none", 0),
        # each level and the fusion: a convolution and a norm of two parameters a channel
        ("ppm", 4 * (512 * 128 + 2 * 128) + 1024 * 512 + 2 * 512),
        ("aspp", (2 + 3 * 9) * 512 * 256 + 5 * 2 * 256 + 1280 * 512 + 2 * 512),
        ("non-local", 2 * (512 * 64 + 64) + 512 * 512 + 512 + 1),
        ("rcca 1", 2 * (512 * 64 + 64) + 512 * 512 + 512 + 1),
        ("rcca 2", 2 * (512 * 64 + 64) + 512 * 512 + 512 + 1),
    ],
)
def test_parameters(name, parameters):
    module = context_module(name, 512)
    assert sum(parameter.numel() for parameter in module.parameters()) == parameters


@pytest.mark.parametrize(
    ("name", "published"), [("rcca 1", 8.3), ("rcca 2", 16.5), ("non-local", 108.0)]
)
def test_the_counted_operations_are_the_published_ones(name, published):
    """Of the paper's table 3, for a map of 97×97 pixels and 512 channels."""
    with torch.device("meta"), FlopCounterMode(display=False) as counter:
        context_module(name, 512)(torch.empty(1, 512, 97, 97))
    assert counter.get_total_flops() / 1e9 == pytest.approx(published, rel=0.006)
