"""The training loss: a weighted sum of losses of the main and the auxiliary logits.

The loss of a step is that of its global batch: of all processes, and of all parts in which a
process takes its images. So its gradient does not depend on the number of devices or parts, however
the ignored pixels are distributed among them.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ccnet.classes import IGNORE_INDEX
from ccnet.losses.consistency import CategoryConsistency, ClassMeans, pixels_of_classes
from ccnet.losses.ohem import is_hard, ohem_threshold
from ccnet.losses.overlap import dice_share, lovasz_sum, overlap_sums
from ccnet.losses.pixels import pixel_weights, true_class_probability, weighted_cross_entropy
from ccnet.runtime.processes import num_processes, sum_over_processes


@dataclass(frozen=True)
class Survey:
    """What a loss has to know of one part before any part of the step is learned from."""

    labels: Int[Tensor, "b h w"]
    probability: Float[Tensor, "b h w"] | None = None
    """Of the true class, for OHEM."""
    overlap: Float[Tensor, "3 classes"] | None = None
    """For the Dice loss."""
    pixels: tuple[Float[Tensor, "pixels e"], Float[Tensor, "pixels classes"]] | None = None
    """Features and their classes, for the category consistent loss."""


@dataclass(frozen=True)
class Divisors:
    """What the sums over the pixels of one step are divided by, and which of its pixels count."""

    auxiliary: Float[Tensor, ""]
    """Total weight of the labeled pixels of all processes."""
    main: Float[Tensor, ""]
    """Total weight of the pixels that count for the main logits; with OHEM, of the hard ones."""
    images: Float[Tensor, ""]
    """Number of images with a labeled pixel."""
    threshold: Float[Tensor, ""] | None = None
    """Largest probability of the true class at which a pixel is hard. None: all pixels count."""
    overlap: Float[Tensor, "3 classes"] | None = None
    """The sums of the Dice loss over the whole batch."""
    means: ClassMeans | None = None
    """Of the features of the whole batch, for the category consistent loss."""


class SegmentationLoss(nn.Module):
    """Cross-entropy of the main logits plus `auxiliary_weight` times that of the auxiliary ones.

    With OHEM (online hard example mining) a pixel counts for the main logits only if its true class
    has at most a certain probability: `ohem_threshold`, or the `ohem_min_kept`-th smallest
    probability of the global batch if that is larger. This is the rule of the CCNet authors' code,
    in which each GPU applies it to its own images at an eighth of the resolution.

    The weights `dice`, `lovasz` and `category_consistent` add further losses, of the main logits
    and of the embedding, in which neither class weights nor OHEM play a part.

    The loss is this process's share of the step's loss, times the number of processes, because DDP
    and FSDP average gradients. The mean over the processes of the sum over the parts is the loss of
    the step.

    Args:
        auxiliary_weight: of the cross-entropy of the auxiliary logits.
        class_weights: one weight per class for a weighted mean. None: equal weights.
        ohem_threshold: from 0 to 1. None: all labeled pixels count.
        ohem_min_kept: number of pixels of the global batch that count at least, if it has as many;
            below 1, the share of its labeled pixels.
        focal_gamma: exponent of the factor (1 − p)^γ of each pixel's cross-entropy; 0 for none.
        label_smoothing: share of the uniform distribution in the label, from 0 to below 1.
        dice: weight of the Dice loss of the global batch (`overlap.dice_share`).
        lovasz: weight of the Lovász-softmax loss, a mean over images (`overlap.lovasz_sum`).
        category_consistent: weight of the category consistent loss.
        consistency: its constants; the paper's by default.

    Raises:
        ValueError: a weight is negative, infinite or nan, all class weights are 0, or another
            number is out of its range.
    """

    class_weights: Float[Tensor, " classes"] | None

    def __init__(
        self,
        auxiliary_weight: float = 0.4,
        class_weights: Float[Tensor, " classes"] | None = None,
        ohem_threshold: float | None = None,
        ohem_min_kept: float = 0.08,
        *,
        focal_gamma: float = 0.0,
        label_smoothing: float = 0.0,
        dice: float = 0.0,
        lovasz: float = 0.0,
        category_consistent: float = 0.0,
        consistency: CategoryConsistency | None = None,
    ) -> None:
        super().__init__()
        numbers = {"auxiliary_weight": auxiliary_weight, "ohem_min_kept": ohem_min_kept}
        numbers |= {"focal_gamma": focal_gamma, "dice": dice, "lovasz": lovasz}
        numbers |= {"category_consistent": category_consistent}
        for name, value in numbers.items():
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} must be 0 or more, got {value}")
        require_class_weights(class_weights)
        if ohem_threshold is not None and not 0 <= ohem_threshold <= 1:
            raise ValueError(f"ohem_threshold must be 0 to 1, got {ohem_threshold}")
        if ohem_min_kept > 1 and ohem_min_kept != int(ohem_min_kept):
            raise ValueError(
                f"ohem_min_kept must be a whole number or a share below 1, got {ohem_min_kept}"
            )
        if not 0 <= label_smoothing < 1:
            raise ValueError(f"label_smoothing must be 0 to below 1, got {label_smoothing}")
        self.auxiliary_weight = auxiliary_weight
        self.ohem_threshold, self.ohem_min_kept = ohem_threshold, ohem_min_kept
        self.cross_entropy = {"focal_gamma": focal_gamma, "label_smoothing": label_smoothing}
        self.dice, self.lovasz = dice, lovasz
        self.category_consistent = category_consistent
        self.consistency = consistency or CategoryConsistency()
        # a setting, not a state: checkpoints do not contain it
        self.register_buffer("class_weights", class_weights, persistent=False)

    @property
    def needs_embedding(self) -> bool:
        """Whether a call takes the embedding of the network."""
        return self.category_consistent > 0

    @property
    def needs_outputs(self) -> bool:
        """Whether a step in several parts needs the outputs for all of them before it learns."""
        return self.ohem_threshold is not None or self.dice > 0 or self.needs_embedding

    def forward(
        self,
        logits: Sequence[Float[Tensor, "b classes h w"]],
        labels: Int[Tensor, "b h w"],
        divisors: Divisors | None = None,
        embedding: Float[Tensor, "b e _ _"] | None = None,
    ) -> Float[Tensor, ""]:
        """The loss, in float32 (float64 for float64 logits); 0 where no pixel has weight.

        All processes have to call this, or `divisors`, equally often.

        Args:
            logits: the main logits, then any number of auxiliary ones, of the labels' size.
            labels: 0 to classes - 1, or 255 for pixels to ignore.
            divisors: of the whole step, if this batch is one of several parts of it. None: the
                batch is the whole share of this process.
            embedding: features for the category consistent loss, of any size; needed with it.

        Raises:
            ValueError: the embedding is missing.
        """
        if self.needs_embedding and embedding is None:
            raise ValueError(
                "category_consistent needs the embedding that CCNet(embedding_channels=16) gives: "
                "*logits, embedding = model(images, auxiliary=True, embedding=True)"
            )
        if divisors is None:
            divisors = self.divisors([self.survey(labels, logits[0], embedding)])
        weights = pixel_weights(labels, self.class_weights)
        hard = weights
        if divisors.threshold is not None:
            hard = weights * is_hard(true_class_probability(logits[0], labels), divisors.threshold)
        main = weighted_cross_entropy(logits[0], labels, hard, **self.cross_entropy)
        loss = main / divisors.main
        for auxiliary in logits[1:]:
            each = weighted_cross_entropy(auxiliary, labels, weights, **self.cross_entropy)
            loss = loss + self.auxiliary_weight / divisors.auxiliary * each
        if divisors.overlap is not None:
            own = overlap_sums(logits[0], labels)
            loss = loss + self.dice * dice_share(own, divisors.overlap)
        if self.lovasz:
            loss = loss + self.lovasz * lovasz_sum(logits[0], labels) / divisors.images
        if divisors.means is not None:
            assert embedding is not None
            own = self.consistency.share(embedding, labels, divisors.means)
            loss = loss + self.category_consistent * own
        return loss * num_processes()

    @torch.no_grad()
    def survey(
        self,
        labels: Int[Tensor, "b h w"],
        logits: Float[Tensor, "b classes h w"] | None = None,
        embedding: Float[Tensor, "b e _ _"] | None = None,
    ) -> Survey:
        """What `divisors` takes of a part.

        Args:
            labels, embedding: as for a call.
            logits: the main logits. They and the embedding may be left out unless `needs_outputs`.
        """
        if not self.needs_outputs:
            return Survey(labels)
        assert logits is not None
        pixels = None
        if self.needs_embedding:
            assert embedding is not None
            pixels = pixels_of_classes(embedding, labels, logits.shape[1])
        return Survey(
            labels,
            None if self.ohem_threshold is None else true_class_probability(logits, labels),
            overlap_sums(logits, labels) if self.dice else None,
            pixels,
        )

    def divisors(self, surveys: Sequence[Survey]) -> Divisors:
        """The divisors of a step, from the surveys of all parts of this process's share."""
        weights = [pixel_weights(survey.labels, self.class_weights) for survey in surveys]
        images = [(survey.labels != IGNORE_INDEX).flatten(1).any(1) for survey in surveys]
        sums = torch.stack([total(weights), total(images).float()])
        labeled, num_images = sum_over_processes(sums).unbind()
        threshold, main = None, labeled
        if probabilities := [s.probability for s in surveys if s.probability is not None]:
            assert self.ohem_threshold is not None
            flat = torch.cat([part[part.isfinite()] for part in probabilities])
            threshold = ohem_threshold(flat, self.ohem_threshold, self.ohem_min_kept)
            pairs = zip(weights, probabilities, strict=True)
            main = sum_over_processes(total([w * is_hard(p, threshold) for w, p in pairs]))
        overlap, means = None, None
        if sums := [survey.overlap for survey in surveys if survey.overlap is not None]:
            overlap = sum_over_processes(torch.stack(sums).sum(0))
        if pixels := [survey.pixels for survey in surveys if survey.pixels is not None]:
            means = self.consistency.class_means(pixels)
        divisors = positive(labeled), positive(main), positive(num_images)
        return Divisors(*divisors, threshold, overlap, means)


def require_class_weights(weights: Float[Tensor, " classes"] | None) -> None:
    """Raise ValueError if a weight is negative, infinite or nan, or if all of them are 0."""
    values = [] if weights is None else weights.tolist()
    if not all(0 <= value < math.inf for value in values):
        raise ValueError(f"class_weights must be 0 or more, got {values}")
    if values and not any(values):
        raise ValueError("class_weights must have one above 0, or nothing is learned")


def total(parts: Sequence[Tensor]) -> Float[Tensor, ""] | Int[Tensor, ""]:
    return torch.stack([part.sum() for part in parts]).sum()


def positive(weight: Tensor) -> Tensor:
    """A divisor that is never 0: where no pixel counts the sum is 0, and so is the loss."""
    return weight.clamp(min=torch.finfo(torch.float32).tiny)
