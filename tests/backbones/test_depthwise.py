"""The dilated depthwise convolution with its own gradients on the CPU."""

import copy

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vmap

from ccnet.backbones import MobileNetV2
from ccnet.backbones.depthwise import DilatedDepthwiseConv2d, use_own_gradients


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
@pytest.mark.slow
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


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize(("side", "dilation"), [(5, 2), (7, 4)])
def test_other_networks_get_its_gradients_with_their_weights(side, dilation, dtype):
    options = {"padding": dilation * (side // 2), "dilation": dilation, "groups": 48}
    network = nn.Sequential(nn.Conv2d(48, 48, side, **options), nn.Conv2d(48, 4, 1))
    before = network.state_dict()
    exact = copy.deepcopy(network).double()
    use_own_gradients(network)
    assert [type(layer) for layer in network] == [DilatedDepthwiseConv2d, nn.Conv2d]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    images = torch.randn(1, 48, 36, 36).to(memory_format=torch.channels_last)
    found = network.to(dtype)(images.to(dtype))
    exact(images.double()).square().sum().backward()
    found.square().sum().backward()
    for ours, true in zip(network.parameters(), exact.parameters(), strict=True):
        allowed = 0.02 if dtype == torch.bfloat16 else 1e-12
        assert (ours.grad.double() - true.grad).norm() < allowed * true.grad.norm()


def test_depthwise_convolution_can_be_frozen():
    layer = dilated_depthwise(2).requires_grad_(False)
    images = torch.randn(1, 384, 8, 8, requires_grad=True)
    layer(images).sum().backward()
    assert images.grad is not None
    assert layer.weight.grad is None


@pytest.mark.unchecked
@pytest.mark.slow
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
@pytest.mark.unchecked
def test_depthwise_convolution_compiles_with_free_sizes():
    torch.compiler.reset()
    layer = dilated_depthwise(2)
    compiled = torch.compile(layer, backend="aot_eager", dynamic=True, fullgraph=True)
    for size in ((8, 9), (11, 14)):
        images = torch.randn(2, 384, *size, requires_grad=True)
        got = gradients(images, layer.weight, compiled(images))
        torch.testing.assert_close(got, gradients(images, layer.weight, layer(images)))


def new_layer(channels: int) -> DilatedDepthwiseConv2d:
    options = {"padding": 2, "dilation": 2, "groups": channels, "bias": False}
    return DilatedDepthwiseConv2d(channels, channels, 3, **options)


LAYERS = {channels: new_layer(channels) for channels in (2, 384)}  # vmap forbids random weights


def of_layer(images: Tensor, weight: Tensor) -> Tensor:
    return functional_call(LAYERS[weight.shape[0]], {"weight": weight}, (images,))


def of_library(images: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(images, weight, None, 1, 2, 2, weight.shape[0])


def small_inputs() -> tuple[Tensor, Tensor]:
    images, weight = (torch.randn(s, dtype=torch.float64) for s in ((2, 2, 4, 3), (2, 1, 3, 3)))
    return images.requires_grad_(), weight.requires_grad_()


def loss(form):
    return lambda *x: form(*x).sin().sum()


TRANSFORMS = {
    "grad": lambda form: grad(loss(form), (0, 1)),
    "jvp": lambda form: lambda *x: jvp(form, x, tuple(y.cos() for y in x)),
    "jacrev": lambda form: jacrev(form, (0, 1)),
    "jacfwd": lambda form: jacfwd(form, (0, 1)),
    "hessian": lambda form: hessian(loss(form), (0, 1)),
    "hessian, reverse over reverse": lambda form: jacrev(jacrev(loss(form), (0, 1)), (0, 1)),
    "hessian, forward over forward": lambda form: jacfwd(jacfwd(loss(form), (0, 1)), (0, 1)),
}


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_torch_func_match_the_librarys(transform):
    x = small_inputs()
    got, expected = (TRANSFORMS[transform](form)(*x) for form in (of_layer, of_library))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("in_dims", [(0, 0), (0, None), (None, 0), (1, 2)], ids=str)
def test_vmap_matches_the_librarys(in_dims):
    shapes = [[1, 2, 5, 3], [2, 1, 3, 3]]
    for shape, dim in zip(shapes, in_dims, strict=True):
        if dim is not None:
            shape.insert(dim, 4)
    x = [torch.randn(shape, dtype=torch.float64, requires_grad=True) for shape in shapes]
    for transform in (lambda form: form, TRANSFORMS["grad"], TRANSFORMS["jvp"]):
        got, expected = (vmap(transform(form), in_dims)(*x) for form in (of_layer, of_library))
        torch.testing.assert_close(got, expected)


@pytest.mark.slow
def test_gradcheck_passes_in_all_modes():
    x = small_inputs()
    assert torch.autograd.gradcheck(
        of_layer, x, check_forward_ad=True, check_batched_grad=True, check_batched_forward_grad=True
    )
    assert torch.autograd.gradgradcheck(of_layer, x, check_fwd_over_rev=True)


def test_forward_mode_reaches_images_and_weight_alone():
    images, weight = small_inputs()
    with forward_ad.dual_level():
        along_images = forward_ad.make_dual(images, images.cos())
        along_weight = forward_ad.make_dual(weight, weight.cos())
        for x in ((along_images, weight), (images, along_weight)):
            got, expected = (
                forward_ad.unpack_dual(form(*x)).tangent for form in (of_layer, of_library)
            )
            torch.testing.assert_close(got, expected)


def test_second_derivatives_are_right_in_bfloat16():
    # the library's own weight gradient of a dilated convolution is wrong at this size (torch 2.13)
    images = torch.randn(1, 384, 36, 36).to(torch.bfloat16, memory_format=torch.channels_last)
    weight = torch.randn(384, 1, 3, 3).bfloat16() / 3
    direction = torch.randn(1, 384, 36, 36).bfloat16()

    def second(form, dtype):
        x = [y.to(dtype).requires_grad_() for y in (images, weight)]
        first = torch.autograd.grad(form(*x), x, direction.to(dtype), create_graph=True)
        return torch.autograd.grad(sum(g.square().sum() for g in first), x)

    pairs = zip(second(of_layer, torch.bfloat16), second(of_library, torch.float64), strict=True)
    for ours, true in pairs:
        assert (ours.double() - true).norm() < 0.02 * true.norm()


def test_an_image_without_a_batch_is_taken_as_a_convolution_takes_it():
    layer = new_layer(2).double()
    images = torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True)
    expected = of_library(images, layer.weight)
    output = layer(images)
    torch.testing.assert_close(output, expected)
    torch.testing.assert_close(
        gradients(images, layer.weight, output), gradients(images, layer.weight, expected)
    )


@pytest.mark.parametrize(
    "options",
    [
        {"padding": 1},
        {"stride": 2},
        {"groups": 1},
        {"kernel_size": 5},
        {"kernel_size": 4, "padding": 4},
        {"padding_mode": "reflect"},
        {"dilation": 1, "padding": 1},
    ],
    ids=str,
)
def test_another_convolution_is_refused(options):
    usual = {"kernel_size": 3, "padding": 2, "dilation": 2, "groups": 4, "bias": False}
    with pytest.raises(ValueError, match="expected a dilated depthwise convolution of stride 1"):
        DilatedDepthwiseConv2d(4, 4, **(usual | options))


@pytest.mark.unchecked
def test_torch_fx_traces_the_convolution():
    layer = new_layer(2)
    traced = torch.fx.symbolic_trace(nn.Sequential(layer, nn.ReLU()))
    images = torch.randn(1, 2, 5, 3)
    torch.testing.assert_close(traced(images), layer(images).relu())
