"""The same module on a series (B, C, T), an image (B, C, H, W) and a volume (B, C, T, H, W).

The task needs the whole input: it is noise except for one marker somewhere, 3 or -3, and the class
of every position is the sign of the marker. On a series one pass of attention sees everything, on
an image two passes do, in a volume three: R = dims.

    python examples/series_and_volumes.py

This takes half a minute, and prints the accuracy for each R.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ccnet import RecurrentCrissCrossAttention

SIZES = {1: (64,), 2: (8, 8), 3: (4, 4, 4)}
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def markers(dims: int, batch: int) -> tuple[Tensor, Tensor]:
    """Inputs (B, 1, *spatial), and the class of each position, 0 or 1, (B, *spatial)."""
    inputs = torch.randn(batch, 1, *SIZES[dims]) / 4
    signs = torch.randint(2, (batch,))
    places = torch.randint(inputs[0].numel(), (batch,))
    inputs.flatten(1)[torch.arange(batch), places] = 6.0 * signs - 3
    return inputs, signs.view(-1, *[1] * dims).expand(-1, *SIZES[dims])


def network(dims: int, recurrence: int, channels: int = 32) -> nn.Sequential:
    """A local convolution, R passes of attention, and a classifier of each position."""
    conv = CONVOLUTIONS[dims]
    return nn.Sequential(
        conv(1, channels, 3, padding=1),
        nn.ReLU(),
        RecurrentCrissCrossAttention(channels, recurrence, reduction=2, dims=dims),
        conv(channels, 2, 1),
    )


def train(dims: int, recurrence: int, steps: int = 200) -> float:
    """Train on random inputs and return the accuracy on 500 new ones, 0 to 1."""
    model = network(dims, recurrence)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(steps):
        inputs, classes = markers(dims, batch=32)
        optimizer.zero_grad()
        F.cross_entropy(model(inputs), classes).backward()
        optimizer.step()
    inputs, classes = markers(dims, batch=500)
    with torch.no_grad():
        return (model(inputs).argmax(1) == classes).float().mean().item()


def main() -> None:
    for dims in SIZES:
        for recurrence in range(dims + 1):
            print(f"dims={dims} R={recurrence}: {train(dims, recurrence):.3f}", flush=True)


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
