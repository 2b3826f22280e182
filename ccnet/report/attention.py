"""Where a pixel looks in one and in two passes of criss-cross attention (paper figure 4)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from ccnet.models.attention import CrissCrossAttention, RecurrentCrissCrossAttention
from ccnet.ops import reference
from ccnet.prediction.batches import as_batch
from ccnet.prediction.predictor import Predictor
from ccnet.report.pictures import new_grid, save


def attention_maps(
    predictor: Predictor, image: UInt8[np.ndarray, "h w 3"], pixel: tuple[int, int]
) -> list[Float[np.ndarray, "feature_h feature_w"]]:
    """The weights with which one pixel of an image attends to all pixels, through 1 to R passes.

    The first map is the attention of the last pass, which covers the row and the column of the
    pixel. The n-th map follows the attention back through the last n passes, as Σ_j A_{u,j} A_{j,i}
    does for two, and so weights the pixels that enter the first of them. The residual connections
    are left out.

    Args:
        predictor: of the model, which is run once on the image.
        image: an RGB image.
        pixel: (x, y), column and row in the image.

    Returns:
        R maps of the size of the feature map, each of which sums to 1.

    Raises:
        ValueError: the pixel is outside the image, or the model has no attention (R = 0).
    """
    height, width = image.shape[:2]
    x, y = pixel
    if not (0 <= x < width and 0 <= y < height):
        raise ValueError(f"pixel {pixel} is outside the image of {width}×{height}")
    passes = attention_of_passes(predictor, image)
    if not passes:
        raise ValueError("the model has no pass of criss-cross attention (recurrence 0)")
    feature_height, feature_width = passes[-1][0].shape[:2]
    mass = torch.zeros(feature_height, feature_width)
    mass[y * feature_height // height, x * feature_width // width] = 1
    maps = []
    for along_column, along_row in reversed(passes):
        mass = follow(mass, along_column, along_row)
        maps.append(mass.numpy())
    return maps


def follow(
    mass: Float[Tensor, "h w"],
    along_column: Float[Tensor, "h w h"],
    along_row: Float[Tensor, "h w w"],
) -> Float[Tensor, "h w"]:
    """Distribute the mass of each pixel over the pixels that it attends to."""
    to_rows = torch.einsum("hw,hwi->iw", mass, along_column)
    return to_rows + torch.einsum("hw,hwi->hi", mass, along_row)


def attention_of_passes(
    predictor: Predictor, image: UInt8[np.ndarray, "h w 3"]
) -> list[
    tuple[
        Float[Tensor, "feature_h feature_w feature_h"],
        Float[Tensor, "feature_h feature_w feature_w"],
    ]
]:
    """The attention weights of each pass on one image, in order, in float32 on the CPU."""
    passes = []

    def record(module: CrissCrossAttention, inputs: tuple[Tensor]) -> None:
        query, key, _ = module.project(inputs[0])
        with torch.autocast(query.device.type, enabled=False):
            weights = reference.attention_weights(
                query.float().movedim(1, -1), key.float().movedim(1, -1)
            )
        passes.append(tuple(w[0].cpu() for w in weights))

    recurrent: RecurrentCrissCrossAttention = predictor.model.head.attention
    hooks = [module.register_forward_pre_hook(record) for module in recurrent.passes]
    try:
        predictor.logits(as_batch(image, predictor.model.in_channels))
    finally:
        for hook in hooks:
            hook.remove()
    return passes


def save_attention(
    path: str | Path,
    rows: Sequence[tuple[np.ndarray, tuple[int, int], Sequence[Float[np.ndarray, "_ _"]]]],
) -> None:
    """Draw rows of an image with a pixel in it, and the maps of that pixel.

    Args:
        path: PNG file; missing folders are made.
        rows: image (RGB), pixel (x, y) and maps, as `attention_maps` returns them.
    """
    counts = ("one pass", "two passes", *(f"{n} passes" for n in range(3, 100)))
    num_maps = max(len(maps) for *_, maps in rows)
    figure, axes = new_grid(len(rows), ("image and pixel", *counts[:num_maps]))
    for row, (image, (x, y), maps) in zip(axes, rows, strict=True):
        height, width = image.shape[:2]
        row[0].imshow(image, interpolation="nearest")
        row[0].plot(x, y, "o", color="white", markeredgecolor="black", markersize=8)
        for axis, weights in zip(row[1:], maps, strict=False):
            extent = (-0.5, width - 0.5, height - 0.5, -0.5)
            axis.imshow(image.mean(axis=2), cmap="gray", alpha=0.4)
            # the square root makes small weights visible
            axis.imshow(
                np.sqrt(weights), cmap="magma", extent=extent, alpha=0.8, interpolation="nearest"
            )
            axis.plot(x, y, "o", color="white", markeredgecolor="black", markersize=8)
            axis.set_xlim(-0.5, width - 0.5)
            axis.set_ylim(height - 0.5, -0.5)
    save(figure, path)
