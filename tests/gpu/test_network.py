"""The whole network on the device of `--device`: values, precisions, compilation, prediction."""

import copy

import numpy as np
import pytest
import torch
from torch import nn

from ccnet import CCNet, CrissCrossAttention, Predictor, RecurrentCrissCrossAttention
from tests.conftest import noise, small, with_gamma, with_statistics

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("device")]
LOW = [torch.bfloat16, torch.float16]


def rms(tensor: torch.Tensor) -> float:
    return tensor.double().square().mean().sqrt().item()


def with_reference(network: nn.Module) -> nn.Module:
    """The network with the definition in place of the fused form."""
    for module in network.modules():
        if isinstance(module, CrissCrossAttention):
            module.backend = "reference"
    return network


def network(device: str, dtype: torch.dtype = torch.float32) -> CCNet:
    """A ResNet-101 on a GPU, a narrow MobileNetV2 on a CPU."""
    if device == "cpu":
        return with_statistics(small("mobilenet_v2").to(dtype))
    model = CCNet(19, "resnet101", auxiliary_channels=64).to(dtype)
    return with_gamma(model, 0.5).eval()


def images(device: str) -> torch.Tensor:
    return torch.randn(1, 3, *((96, 64) if device == "cpu" else (769, 769)), device=device)


def test_the_network_computes_what_it_does_in_float64(device):
    model, batch = network(device), images(device)
    exact = copy.deepcopy(model).double()(batch.double())
    plain = with_reference(copy.deepcopy(model))
    errors = [rms(each(batch).double() - exact) for each in (model, plain)]
    rounding = torch.finfo(torch.float32).eps
    assert errors[0] <= 2 * errors[1] + 10 * rounding * rms(exact)


@pytest.mark.parametrize("dtype", LOW, ids=str)
def test_autocast_adds_no_error_to_that_of_the_plain_form(device, dtype):
    model, batch = network(device), images(device)
    exact = copy.deepcopy(model).double()(batch.double())
    plain = with_reference(copy.deepcopy(model))
    with torch.autocast(device, dtype):
        errors = [rms(each(batch).double() - exact) for each in (model, plain)]
    assert errors[0] <= 1.5 * errors[1]


def test_gradients_are_those_of_float64(device):
    module = with_gamma(RecurrentCrissCrossAttention(64).to(device), 0.5)
    features = torch.randn(2, 64, 33, 47, device=device, requires_grad=True)
    weight = torch.randn_like(features)

    def gradients(each: RecurrentCrissCrossAttention, x: torch.Tensor) -> list[torch.Tensor]:
        out = (each(x) * weight.to(x.dtype)).sum()
        return [g.double() for g in torch.autograd.grad(out, [x, *each.parameters()])]

    exact_module = copy.deepcopy(module).double()
    exact = gradients(exact_module, features.detach().double().requires_grad_())
    plain_module = with_reference(copy.deepcopy(module))
    both = gradients(module, features), gradients(plain_module, features)
    for found, plain, want in zip(*both, exact, strict=True):
        rounding = torch.finfo(torch.float32).eps * rms(want)
        assert rms(found - want) <= 2 * rms(plain - want) + 4 * rounding


@pytest.mark.unchecked
def test_the_compiled_module_computes_the_same(device):
    module = with_gamma(RecurrentCrissCrossAttention(32).to(device), 0.5)
    compiled = torch.compile(module, fullgraph=True, dynamic=True)
    for size in ((20, 28), (33, 17)):
        features = torch.randn(1, 32, *size, device=device, requires_grad=True)
        results = []
        for each in (module, compiled):
            out = each(features)
            results.append([out, *torch.autograd.grad(out.square().sum(), features)])
        for one, other in zip(*results, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("precision", "most"), [("float32", 1e-4), ("bfloat16", 0.1), ("float16", 0.02)]
)
def test_a_predictor_gives_nearly_the_probabilities_of_the_cpu(device, precision, most):
    with torch.device("cpu"):
        model = with_statistics(small("mobilenet_v2"))
    image = noise(96, 64)[0]
    places = (("cpu", "float32"), (device, precision))
    expected, found = (
        Predictor(copy.deepcopy(model), device=place, precision=name).probabilities(image)
        for place, name in places
    )
    assert np.abs(found - expected).mean() <= most
