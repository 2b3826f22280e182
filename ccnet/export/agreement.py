"""An exported file compared with the network that it was made from: logits, labels and time."""

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

REPEATS = 5
LARGEST_DIFFERENCE = 1e-4
"""Of logits in float32, in the unit of `Agreement.difference`."""


@dataclass(frozen=True)
class Agreement:
    """How well a file and the network agree on images of one size."""

    size: tuple[int, int, int]
    """Images, height and width."""
    difference: float
    """Largest difference of two logits, in units of the largest logit if that is above 1."""
    labels: float
    """Share of the pixels that get the same class, 0 to 1."""
    torch_ms: float
    """Milliseconds per image that PyTorch takes."""
    export_ms: float
    """Milliseconds per image that the file takes."""


def compare(
    network: Callable[[Tensor], Float[Tensor, "b classes h w"]],
    exported: Callable[[Tensor], Sequence[Tensor]],
    batches: Sequence[UInt8[Tensor, "b c h w"]],
) -> Agreement:
    """Run the network and the file on batches of one size.

    Args:
        network: from images to logits.
        exported: from images to logits and, if the file has that output, labels.
        batches: images; the first batch is the one that is timed.
    """
    differences, shares = [], []
    for images in batches:
        expected = network(images)
        logits, *rest = exported(images)
        labels = rest[0] if rest else logits.argmax(1)
        scale = expected.abs().max().clamp(min=1)
        differences.append(((logits - expected).abs().max() / scale).item())
        shares.append((labels == expected.argmax(1)).double().mean().item())
    batch, _, height, width = batches[0].shape
    torch_ms, export_ms = (milliseconds(run, batches[0]) / batch for run in (network, exported))
    difference = float(np.max(differences))  # Python's max can lose a nan
    share = sum(shares) / len(shares)
    return Agreement((batch, height, width), difference, share, torch_ms, export_ms)


def milliseconds(run: Callable[[Tensor], object], images: Tensor) -> float:
    """Median time of several runs, after one that warms up."""
    seconds = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - start)
    return 1000 * median(seconds[1:])


def require_agreement(rows: Sequence[Agreement], smallest: float, *, exact: bool) -> None:
    """Raises ValueError unless the file agrees with the network at all sizes.

    Args:
        rows: one comparison per size.
        smallest: share of the pixels that must get the same class.
        exact: whether logits must agree to `LARGEST_DIFFERENCE` as well.
    """
    for row in rows:
        batch, height, width = row.size
        where = f"on {batch} images of {height}×{width}"
        if not math.isfinite(row.difference):
            raise ValueError(
                f"logits {where} are nan or infinite, or differ by that from the network's; "
                "nothing was written. Check the weights; float16 may be too narrow for them"
            )
        if not row.labels >= smallest:  # so that a nan does not pass
            raise ValueError(
                f"{100 * row.labels:.3f} % of the labels {where} are the network's, "
                f"{100 * smallest:g} % are wanted; nothing was written"
            )
        if exact and not row.difference <= LARGEST_DIFFERENCE:
            raise ValueError(
                f"logits {where} differ from the network's by {row.difference:.2g}, "
                f"{LARGEST_DIFFERENCE} is allowed; nothing was written"
            )
