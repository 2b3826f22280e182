"""What the tests of backbones share."""

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def on_meta():
    with torch.device("meta"):
        yield


def sides(maps: list[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(features.shape[-2:]) for features in maps]


def randomize_norms(backbone: nn.Module) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1)
