"""Online hard example mining: which pixels of the global batch count."""

import math

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from ccnet.runtime.processes import gather_over_processes, sum_over_processes


def is_hard(
    probability: Float[Tensor, "b h w"], threshold: Float[Tensor, ""]
) -> Bool[Tensor, "b h w"]:
    # nan counts as hard, so that it shows in the loss
    return ~(probability > threshold)


def ohem_threshold(
    probabilities: Float[Tensor, " pixels"], threshold: float, min_kept: float
) -> Float[Tensor, ""]:
    """The larger one of `threshold` and the k-th smallest probability of all processes.

    It is 1 where all processes together have at most k pixels. A process sends at most k values,
    and none at all where enough pixels are below `threshold`.

    Args:
        probabilities: of the true class, for the labeled pixels of this process.
        threshold: largest probability at which a pixel is hard in any case.
        min_kept: k; below 1 the share of the pixels of all processes that k is.
    """
    below = (probabilities <= threshold).sum()
    counts = torch.stack([below, below.new_tensor(len(probabilities))])
    num_below, num_pixels = sum_over_processes(counts).tolist()
    kept = math.ceil(min_kept * num_pixels) if min_kept < 1 else int(min_kept)
    if num_pixels <= kept:
        return probabilities.new_tensor(1.0)
    if num_below >= kept:
        return probabilities.new_tensor(threshold)
    smallest = probabilities.new_full((kept,), torch.inf)
    num_sent = min(kept, len(probabilities))
    smallest[:num_sent] = probabilities.topk(num_sent, largest=False, sorted=False).values
    return gather_over_processes(smallest).kthvalue(kept).values
