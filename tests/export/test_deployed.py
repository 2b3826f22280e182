"""What an exported file computes: the prepared network, and its graph for open and fixed sizes."""

import json

import pytest
import torch
from torch import nn

from ccnet import CCNet
from ccnet.export.deployed import without_ceil_mode
from ccnet.export.exporter import export
from tests.conftest import new_tiny_model, with_statistics

pytestmark = pytest.mark.unchecked  # torch traces the annotated code


@pytest.fixture(scope="module")
def timm_network(request, torchvision_operators) -> CCNet:
    torch.manual_seed(0)
    network = CCNet(3, f"timm/{request.param}", channels=8, auxiliary_channels=None)
    return with_statistics(network)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("timm_network", ["convnext_atto", "vit_tiny_patch16_224"], indirect=True)
def test_a_file_for_one_size_takes_that_size_only_in_any_batch(timm_network, tmp_path):
    path = tmp_path / "model.pt2"
    rows = export(timm_network, path, "torch-export", size=(64, 80))
    assert [row.size for row in rows] == [(1, 64, 80), (3, 64, 80)]
    extra = {"ccnet.json": ""}
    graph = torch.export.load(path, extra_files=extra).module()
    assert json.loads(extra["ccnet.json"])["size"] == [64, 80]
    assert graph(torch.zeros(4, 3, 64, 80, dtype=torch.uint8))[0].shape == (4, 3, 64, 80)
    with pytest.raises(AssertionError, match="64"):
        graph(torch.zeros(1, 3, 80, 64, dtype=torch.uint8))


def branching_by(condition):
    """A tiny model that computes something else where a condition holds."""
    network = new_tiny_model()

    class Branching(type(network.backbone)):
        def forward(self, images):
            maps = super().forward(images)
            return [2 * m for m in maps] if condition(images) else maps

    network.backbone.__class__ = Branching
    return network


@pytest.mark.slow
def test_a_network_that_cannot_be_folded_is_written_as_it_is(tmp_path):
    network = branching_by(lambda images: images.shape[0] < 0)
    export(network, tmp_path / "model.pt2", "torch-export")
    extra = {"ccnet.json": ""}
    torch.export.load(tmp_path / "model.pt2", extra_files=extra)
    assert json.loads(extra["ccnet.json"])["batch_norm"] == "kept"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "words"),
    [
        (
            None,
            r"as torch-export for any size: .*; a file for one size may work, as with size=\(",
        ),
        ((64, 80), "cannot export this network as torch-export: "),
    ],
    ids=str,
)
def test_a_network_that_depends_on_the_values_of_an_image_is_refused(tmp_path, size, words):
    network = branching_by(lambda images: images.sum() > 0)
    with pytest.raises(ValueError, match=words):
        export(network, tmp_path / "model.pt2", "torch-export", size=size)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("side", [5, 6, 7, 8])
@pytest.mark.parametrize("arguments", [(3, 2, 1), (2, 2, 0), (3, 3, 0), (5, 2, 2)], ids=str)
def test_pooling_without_ceil_mode_is_the_same(side, arguments):
    pool = nn.MaxPool2d(*arguments, ceil_mode=True)
    features = torch.randn(2, 3, side, 9) - 3
    assert torch.equal(without_ceil_mode(pool)(features), pool(features))
