"""The tiny backbone: a small receptive field."""

import pytest
import torch

from ccnet.backbones import Tiny
from tests.backbones.conftest import randomize_norms, sides


def test_tiny_sees_seven_pixels():
    backbone = Tiny(8).double().eval()
    randomize_norms(backbone)
    images = torch.randn(1, 3, 40, 40, dtype=torch.float64, requires_grad=True)
    fine, coarse = backbone(images)
    assert sides([fine, coarse]) == [(20, 20), (10, 10)]
    (gradient,) = torch.autograd.grad(coarse[0, :, 5, 5].sum(), images)
    rows, columns = gradient[0].abs().sum(0).nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (17, 23, 17, 23)


def test_the_number_of_channels_is_checked():
    assert Tiny(6).out_channels == (3, 6)
    with pytest.raises(ValueError, match="channels is 1; at least 2 are needed"):
        Tiny(1)
