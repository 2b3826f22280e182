"""The training loss: cross-entropy of the main and the auxiliary logits, on all or the hard pixels.

A loss is a mean over the pixels that count in the whole step: of all processes, and of all parts in
which a process takes its share. Its gradient is then the same on one device and on many, whatever
number of pixels each of them ignores.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from ccnet.classes import IGNORE_INDEX
from ccnet.runtime.processes import gather_over_processes, num_processes, sum_over_processes


@dataclass(frozen=True)
class Divisors:
    """What the sums over pixels of one step are divided by, and which pixels of it are hard."""

    auxiliary: Float[Tensor, ""]
    """Weight of the labelled pixels, all processes'."""
    main: Float[Tensor, ""]
    """Weight of those that count for the main logits: with OHEM the hard ones."""
    threshold: Float[Tensor, ""] | None = None
    """Largest probability of the true class at which a pixel is hard; None where all count."""


class SegmentationLoss:
    """Cross-entropy of the main logits plus `auxiliary_weight` times that of any others.

    With OHEM (online hard example mining) the main logits count only where the true class has a
    probability of at most a threshold: `ohem_threshold`, or the `ohem_min_kept`-th smallest
    probability of the global batch if that is larger. It is the rule of the CCNet authors' code;
    theirs is applied by each GPU to its own images, seen at an eighth of the resolution.

    A call returns its share of the step's loss times the number of processes, since DDP and FSDP
    average gradients: the processes' mean of it, summed over parts, is the loss of the step.

    Args:
        class_weights: one a class; the mean is then weighted. None for equal ones.
        ohem_threshold: 0 to 1; None to count all pixels.
        ohem_min_kept: pixels of the global batch that count at least, where it has as many.
    """

    def __init__(
        self,
        auxiliary_weight: float = 0.4,
        class_weights: Float[Tensor, " classes"] | None = None,
        ohem_threshold: float | None = None,
        ohem_min_kept: int = 100_000,
    ) -> None:
        if ohem_threshold is not None and not 0 <= ohem_threshold <= 1:
            raise ValueError(f"ohem_threshold must be 0 to 1, got {ohem_threshold}")
        if ohem_min_kept < 0:
            raise ValueError(f"ohem_min_kept must be 0 or more, got {ohem_min_kept}")
        self.auxiliary_weight = auxiliary_weight
        self.class_weights = class_weights
        self.ohem_threshold = ohem_threshold
        self.ohem_min_kept = ohem_min_kept

    def __call__(
        self,
        logits: Sequence[Float[Tensor, "b classes h w"]],
        labels: Int[Tensor, "b h w"],
        divisors: Divisors | None = None,
    ) -> Float[Tensor, ""]:
        """The loss, in float32; `divisors` of the whole step where this is a part of it.

        0 where nothing has weight. Every process has to call it, or `divisors`, as often.
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
        for others in logits[1:]:
            loss = loss + self.auxiliary_weight / divisors.auxiliary * weighted_cross_entropy(
                others, labels, weights
            )
        return loss * num_processes()

    def divisors(
        self,
        labels: Sequence[Int[Tensor, "b h w"]],
        probabilities: Sequence[Float[Tensor, "b h w"]] | None = None,
    ) -> Divisors:
        """Of a step, from the labels of all its parts here; OHEM needs their probabilities too."""
        weights = [pixel_weights(part, self.class_weights) for part in labels]
        labelled = positive(sum_over_processes(total(weights)))
        if probabilities is None:
            return Divisors(labelled, labelled)
        assert self.ohem_threshold is not None
        flat = torch.cat([part[part.isfinite()] for part in probabilities])
        threshold = ohem_threshold(flat, self.ohem_threshold, self.ohem_min_kept)
        hard = [
            weight * is_hard(probability, threshold)
            for weight, probability in zip(weights, probabilities, strict=True)
        ]
        return Divisors(labelled, positive(sum_over_processes(total(hard))), threshold)


def pixel_weights(
    labels: Int[Tensor, "b h w"], class_weights: Float[Tensor, " classes"] | None
) -> Float[Tensor, "b h w"]:
    """Each pixel's weight by its class, 1 without weights; 0 where it is ignored."""
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
    """Σ weight · cross-entropy over the pixels, in float32 whatever the logits' dtype."""
    each = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="none")
    return (each * weights).sum()


@torch.no_grad()
def true_class_probability(
    logits: Float[Tensor, "b classes h w"], labels: Int[Tensor, "b h w"]
) -> Float[Tensor, "b h w"]:
    """Softmax's probability of each pixel's label, float32; infinity where it is ignored."""
    each = F.cross_entropy(logits.float(), labels, ignore_index=IGNORE_INDEX, reduction="none")
    return (-each).exp().masked_fill_(labels == IGNORE_INDEX, torch.inf)


def is_hard(
    probability: Float[Tensor, "b h w"], threshold: Float[Tensor, ""]
) -> Bool[Tensor, "b h w"]:
    # a probability that is no number counts: the loss has to show it
    return ~(probability > threshold)


def ohem_threshold(
    probabilities: Float[Tensor, " pixels"], threshold: float, min_kept: int
) -> Float[Tensor, ""]:
    """The larger of `threshold` and the min_kept-th smallest probability of all processes' pixels.

    1 where they are not more than min_kept. A process sends at most min_kept values, and none where
    enough pixels are below the threshold anyway.
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
    """Where nothing counts the sum is 0, and so is the loss."""
    return weight.clamp(min=torch.finfo(torch.float32).tiny)
