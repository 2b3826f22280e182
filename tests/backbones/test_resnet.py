"""ResNets: stems, strides and dilation, rounding of the pooling, initial weights."""

import pytest
import torch

from ccnet.backbones import ResNet
from tests.backbones.conftest import sides


@pytest.mark.parametrize("stem", ["plain", "deep_32", "deep_64"])
def test_stems_differ_only_in_the_stem(stem):
    with torch.device("meta"):
        keys = set(ResNet(50, stem=stem).state_dict())
        others = set(ResNet(50).state_dict())
    starts = ("conv1.", "bn1.", "stem.")
    body = {key for key in keys if not key.startswith(starts)}
    assert body == {key for key in others if not key.startswith(starts)}
    assert any(key.startswith("stem.") for key in keys) == (stem != "plain")


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize("dilation", ["contract", "uniform"])
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.slow
def test_resnet_maps_have_their_strides_and_channels(depth, output_stride, dilation):
    backbone = ResNet(depth, output_stride=output_stride, dilation=dilation)
    maps = backbone(torch.empty(2, 3, 64, 128))
    strides = [min(stride, output_stride) for stride in (2, 4, 8, 16, 32)]
    assert sides(maps) == [(64 // stride, 128 // stride) for stride in strides]
    assert [features.shape[1] for features in maps] == list(backbone.out_channels)
    assert list(backbone.strides) == strides
    assert backbone.output_stride == output_stride


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(
    ("output_stride", "dilation", "third", "fourth"),
    [
        (8, "contract", [1, 2, 2, 2, 2, 2], [2, 4, 4]),
        (8, "uniform", [2, 2, 2, 2, 2, 2], [4, 4, 4]),
        (16, "contract", [1, 1, 1, 1, 1, 1], [1, 2, 2]),
        (16, "uniform", [1, 1, 1, 1, 1, 1], [2, 2, 2]),
        (32, "contract", [1, 1, 1, 1, 1, 1], [1, 1, 1]),
    ],
)
def test_blocks_are_dilated_by_the_rule(output_stride, dilation, third, fourth):
    backbone = ResNet(50, output_stride=output_stride, dilation=dilation)
    for layer, expected in ((backbone.layer3, third), (backbone.layer4, fourth)):
        assert [block.get_submodule("conv2").dilation[0] for block in layer] == expected
    for layer in (backbone.layer1, backbone.layer2):
        assert {block.get_submodule("conv2").dilation for block in layer} == {(1, 1)}


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(
    ("size", "ceil_mode", "expected"),
    [
        ((769, 769), True, (97, 97)),
        ((769, 769), False, (97, 97)),
        ((1024, 2048), True, (129, 257)),
        ((1024, 2048), False, (128, 256)),
    ],
)
@pytest.mark.parametrize("stem", ["plain", "deep_64"])
@pytest.mark.slow
def test_pooling_rounds_as_asked(size, ceil_mode, expected, stem):
    backbone = ResNet(18, stem=stem, ceil_mode=ceil_mode)
    assert sides(backbone(torch.empty(1, 3, *size)))[-1] == expected


def test_convolutions_start_as_torchvision_starts_them():
    torch.manual_seed(0)
    backbone = ResNet(50)
    weight = backbone.get_parameter("layer3.1.conv2.weight")
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert (backbone.bn1.weight == 1).all()
    assert (backbone.bn1.bias == 0).all()


def test_unknown_depth_is_refused():
    with pytest.raises(ValueError, match="depth is 20; known are 18, 34, 50, 101, 152"):
        ResNet(20)
