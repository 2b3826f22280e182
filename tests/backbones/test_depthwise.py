"""The dilated depthwise convolution, whose gradients on the CPU are ours."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccnet.backbones import MobileNetV2


def dilated_depthwise(dilation: int) -> nn.Conv2d:
    torch.manual_seed(0)
    block = MobileNetV2().features[{2: 8, 4: 15}[dilation]]
    return next(
        module
        for module in block.modules()
        if isinstance(module, nn.Conv2d) and module.dilation == (dilation, dilation)
    )


def gradients(images: Tensor, weight: Tensor, output: Tensor) -> list[Tensor]:
    torch.manual_seed(1)
    return list(torch.autograd.grad(output, (images, weight), torch.randn_like(output)))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("size", [(1, 1), (2, 3), (5, 1), (7, 13), (12, 16)])
@pytest.mark.parametrize("dilation", [2, 4])
def test_depthwise_convolution_is_the_librarys(dilation, size, layout):
    layer = dilated_depthwise(dilation).double()
    channels = layer.in_channels
    images = torch.randn(2, channels, *size, dtype=torch.float64).to(memory_format=layout)
    images.requires_grad_()
    output = layer(images)
    assert output.is_contiguous(memory_format=layout)
    expected = F.conv2d(images, layer.weight, None, 1, dilation, dilation, channels)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(
        gradients(images, layer.weight, output), gradients(images, layer.weight, expected)
    )


@pytest.mark.parametrize("under_autocast", [False, True])
def test_depthwise_gradients_are_right_in_bfloat16(under_autocast):
    # At this size the library's own weight gradient is not (torch 2.13)
    layer = dilated_depthwise(2)
    images = torch.randn(1, 384, 36, 36).to(torch.bfloat16, memory_format=torch.channels_last)
    direction = torch.randn(1, 384, 36, 36).bfloat16()
    exact = [images.double(), layer.weight.detach().bfloat16().double()]
    exact = [tensor.requires_grad_() for tensor in exact]
    output = F.conv2d(*exact, None, 1, 2, 2, 384)
    expected = torch.autograd.grad(output, exact, direction.double())
    if not under_autocast:
        layer.bfloat16()
    images.requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=under_autocast):
        output = layer(images)
    got = torch.autograd.grad(output, (images, layer.weight), direction)
    for ours, true in zip(got, expected, strict=True):
        assert (ours.double() - true).norm() < 0.01 * true.norm()


def test_depthwise_convolution_can_be_frozen():
    layer = dilated_depthwise(2).requires_grad_(False)
    images = torch.randn(1, 384, 8, 8, requires_grad=True)
    layer(images).sum().backward()
    assert images.grad is not None
    assert layer.weight.grad is None


def test_exported_depthwise_convolution_is_an_ordinary_one():
    layer = dilated_depthwise(4)
    size = {2: torch.export.Dim("height", min=4), 3: torch.export.Dim("width", min=4)}
    program = torch.export.export(
        layer, (torch.randn(1, 960, 9, 10),), dynamic_shapes={"input": size}
    )
    operators = [node.target for node in program.graph.nodes if node.op == "call_function"]
    assert operators == [torch.ops.aten.conv2d.default]
    images = torch.randn(1, 960, 13, 7)
    torch.testing.assert_close(program.module()(images), layer(images))


# The compiler itself makes an instance of the autograd function's base class
@pytest.mark.filterwarnings("ignore:.*should not be instantiated:DeprecationWarning")
@pytest.mark.slow
def test_depthwise_convolution_compiles_with_free_sizes():
    torch.compiler.reset()
    layer = dilated_depthwise(2)
    compiled = torch.compile(layer, backend="aot_eager", dynamic=True, fullgraph=True)
    for size in ((8, 9), (11, 14)):
        images = torch.randn(2, 384, *size, requires_grad=True)
        got = gradients(images, layer.weight, compiled(images))
        torch.testing.assert_close(got, gradients(images, layer.weight, layer(images)))
