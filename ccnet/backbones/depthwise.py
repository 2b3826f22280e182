"""A dilated depthwise convolution whose gradients on the CPU are right and fast."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.grad import conv2d_weight


class DilatedDepthwiseConv2d(nn.Conv2d):
    """A dilated depthwise 3×3 convolution with stride 1 and gradients of its own on the CPU.

    oneDNN's are slow there, and in bfloat16, channels last, its weight gradient is garbage for maps
    about 32 pixels wide and more (seen with torch 2.13, oneDNN 3.12).
    """

    def forward(self, input: Tensor) -> Tensor:
        if not input.is_cpu or not torch.is_grad_enabled() or torch.compiler.is_exporting():
            return super().forward(input)
        return _DilatedDepthwise.apply(input, self.weight, self.dilation[0])


class _DilatedDepthwise(torch.autograd.Function):
    """The images' gradient is a convolution by the mirrored kernel, the kernel's undilated."""

    @staticmethod
    def forward(images: Tensor, weight: Tensor, dilation: int) -> Tensor:
        return F.conv2d(images, weight, None, 1, dilation, dilation, weight.shape[0])

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])
        ctx.dilation = inputs[2]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        (gradient,) = gradients
        images, weight = (saved.to(gradient.dtype) for saved in ctx.saved_tensors)
        dilation, channels = ctx.dilation, weight.shape[0]
        for_images = for_weight = None
        if ctx.needs_input_grad[0]:
            mirrored = weight.flip(2, 3)
            for_images = F.conv2d(gradient, mirrored, None, 1, dilation, dilation, channels)
        if ctx.needs_input_grad[1]:
            for_weight = conv2d_weight(
                _interleaved(images, dilation),
                list(weight.shape),
                _interleaved(gradient, dilation),
                padding=1,
                groups=channels,
            )
        return for_images, for_weight, None


def _interleaved(images: Tensor, step: int) -> Tensor:
    """Split into step² images of every step-th pixel, on which a dilation of `step` is none.

    (B, C, H, W) → (B·step², C, H/step, W/step), channels last; sides are padded with zeros.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (0, -width % step, 0, -height % step)).movedim(1, -1)
    split = padded.unflatten(2, (-1, step)).unflatten(1, (-1, step))
    return split.permute(0, 2, 4, 1, 3, 5).flatten(0, 2).movedim(-1, 1)
