"""Whether a model is right as often as its confidence says: reliability curve and ECE."""

from typing import Self

import numpy as np
from jaxtyping import Bool, Float

from ccnet.metrics.boundary import ratio

NUM_BINS = 15
ROUNDING = 1e-3
"""By which a mean of probabilities may exceed 1."""


class Calibration:
    """Counts pixels by the confidence of the winning class, in bins of equal width from 0 to 1.

    Args:
        num_bins: number of bins.
    """

    def __init__(self, num_bins: int = NUM_BINS) -> None:
        self.num_bins = num_bins
        self.pixels = np.zeros(num_bins, np.int64)
        self.correct = np.zeros(num_bins, np.int64)
        self.total_confidence = np.zeros(num_bins)

    def add(self, confidence: Float[np.ndarray, " n"], is_right: Bool[np.ndarray, " n"]) -> None:
        """Count labeled pixels.

        Args:
            confidence: probability of the predicted class, 0 to 1.
            is_right: whether the predicted class is that of the label.

        Raises:
            ValueError: a confidence is not in 0 to 1.
        """
        require_probabilities(confidence)
        bins = (confidence * self.num_bins).astype(np.int16)
        np.minimum(bins, self.num_bins - 1, out=bins)  # 1.0 belongs to the last
        self.pixels += np.bincount(bins, minlength=self.num_bins)
        self.correct += np.bincount(bins[is_right], minlength=self.num_bins)
        self.total_confidence += np.bincount(bins, confidence, minlength=self.num_bins)

    def merge(self, other: Self) -> None:
        """Add the counts of another process."""
        self.pixels += other.pixels
        self.correct += other.correct
        self.total_confidence += other.total_confidence

    @property
    def accuracy(self) -> Float[np.ndarray, " bins"]:
        """Share of each bin's pixels that are right, nan for an empty bin."""
        return ratio(self.correct, self.pixels)

    @property
    def confidence(self) -> Float[np.ndarray, " bins"]:
        """Mean confidence of each bin's pixels, nan for an empty bin."""
        empty = np.full(self.num_bins, np.nan)
        return np.divide(self.total_confidence, self.pixels, out=empty, where=self.pixels > 0)

    @property
    def error(self) -> float | None:
        """Expected calibration error (ECE): the mean over all pixels of |accuracy − confidence|.

        Accuracy and confidence are those of the pixel's bin (Guo et al., ICML 2017). None without
        pixels.
        """
        total = self.pixels.sum()
        gaps = np.abs(self.correct - self.total_confidence)
        return float(gaps.sum() / total) if total else None


def require_probabilities(confidence: Float[np.ndarray, "..."]) -> None:
    """Raises ValueError for a value below 0, above 1 or not a number."""
    if confidence.size and not (confidence.min() >= 0 and confidence.max() <= 1 + ROUNDING):
        raise ValueError(
            "the confidence of a pixel is a probability, 0 to 1; got values from "
            f"{confidence.min()} to {confidence.max()}"
        )
