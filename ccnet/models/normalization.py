"""From images of 8 or 16 bits to what a network takes."""

from collections.abc import Sequence

import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor


def normalize_images(
    images: UInt8[Tensor, "b c h w"] | UInt16[Tensor, "b c h w"],
    mean: Sequence[float],
    std: Sequence[float],
    dtype: torch.dtype,
) -> Float[Tensor, "b c h w"]:
    """Subtract the mean of each channel and divide by its standard deviation.

    Computed in float32 and converted to `dtype` last: 65535 is infinite in float16. Images of 16
    bits are divided by 257 first, so that both kinds have values from 0 to 255. Raises what
    `require_batch` raises.
    """
    require_batch(images, len(mean))
    if images.dtype == torch.uint16:
        images = images.to(torch.float32) / 257
    device = images.device
    return ((images - per_channel(mean, device)) / per_channel(std, device)).to(dtype)


def require_batch(images: Tensor, channels: int) -> None:
    """Raises TypeError or ValueError unless `images` is a batch of images of 8 or 16 bits."""
    if not isinstance(images, Tensor):
        raise TypeError(
            f"expected a batch of images as a tensor (B, {channels}, H, W), "
            f"got {type(images).__name__}; `Predictor.predict` takes one image of any kind"
        )
    is_integer = images.dtype in (torch.uint8, torch.uint16)
    if images.ndim != 4 or images.shape[1] != channels or not is_integer:
        raise ValueError(
            f"expected a batch (B, {channels}, H, W) of uint8 or uint16, "
            f"got {tuple(images.shape)} of {images.dtype}"
        )


def per_channel(values: Sequence[float], device: torch.device) -> Float[Tensor, "c 1 1"]:
    """One float32 value per channel.

    They are filled in on the device: a copy from the host would wait for the GPU in every step.
    """
    full = [torch.full((1, 1), value, dtype=torch.float32, device=device) for value in values]
    return torch.stack(full)
