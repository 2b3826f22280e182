"""A dilated depthwise convolution with fast and correct gradients on the CPU."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd import forward_ad
from torch.nn.grad import conv2d_weight


class DilatedDepthwiseConv2d(nn.Conv2d):
    """A dilated depthwise convolution that keeps the size, with its own gradients on the CPU.

    The stride is 1, and the kernel is a square with an odd side. The gradients of oneDNN are slow
    there, and its weight gradient is wrong in bfloat16 with channels-last maps of about 32 pixels
    width and more (seen with torch 2.13, oneDNN 3.12; kernels of 3×3 and 5×5).

    Raises:
        ValueError: the arguments of `nn.Conv2d` describe another convolution.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not is_dilated_depthwise(self):
            raise ValueError(
                "expected a dilated depthwise convolution of stride 1 with an odd kernel and zero "
                f"padding that keeps the size, got {self}"
            )

    def forward(self, input: Tensor) -> Tensor:
        is_traced = torch.compiler.is_exporting() or not isinstance(input, Tensor)  # torch.fx
        if is_traced or not input.is_cpu or not torch.is_grad_enabled():
            return super().forward(input)
        if input.ndim == 3:
            return self.forward(input.unsqueeze(0)).squeeze(0)
        output = dilated_depthwise(input, self.weight, self.dilation[0])
        return output if self.bias is None else output + self.bias[:, None, None].to(output.dtype)


def is_dilated_depthwise(layer: nn.Conv2d) -> bool:
    """Whether `DilatedDepthwiseConv2d` computes the same."""
    side, dilation = layer.kernel_size[0], layer.dilation[0]
    padding = dilation * (side // 2)
    sides = (layer.kernel_size, layer.stride, layer.padding, layer.dilation, layer.padding_mode)
    squares = ((side, side), (1, 1), (padding, padding), (dilation, dilation), "zeros")
    is_depthwise = layer.groups == layer.in_channels == layer.out_channels
    return is_depthwise and sides == squares and side % 2 == 1 and dilation > 1


def use_own_gradients(network: nn.Module) -> None:
    """Make PyTorch's dilated depthwise convolutions in a network ours, with their weights."""
    for layer in network.modules():
        if type(layer) is nn.Conv2d and is_dilated_depthwise(layer):
            layer.__class__ = DilatedDepthwiseConv2d


def dilated_depthwise(images: Tensor, weight: Tensor, dilation: int) -> Tensor:
    # torch.compile refuses autograd functions that have a jvp
    function = _DilatedDepthwise if torch.compiler.is_compiling() else _WithForwardMode
    return function.apply(images, weight, dilation)


class _DilatedDepthwise(torch.autograd.Function):
    """The convolution as a function that is linear in the images and in the weight.

    The gradient of the images is this function with the mirrored weight, and the gradient of the
    weight is that of an undilated convolution, so derivatives of any order avoid oneDNN's.
    """

    @staticmethod
    def forward(images: Tensor, weight: Tensor, dilation: int) -> Tensor:
        padding = dilation * (weight.shape[-1] // 2)
        return F.conv2d(images, weight, None, 1, padding, dilation, weight.shape[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.save_for_forward(*inputs[:2])
        ctx.dilation = inputs[2]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        images, weight = (saved.to(gradient.dtype) for saved in ctx.saved_tensors)
        for_images = for_weight = None
        if ctx.needs_input_grad[0]:
            for_images = dilated_depthwise(gradient, weight.flip(2, 3), ctx.dilation)
        if ctx.needs_input_grad[1]:
            for_weight = conv2d_weight(
                _interleaved(images, ctx.dilation),
                list(weight.shape),
                _interleaved(gradient, ctx.dilation),
                padding=weight.shape[-1] // 2,
                groups=weight.shape[0],
            )
        return for_images, for_weight, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *inputs: Any) -> tuple[Tensor, int]:
        images, weight, dilation = inputs
        size, (images_dim, weight_dim, _) = info.batch_size, in_dims
        if weight_dim is None:  # the mapped dimension becomes part of the batch
            output = dilated_depthwise(
                images.movedim(images_dim, 0).flatten(0, 1), weight, dilation
            )
            return output.unflatten(0, (size, output.shape[0] // size)), 0
        # otherwise it becomes part of the channels
        weight = weight.movedim(weight_dim, 0).flatten(0, 1)
        if images_dim is None:
            images = images.expand(size, *images.shape)
        else:
            images = images.movedim(images_dim, 0)
        output = dilated_depthwise(images.movedim(0, 1).flatten(1, 2), weight, dilation)
        return output.unflatten(1, (size, output.shape[1] // size)), 1


class _WithForwardMode(_DilatedDepthwise):
    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Tensor:
        of_images, of_weight, _ = tangents
        # torch turns forward mode off in here for all levels of torch.func; the outer ones need it
        with forward_ad._set_fwd_grad_enabled(True):
            images, weight = (forward_ad.unpack_dual(x, level=0).primal for x in ctx.saved_tensors)
            terms = []
            if of_images is not None:
                terms.append(dilated_depthwise(of_images, weight, ctx.dilation))
            if of_weight is not None:
                terms.append(dilated_depthwise(images, of_weight, ctx.dilation))
            return sum(terms[1:], terms[0])


def _interleaved(images: Tensor, step: int) -> Tensor:
    """Split each image into step² images that hold every step-th pixel.

    A convolution with dilation `step` is an undilated one on them. (B, C, H, W) becomes
    (B·step², C, H/step, W/step), channels last; the sides are padded with zeros first.
    """
    batch, channels, height, width = images.shape
    padded = F.pad(images, (0, -width % step, 0, -height % step)).movedim(1, -1)
    rows, columns = padded.shape[1] // step, padded.shape[2] // step
    split = padded.reshape(batch, rows, step, columns, step, channels)
    images = split.permute(0, 2, 4, 1, 3, 5).reshape(batch * step**2, rows, columns, channels)
    return images.movedim(-1, 1)
