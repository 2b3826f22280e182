"""Folded networks against unfolded ones, in float64."""

import pytest
import torch
from torch import nn

from ccnet import CCNet
from ccnet.inference.folding import fold_batch_norm
from tests.conftest import with_statistics

pytestmark = pytest.mark.unchecked  # torch traces the annotated code


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "norms"),
    [
        ("tiny", 2 + 3 + 1),
        ("resnet18", 20 + 3 + 1),
        ("resnet50", 53 + 3 + 1),
        ("mobilenet_v2", 51 + 3 + 1),
    ],
)
def test_a_folded_network_is_the_same_function(backbone, norms):
    network = with_statistics(CCNet(3, backbone, channels=8, auxiliary_channels=8).double())
    kept = {name: value.clone() for name, value in network.state_dict().items()}
    folded = fold_batch_norm(network)
    kinds = [[type(m) is nn.BatchNorm2d for m in n.modules()] for n in (network, folded)]
    assert [sum(kind) for kind in kinds] == [norms, 0]
    images = torch.randn(2, 3, 41, 64, dtype=torch.float64)
    with torch.no_grad():
        for ours, theirs in zip(folded(images, True), network(images, True), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)
    assert all(torch.equal(value, kept[name]) for name, value in network.state_dict().items())


class Shared(nn.Module):
    """A convolution with two readers, and one that is run twice with another norm each time."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 3, 1), nn.Conv2d(3, 3, 1)
        self.norms = nn.ModuleList(nn.BatchNorm2d(3) for _ in range(3))

    def forward(self, x):
        x = self.first(x)
        x = x + self.norms[0](x)
        return self.norms[2](self.second(self.norms[1](self.second(x))))


def test_what_has_other_readers_stays():
    network = with_statistics(Shared())
    folded = fold_batch_norm(network)
    assert sum(isinstance(m, nn.BatchNorm2d) for m in folded.modules()) == 3
    images = torch.randn(1, 3, 4, 4)
    torch.testing.assert_close(folded(images), network(images))


def test_a_network_that_branches_on_its_values_is_refused():
    class Branching(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else -x

    with pytest.raises(ValueError, match=r"torch\.fx cannot trace"):
        fold_batch_norm(Branching())
