"""Building blocks of backbones and heads: convolutions, dilation, initial weights."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn

from ccnet.backbones.depthwise import DilatedDepthwiseConv2d

OUTPUT_STRIDES = (8, 16, 32)
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": lambda: nn.ReLU(inplace=True),
    "relu6": lambda: nn.ReLU6(inplace=True),
    "leaky_relu": lambda: nn.LeakyReLU(0.01, inplace=True),
}


def strides_and_dilations(
    strides: tuple[int, ...], stride_before: int, output_stride: int
) -> Iterator[tuple[int, int, int]]:
    """Replace strides by dilation once a network has reached its output stride.

    Yields, for each stage, the stride that it keeps and two dilations: that of the convolution
    whose stride may have been removed, and that of all convolutions after it.
    """
    reached, dilation = stride_before, 1
    for stride in strides:
        if reached * stride <= output_stride:
            reached *= stride
            yield stride, dilation, dilation
        else:
            yield 1, dilation, dilation * stride
            dilation *= stride


def convolution(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Conv2d:
    """A convolution for odd kernel sizes, padded so that only the stride changes the size."""
    is_dilated_depthwise = dilation > 1 and groups > 1
    kind = DilatedDepthwiseConv2d if is_dilated_depthwise else nn.Conv2d
    padding = dilation * (kernel_size // 2)
    return kind(
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=bias
    )


def conv_norm_activation(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    activation: str = "relu",
    *,
    stride: int = 1,
    dilation: int = 1,
    groups: int = 1,
    bias: bool = False,
) -> nn.Sequential:
    """Convolution, batch normalization and activation, a name in `ACTIVATIONS`."""
    require("activation", activation, tuple(ACTIVATIONS))
    return nn.Sequential(
        convolution(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            dilation=dilation,
            groups=groups,
            bias=bias,
        ),
        nn.BatchNorm2d(out_channels),
        ACTIVATIONS[activation](),
    )


def initialize(network: nn.Module) -> None:
    """Initialize convolutions as torchvision does (He et al. 2015, fan-out).

    Batch normalization needs nothing: PyTorch starts it with scale 1 and offset 0. On the meta
    device, where there are no values, torch would import its compiler for it, which takes a second.
    """
    for module in network.modules():
        if isinstance(module, nn.Conv2d) and not module.weight.is_meta:
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def require(name: str, value: object, known: tuple[object, ...]) -> None:
    """Raise ValueError, which lists the known values, unless `value` is one of them."""
    if value not in known:
        raise ValueError(f"{name} is {value!r:.80}; known are {', '.join(map(str, known))}")


def adapt_input(weight: Tensor, in_channels: int) -> Tensor:
    """Adapt the weight of a convolution to another number of input channels.

    The scale of its output is kept. One channel gets the sum of the filters, which gives the same
    output as a grayscale image that is repeated in all channels. N channels get the filters in
    turn, multiplied by (old number of channels) / N.
    """
    known = weight.shape[1]
    if in_channels == 1:
        return weight.sum(1, keepdim=True)
    turn = torch.arange(in_channels, device=weight.device) % known
    return weight[:, turn] * (known / in_channels)
