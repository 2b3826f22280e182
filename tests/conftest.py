"""What several tests need: the naive definition, and tensors as the operator takes them."""

import os
from pathlib import Path

import pytest
import torch
from torch import Tensor

os.environ.setdefault("CUDA_VISIBLE_DEVICES", "")
SHARED = Path(__file__).parents[2] / "shared"  # real images, with licences of their own
    Path(__file__).parents[2] / "shared"
)  # images with a licence of their own, not in the project


@pytest.fixture(autouse=True)
def _fixed_seed():
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    if not (SHARED / "data").is_dir():
        pytest.skip(f"needs the real images of {SHARED / 'data'}")
    return SHARED / "data"


def attention_inputs(
    *spatial: int, batch: int = 2, dtype=torch.float32, channels: int = 6, reduced: int = 3
) -> tuple[Tensor, Tensor, Tensor]:
    """query, key (B, D, *spatial) and value (B, C, *spatial) that need gradients."""
    shapes = [(batch, c, *spatial) for c in (reduced, reduced, channels)]
    query, key, value = (torch.randn(shape, dtype=dtype).requires_grad_() for shape in shapes)
    return query, key, value
