"""The training loss: cross-entropy of the main and the auxiliary logits."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ccnet.transforms import IGNORE_INDEX


def cross_entropy(
    logits: Float[Tensor, "b classes h w"],
    labels: Int[Tensor, "b h w"],
    class_weights: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, ""]:
    """Mean over the pixels that aren't ignored, weighted by class; 0 where none has weight.

    Computed in float32 whatever the logits' dtype.
    """
    logits = logits.float()
    total = F.cross_entropy(
        logits, labels, class_weights, ignore_index=IGNORE_INDEX, reduction="sum"
    )
    if class_weights is None:
        return total / (labels != IGNORE_INDEX).sum().clamp(min=1)
    weight_of = logits.new_zeros(IGNORE_INDEX + 1)  # by label; 0 for 255
    weight_of[: len(class_weights)] = class_weights
    return total / weight_of[labels].sum().clamp(min=torch.finfo(torch.float32).tiny)


def segmentation_loss(
    logits: Sequence[Float[Tensor, "b classes h w"]],
    labels: Int[Tensor, "b h w"],
    *,
    auxiliary_weight: float = 0.4,
    class_weights: Float[Tensor, " classes"] | None = None,
) -> Float[Tensor, ""]:
    """Cross-entropy of the first logits plus `auxiliary_weight` times that of any others."""
    main, *auxiliary = (cross_entropy(x, labels, class_weights) for x in logits)
    return main + auxiliary_weight * sum(auxiliary)
