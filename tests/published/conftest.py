"""State dicts with the keys and shapes of the published networks."""

import json
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ccnet.weights import pickles

PARITY = Path(__file__).parent / "parity"
AUTHORS, MMSEG = "official_resnet101", "mmseg_resnet50"


@pytest.fixture(autouse=True)
def _any_expansion(monkeypatch):
    """Files of `like` hold one number for each tensor, which is refused elsewhere."""
    monkeypatch.setattr(pickles, "MAX_EXPANSION", math.inf)


def like(case: str, changes: dict[str, list[int] | None] | None = None) -> dict[str, Tensor]:
    """A state dict with the keys and shapes of a recorded network, next to nothing in a file."""
    shapes = dict(json.loads((PARITY / f"{case}.keys.json").read_text())) | (changes or {})
    return {key: torch.ones(()).expand(shape) for key, shape in shapes.items() if shape is not None}


def mmseg(depth: int, num_classes: int) -> dict[str, Tensor]:
    state = like(MMSEG)
    for head, width in (("decode_head", 512), ("auxiliary_head", 256)):
        state[f"{head}.conv_seg.weight"] = torch.ones(()).expand(num_classes, width, 1, 1)
        state[f"{head}.conv_seg.bias"] = torch.ones(()).expand(num_classes)
    for block in range(6, 23 if depth == 101 else 0):
        for key in [key for key in state if key.startswith("backbone.layer3.5.")]:
            state[key.replace("layer3.5.", f"layer3.{block}.")] = state[key]
    return state
