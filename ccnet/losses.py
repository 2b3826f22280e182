"""The training loss: cross-entropy of the main and the auxiliary logits, over all or hard pixels.

The loss of a step is a mean over the pixels that count in the whole step: over all processes, and
over all parts in which a process takes its images. So its gradient does not depend on the number of
devices or parts, however the ignored pixels are distributed among them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from ccnet.classes import IGNORE_INDEX
from ccnet.runtime.processes import gather_over_processes, num_processes, sum_over_processes


@dataclass(frozen=True)
class Divisors:
    """What the sums over the pixels of one step are divided by, and which of its pixels count."""

    auxiliary: Float[Tensor, ""]
    """Total weight of the labeled pixels of all processes."""
    main: Float[Tensor, ""]
    """Total weight of the pixels that count for the main logits; with OHEM, of the hard ones."""
    threshold: Float[Tensor, ""] | None = None
    """Largest probability of the true class at which a pixel is hard. None: all pixels count."""


class SegmentationLoss(nn.Module):
    """Cross-entropy of the main logits plus `auxiliary_weight` times that of the auxiliary ones.

    With OHEM (online hard example mining) a pixel counts for the main logits only if its true class
    has at most a certain probability: `ohem_threshold`, or the `ohem_min_kept`-th smallest
    probability of the global batch if that is larger. This is the rule of the CCNet authors' code,
    in which each GPU applies it to its own images at an eighth of the resolution.

    The loss is this process's share of the step's loss, times the number of processes, because DDP
    and FSDP average gradients. The mean over the processes of the sum over the parts is the loss of
    the step.

    Args:
        auxiliary_weight: of the cross-entropy of the auxiliary logits.
        class_weights: one weight per class for a weighted mean. None: equal weights.
        ohem_threshold: from 0 to 1. None: all labeled pixels count.
        ohem_min_kept: number of pixels of the global batch that count at least, if it has as many.

    Raises:
        ValueError: a weight is negative, infinite or nan, or a number of OHEM is out of its range.
    """

    class_weights: Float[Tensor, " classes"] | None

    def __init__(
        self,
        auxiliary_weight: float = 0.4,
        class_weights: Float[Tensor, " classes"] | None = None,
        ohem_threshold: float | None = None,
        ohem_min_kept: int = 100_000,
    ) -> None:
        super().__init__()
        if not 0 <= auxiliary_weight < math.inf:
            raise ValueError(f"auxiliary_weight must be 0 or more, got {auxiliary_weight}")
        weights = () if class_weights is None else class_weights.tolist()
        if not all(0 <= weight < math.inf for weight in weights):
            raise ValueError(f"class_weights must be 0 or more, got {weights}")
        if ohem_threshold is not None and not 0 <= ohem_threshold <= 1:
            raise ValueError(f"ohem_threshold must be 0 to 1, got {ohem_threshold}")
        if ohem_min_kept < 0:
            raise ValueError(f"ohem_min_kept must be 0 or more, got {ohem_min_kept}")
        self.auxiliary_weight = auxiliary_weight
        self.ohem_threshold = ohem_threshold
        self.ohem_min_kept = ohem_min_kept
        # a setting, not a state: checkpoints do not contain it
        self.register_buffer("class_weights", class_weights, persistent=False)

    def forward(
        self,
        logits: Sequence[Float[Tensor, "b classes h w"]],
        labels: Int[Tensor, "b h w"],
        divisors: Divisors | None = None,
    ) -> Float[Tensor, ""]:
        """The loss, in float32; 0 where no pixel has weight.

        All processes have to call this, or `divisors`, equally often.

        Args:
            logits: the main logits, then any number of auxiliary ones, of the labels' size.
            labels: 0 to classes - 1, or 255 for pixels to ignore.
            divisors: of the whole step, if this batch is one of several parts of it. None: the
                batch is the whole share of this process.
        """
        if divisors is None:
            probabilities = None
            if self.ohem_threshold is not None:
                probabilities = [true_class_probability(logits[0], labels)]
            divisors = self.divisors([labels], probabilities)
        weights = pixel_weights(labels, self.class_weights)
        hard = weights
        if divisors.threshold is not None:
            hard = weights * is_hard(true_class_probability(logits[0], labels), divisors.threshold)
        loss = weighted_cross_entropy(logits[0], labels, hard) / divisors.main
        for auxiliary in logits[1:]:
            loss = loss + self.auxiliary_weight / divisors.auxiliary * weighted_cross_entropy(
                auxiliary, labels, weights
            )
        return loss * num_processes()

    def divisors(
        self,
        labels: Sequence[Int[Tensor, "b h w"]],
        probabilities: Sequence[Float[Tensor, "b h w"]] | None = None,
    ) -> Divisors:
        """The divisors of a step.

        Args:
            labels: of all parts of this process's share.
            probabilities: of their true classes (`true_class_probability`), for OHEM.
        """
        weights = [pixel_weights(part, self.class_weights) for part in labels]
        labeled = positive(sum_over_processes(total(weights)))
        if probabilities is None:
            return Divisors(labeled, labeled)
        assert self.ohem_threshold is not None
        flat = torch.cat([part[part.isfinite()] for part in probabilities])
        threshold = ohem_threshold(flat, self.ohem_threshold, self.ohem_min_kept)
        hard = [
            weight * is_hard(probability, threshold)
            for weight, probability in zip(weights, probabilities, strict=True)
        ]
        return Divisors(labeled, positive(sum_over_processes(total(hard))), threshold)


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
) -> Float[Tensor, ""]:
    """Σ weight · cross-entropy over the pixels, in float32 for logits of any dtype."""
    each = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="none")
    return (each * weights).sum()


@torch.no_grad()
def true_class_probability(
    logits: Float[Tensor, "b classes h w"], labels: Int[Tensor, "b h w"]
) -> Float[Tensor, "b h w"]:
    """The softmax probability of each pixel's label, float32; infinity where it is ignored."""
    each = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="none")
    return (-each).exp().masked_fill_(labels == IGNORE_INDEX, torch.inf)


def is_hard(
    probability: Float[Tensor, "b h w"], threshold: Float[Tensor, ""]
) -> Bool[Tensor, "b h w"]:
    # nan counts as hard, so that it shows in the loss
    return ~(probability > threshold)


def ohem_threshold(
    probabilities: Float[Tensor, " pixels"], threshold: float, min_kept: int
) -> Float[Tensor, ""]:
    """The larger of `threshold` and the `min_kept`-th smallest probability of all processes.

    It is 1 where all processes together have at most `min_kept` pixels. A process sends at most
    `min_kept` values, and none at all where enough pixels are below `threshold`.
    """
    below = (probabilities <= threshold).sum()
    counts = torch.stack([below, below.new_tensor(len(probabilities))])
    num_below, num_pixels = sum_over_processes(counts).tolist()
    if num_pixels <= min_kept:
        return probabilities.new_tensor(1.0)
    if num_below >= min_kept:
        return probabilities.new_tensor(threshold)
    smallest = probabilities.new_full((min_kept,), torch.inf)
    num_sent = min(min_kept, len(probabilities))
    smallest[:num_sent] = probabilities.topk(num_sent, largest=False, sorted=False).values
    return gather_over_processes(smallest).kthvalue(min_kept).values


def total(parts: Sequence[Tensor]) -> Float[Tensor, ""]:
    return torch.stack([part.sum() for part in parts]).sum()


def positive(weight: Tensor) -> Tensor:
    """A divisor that is never 0: where no pixel counts the sum is 0, and so is the loss."""
    return weight.clamp(min=torch.finfo(torch.float32).tiny)
