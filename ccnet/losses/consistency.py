"""The category consistent loss: features of one class lie close together, means of classes apart.

Huang et al. 2020, "CCNet: Criss-Cross Attention for Semantic Segmentation" (the journal version,
arXiv 1811.11721v2), section 3.4.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from ccnet.classes import IGNORE_INDEX
from ccnet.losses.pixels import at_least_float32
from ccnet.runtime.processes import sum_over_processes


@dataclass(frozen=True)
class ClassMeans:
    """What a part needs of the features of all parts of all processes; nothing has a gradient."""

    means: Float[Tensor, "classes e"]
    """The mean feature μ of each class; 0 for a class that does not occur."""
    counts: Float[Tensor, "classes 1"]
    """Number of feature pixels of each class."""
    between: Float[Tensor, ""]
    """The part of the loss that depends on the means alone."""
    pull: Float[Tensor, "classes e"]
    """The derivative of the whole loss with respect to each mean."""


@dataclass(frozen=True)
class CategoryConsistency:
    """α l_var + β l_dis + γ l_reg; the defaults are the paper's.

    l_var is the mean of φ(d) over the pixels of a class, then over the classes that occur, where d
    is the distance of a pixel's feature to the mean μ of its class. With the margins δ_v and δ_d, φ
    is 0 up to δ_v, (d − δ_v)² up to δ_d, and d − δ_d + (δ_d − δ_v)² above. l_dis is the mean of
    max(0, 2 δ_d − ‖μ_a − μ_b‖)² over the ordered pairs of different classes, and l_reg the mean of
    ‖μ‖. A mean is that of the global batch. Where no class occurs, each of the three is 0; of one
    class alone, l_dis is.
    """

    variation: float = 1.0
    """α, the weight of l_var."""
    distance: float = 1.0
    """β, the weight of l_dis."""
    regularization: float = 1e-3
    """γ, the weight of l_reg."""
    variation_margin: float = 0.5
    """δ_v, the distance to the mean of its class up to which a feature costs nothing."""
    distance_margin: float = 1.5
    """δ_d, half the distance that the means of two classes are to have; at least δ_v."""

    def __post_init__(self) -> None:
        if not 0 <= self.variation_margin <= self.distance_margin:
            raise ValueError(
                "the margins must be 0 ≤ variation_margin ≤ distance_margin, got "
                f"{self.variation_margin} and {self.distance_margin}"
            )

    def share(
        self, embedding: Float[Tensor, "b e h w"], labels: Int[Tensor, "b H W"], every: ClassMeans
    ) -> Float[Tensor, ""]:
        """A part's share of the loss of a batch; the shares of all parts add up to the loss.

        The gradient of the batch's loss with respect to the means reaches the features of a part
        through its own sums. In float32 for features of lower precision.

        Args:
            embedding: features of the part, with gradient.
            labels: of the part's images; a feature pixel takes the label at its center.
            every: `class_means` of all parts.
        """
        features, members = pixels_of_classes(embedding, labels, len(every.means))
        sums, counts = class_sums(features, members)
        through_means = (every.pull / every.counts.clamp(min=1) * (sums - sums.detach())).sum()
        within = self.within(features, members, every.means, every.counts)
        return within + through_means + every.between * counts.sum() / positive(every.counts.sum())

    @torch.no_grad()
    def class_means(self, parts: Sequence[tuple[Tensor, Tensor]]) -> ClassMeans:
        """The means of all parts of all processes.

        Args:
            parts: `pixels_of_classes` of those of this process.
        """
        features, members = (torch.cat(part) for part in zip(*parts, strict=True))
        both = sum_over_processes(torch.cat(class_sums(features, members), dim=1))
        sums, counts = both[:, :-1], both[:, -1:]
        means = (sums / counts.clamp(min=1)).requires_grad_()
        with torch.enable_grad():
            own = self.within(features, members, means, counts)
            between = self.between(means, counts.squeeze(1) > 0)
            pulls = [torch.autograd.grad(loss, means)[0] for loss in (own, between)]
        pull = sum_over_processes(pulls[0]) + pulls[1]
        return ClassMeans(means.detach(), counts, between.detach(), pull)

    def within(
        self,
        features: Float[Tensor, "pixels e"],
        members: Float[Tensor, "pixels classes"],
        means: Float[Tensor, "classes e"],
        counts: Float[Tensor, "classes 1"],
    ) -> Float[Tensor, ""]:
        """α l_var, of which each pixel adds φ(d) / (pixels of its class · classes that occur)."""
        distances = torch.linalg.vector_norm(features - members @ means, dim=1)
        low, high = self.variation_margin, self.distance_margin
        costs = torch.where(
            distances > high,
            distances - high + (high - low) ** 2,
            (distances - low).clamp(min=0) ** 2,
        )
        shares = members @ (1 / counts.clamp(min=1)) / positive((counts > 0).sum())
        return self.variation * (costs * shares.squeeze(1)).sum()

    def between(self, means: Float[Tensor, "classes e"], occurs: Tensor) -> Float[Tensor, ""]:
        """β l_dis + γ l_reg."""
        number = occurs.sum()
        pairs = (
            occurs[:, None] & occurs & ~torch.eye(len(means), dtype=torch.bool).to(occurs.device)
        )
        distances = torch.linalg.vector_norm(means[:, None] - means, dim=2)
        costs = (2 * self.distance_margin - distances).clamp(min=0) ** 2
        distance = costs.where(pairs, 0).sum() / positive(number * (number - 1))
        lengths = torch.linalg.vector_norm(means, dim=1).where(occurs, 0)
        return self.distance * distance + self.regularization * lengths.sum() / positive(number)


def pixels_of_classes(
    embedding: Float[Tensor, "b e h w"], labels: Int[Tensor, "b H W"], num_classes: int
) -> tuple[Float[Tensor, "pixels e"], Float[Tensor, "pixels classes"]]:
    """The features of all labeled pixels, and a row for each with 1 at its class."""
    labels = labels_at(labels, (embedding.shape[2], embedding.shape[3]))
    is_labeled = labels != IGNORE_INDEX
    features = at_least_float32(embedding).movedim(1, -1)[is_labeled]
    return features, F.one_hot(labels[is_labeled], num_classes).to(features.dtype)


def class_sums(
    features: Float[Tensor, "pixels e"], members: Float[Tensor, "pixels classes"]
) -> tuple[Float[Tensor, "classes e"], Float[Tensor, "classes 1"]]:
    """The sum of the features of each class, and the number of its pixels."""
    return members.T @ features, members.sum(0)[:, None]


def labels_at(labels: Int[Tensor, "b H W"], size: tuple[int, int]) -> Int[Tensor, "b h w"]:
    """The labels at the centers of the pixels of a map of another size."""
    for axis, length in enumerate(size, 1):
        centers = torch.arange(length, device=labels.device) + 0.5
        labels = labels.index_select(axis, (centers * (labels.shape[axis] / length)).long())
    return labels


def positive(number: Tensor) -> Tensor:
    return number.clamp(min=1)
