"""What backbones are made of: convolutions, the rule of dilation, and how weights start."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

from ccnet.backbones.depthwise import DilatedDepthwiseConv2d

OUTPUT_STRIDES = (8, 16, 32)


def strides_and_dilations(
    strides: tuple[int, ...], stride_before: int, output_stride: int
) -> Iterator[tuple[int, int, int]]:
    """For each stage: the stride it keeps, and the dilation before and after a stride it loses."""
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
) -> nn.Conv2d:
    is_dilated_depthwise = dilation > 1 and groups > 1
    kind = DilatedDepthwiseConv2d if is_dilated_depthwise else nn.Conv2d
    padding = dilation * (kernel_size // 2)
    return kind(
        in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias=False
    )


def conv_norm_activation(
    in_channels: int,
    out_channels: int,
    kernel_size: int,
    *,
    activation: type[nn.ReLU] | type[nn.ReLU6] = nn.ReLU,
    **options: int,
) -> list[nn.Module]:
    return [
        convolution(in_channels, out_channels, kernel_size, **options),
        nn.BatchNorm2d(out_channels),
        activation(inplace=True),
    ]


def initialise(network: nn.Module) -> None:
    """As torchvision; batch norm starts at scale 1 and offset 0 by itself."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


def require(what: str, value: object, known: tuple[object, ...]) -> None:
    if value not in known:
        raise ValueError(f"{what} is {value!r}; known are {', '.join(map(str, known))}")


def adapt_input(weight: Tensor, in_channels: int) -> Tensor:
    """A convolution's weight for other input channels, which starts with activations as large.

    One channel gets the sum of the filters, as a grey image that is repeated would; N channels get
    the filters in turn, times old / N.
    """
    known = weight.shape[1]
    if in_channels == 1:
        return weight.sum(1, keepdim=True)
    turn = torch.arange(in_channels, device=weight.device) % known
    return weight[:, turn] * (known / in_channels)
