"""MobileNetV2: its maps at each output stride."""

import pytest
import torch

from ccnet.backbones import MobileNetV2
from tests.backbones.conftest import sides


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize("output_stride", [8, 16, 32])
@pytest.mark.slow
def test_mobilenet_maps_have_their_strides_and_channels(output_stride):
    backbone = MobileNetV2(output_stride=output_stride)
    maps = backbone(torch.empty(2, 3, 64, 128))
    strides = [min(stride, output_stride) for stride in (2, 4, 8, 16, 32)]
    assert sides(maps) == [(64 // stride, 128 // stride) for stride in strides]
    assert [features.shape[1] for features in maps] == list(backbone.out_channels)


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(
    ("output_stride", "expected"), [(8, {1, 2, 4}), (16, {1, 2}), (32, {1})], ids=str
)
def test_depthwise_convolutions_are_dilated_where_a_stride_was_removed(output_stride, expected):
    backbone = MobileNetV2(output_stride=output_stride)
    convolutions = [m for m in backbone.modules() if isinstance(m, torch.nn.Conv2d)]
    assert {m.dilation[0] for m in convolutions if m.groups > 1} == expected
    assert {m.dilation[0] for m in convolutions if m.groups == 1} == {1}
