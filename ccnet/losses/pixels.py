"""Losses that are sums over pixels: cross-entropy, with focal factor and label smoothing."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ccnet.classes import IGNORE_INDEX


def pixel_weights(
    labels: Int[Tensor, "b h w"], class_weights: Float[Tensor, " classes"] | None
) -> Float[Tensor, "b h w"]:
    """The weight of each pixel's class, or 1 without class weights; 0 where it is ignored."""
    if class_weights is None:
        return (labels != IGNORE_INDEX).float()
    weight_of = class_weights.new_zeros(IGNORE_INDEX + 1, dtype=torch.float32)
    weight_of[: len(class_weights)] = class_weights
    return weight_of[labels]


def weighted_cross_entropy(
    logits: Float[Tensor, "b classes h w"],
    labels: Int[Tensor, "b h w"],
    weights: Float[Tensor, "b h w"],
    *,
    focal_gamma: float = 0.0,
    label_smoothing: float = 0.0,
) -> Float[Tensor, ""]:
    """Σ weight · (1 − p)^γ · cross-entropy over the pixels, p the true class's probability.

    In float32 for logits of lower precision.

    Args:
        logits: of every class.
        labels: 0 to classes - 1, or 255 for pixels that count nothing.
        weights: of the pixels.
        focal_gamma: γ of the focal loss (Lin et al. 2017, "Focal Loss for Dense Object Detection",
            equation 4); 0 for plain cross-entropy.
        label_smoothing: ε; the cross-entropy is to (1 − ε) · the label + ε · the uniform
            distribution (Szegedy et al. 2016, "Rethinking the Inception Architecture for Computer
            Vision", section 7).
    """
    each = cross_entropy(logits, labels, label_smoothing)
    if focal_gamma:
        plain = cross_entropy(logits, labels) if label_smoothing else each
        # above 0, where the derivative of a power below 1 is infinite
        error = (-torch.expm1(-plain)).clamp(min=torch.finfo(plain.dtype).tiny)
        each = each * error**focal_gamma
    return (each * weights).sum()


@torch.no_grad()
def true_class_probability(
    logits: Float[Tensor, "b classes h w"], labels: Int[Tensor, "b h w"]
) -> Float[Tensor, "b h w"]:
    """The softmax probability of each pixel's label, float32; infinity where it is ignored."""
    probability = (-cross_entropy(logits, labels)).exp()
    return probability.masked_fill_(labels == IGNORE_INDEX, torch.inf)


def cross_entropy(
    logits: Float[Tensor, "b classes h w"], labels: Int[Tensor, "b h w"], smoothing: float = 0.0
) -> Float[Tensor, "b h w"]:
    """The cross-entropy of each pixel, 0 where it is ignored."""
    return F.cross_entropy(
        at_least_float32(logits),
        labels,
        ignore_index=IGNORE_INDEX,
        reduction="none",
        label_smoothing=smoothing,
    )


def at_least_float32(values: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    return values.to(torch.promote_types(values.dtype, torch.float32))
