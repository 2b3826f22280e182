"""Building blocks: convolutions with normalization, the rule of dilation, adapted filters."""

import pytest
import torch
from torch import nn

from ccnet.backbones.depthwise import DilatedDepthwiseConv2d
from ccnet.backbones.layers import (
    adapt_input,
    conv_norm_activation,
    convolution,
    initialize,
    require,
    strides_and_dilations,
)


@pytest.mark.parametrize(
    ("output_stride", "expected"),
    [
        (8, [(1, 1, 1), (2, 1, 1), (1, 1, 2), (1, 2, 4)]),
        (16, [(1, 1, 1), (2, 1, 1), (2, 1, 1), (1, 1, 2)]),
        (32, [(1, 1, 1), (2, 1, 1), (2, 1, 1), (2, 1, 1)]),
    ],
)
def test_strides_beyond_the_output_stride_become_dilation(output_stride, expected):
    assert list(strides_and_dilations((1, 2, 2, 2), 4, output_stride)) == expected


@pytest.mark.parametrize("kernel_size", [1, 3, 7])
@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_only_the_stride_changes_the_size(kernel_size, dilation):
    images = torch.randn(1, 4, 9, 12)
    assert convolution(4, 2, kernel_size, dilation=dilation)(images).shape == (1, 2, 9, 12)
    halved = convolution(4, 2, kernel_size, dilation=dilation, stride=2)(images)
    assert halved.shape == (1, 2, 5, 6)


def test_dilated_depthwise_convolutions_have_gradients_of_their_own():
    assert type(convolution(4, 4, 3, dilation=2, groups=4)) is DilatedDepthwiseConv2d
    for options in ({"dilation": 2}, {"groups": 4}):
        assert type(convolution(4, 4, 3, **options)) is nn.Conv2d


@pytest.mark.parametrize(
    ("activation", "expected"),
    [
        ("relu", [0, 0.5, 9]),
        ("relu6", [0, 0.5, 6]),
        ("leaky_relu", [-0.02, 0.5, 9]),
    ],
)
def test_activations_are_known_by_name(activation, expected):
    *_, layer = conv_norm_activation(3, 8, 3, activation)
    torch.testing.assert_close(layer(torch.tensor([-2, 0.5, 9])), torch.tensor(expected))


@pytest.mark.parametrize("bias", [True, False])
def test_a_convolution_is_followed_by_norm_and_activation(bias):
    layers = conv_norm_activation(3, 8, 3, stride=2, bias=bias)
    assert [type(layer) for layer in layers] == [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert layers[0].stride == (2, 2)
    assert (layers[0].bias is not None) == bias
    with pytest.raises(ValueError, match="activation is 'gelu'; known are relu, relu6, leaky_relu"):
        conv_norm_activation(8, 8, 3, "gelu")


def test_convolutions_start_by_their_fan_out():
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(64, 128, 3), nn.Linear(4, 4))
    linear = network[1].weight.clone()
    initialize(network)
    assert network[0].weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.01)
    assert torch.equal(network[1].weight, linear)


def test_an_unknown_value_is_told_with_the_known_ones():
    require("stride", 8, (8, 16))
    with pytest.raises(ValueError, match="stride is 4; known are 8, 16"):
        require("stride", 4, (8, 16))


def test_adapted_filters_answer_a_constant_image_as_before():
    weight = torch.randn(5, 3, 3, 3)
    for in_channels in (1, 6, 9):
        adapted = adapt_input(weight, in_channels)
        torch.testing.assert_close(adapted.sum((1, 2, 3)), weight.sum((1, 2, 3)))
    four = adapt_input(weight, 4)
    torch.testing.assert_close(four[:, 3], four[:, 0])
    torch.testing.assert_close(four[:, 1], weight[:, 1] * 3 / 4)
