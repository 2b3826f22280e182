"""All backbones: published names and numbers of parameters, any size, and how one is chosen."""

import pytest
import torch

from ccnet.backbones import BACKBONES, backbone_options, create_backbone
from tests.backbones.conftest import randomize_norms, sides


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(
    ("name", "options", "count"),
    [
        ("resnet18", {}, 11_176_512),
        ("resnet34", {}, 21_284_672),
        ("resnet50", {}, 23_508_032),
        ("resnet101", {}, 42_500_160),
        ("resnet152", {}, 58_143_808),
        ("resnet101", {"stem": "deep_64"}, 42_623_936),
        ("mobilenet_v2", {}, 2_223_872 - (320 * 1280 + 2 * 1280)),
        ("tiny", {"channels": 64}, 32 * 27 + 64 * 32 * 9 + 2 * 32 + 2 * 64),
    ],
)
def test_parameters_are_as_many_as_published(name, options, count):
    backbone = create_backbone(name, **options)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == count


def batch_norm(name: str, channels: int) -> dict[str, tuple[int, ...]]:
    vectors = ("weight", "bias", "running_mean", "running_var")
    return {
        **{f"{name}.{vector}": (channels,) for vector in vectors},
        f"{name}.num_batches_tracked": (),
    }


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize(
    ("name", "options", "part", "expected"),
    [
        ("resnet18", {}, "conv1", {"conv1.weight": (64, 3, 7, 7)}),
        ("resnet18", {}, "bn1", batch_norm("bn1", 64)),
        (
            "resnet18",
            {},
            "layer2.0",
            {
                "layer2.0.conv1.weight": (128, 64, 3, 3),
                **batch_norm("layer2.0.bn1", 128),
                "layer2.0.conv2.weight": (128, 128, 3, 3),
                **batch_norm("layer2.0.bn2", 128),
                "layer2.0.downsample.0.weight": (128, 64, 1, 1),
                **batch_norm("layer2.0.downsample.1", 128),
            },
        ),
        (
            "resnet50",
            {},
            "layer1.2",
            {
                "layer1.2.conv1.weight": (64, 256, 1, 1),
                **batch_norm("layer1.2.bn1", 64),
                "layer1.2.conv2.weight": (64, 64, 3, 3),
                **batch_norm("layer1.2.bn2", 64),
                "layer1.2.conv3.weight": (256, 64, 1, 1),
                **batch_norm("layer1.2.bn3", 256),
            },
        ),
        (
            "resnet18",
            {"stem": "deep_32"},
            "stem",
            {
                "stem.0.weight": (32, 3, 3, 3),
                **batch_norm("stem.1", 32),
                "stem.3.weight": (32, 32, 3, 3),
                **batch_norm("stem.4", 32),
                "stem.6.weight": (64, 32, 3, 3),
                **batch_norm("stem.7", 64),
            },
        ),
        (
            "resnet50",
            {"stem": "deep_64"},
            "layer1.0.downsample",
            {
                "layer1.0.downsample.0.weight": (256, 128, 1, 1),
                **batch_norm("layer1.0.downsample.1", 256),
            },
        ),
        (
            "mobilenet_v2",
            {},
            "features.1",
            {
                "features.1.conv.0.0.weight": (32, 1, 3, 3),
                **batch_norm("features.1.conv.0.1", 32),
                "features.1.conv.1.weight": (16, 32, 1, 1),
                **batch_norm("features.1.conv.2", 16),
            },
        ),
        (
            "mobilenet_v2",
            {},
            "features.17",
            {
                "features.17.conv.0.0.weight": (960, 160, 1, 1),
                **batch_norm("features.17.conv.0.1", 960),
                "features.17.conv.1.0.weight": (960, 1, 3, 3),
                **batch_norm("features.17.conv.1.1", 960),
                "features.17.conv.2.weight": (320, 960, 1, 1),
                **batch_norm("features.17.conv.3", 320),
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_parameters_have_the_published_names_and_shapes(name, options, part, expected):
    backbone = create_backbone(name, **options)
    shapes = {key: tuple(value.shape) for key, value in backbone.state_dict().items()}
    assert {k: v for k, v in shapes.items() if k.startswith(f"{part}.")} == expected


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (75, 97)])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2"])
def test_contracted_dilation_adds_pixels_between_those_of_the_undilated_network(name, size):
    torch.manual_seed(0)
    plain = create_backbone(name, output_stride=32).double().eval()
    randomize_norms(plain)
    dense = create_backbone(name, output_stride=8).double().eval()
    dense.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        expected, got = plain(images)[-1], dense(images)[-1]
    torch.testing.assert_close(got[..., ::4, ::4], expected)


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (41, 32)])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "tiny"])
@pytest.mark.slow
def test_any_size_from_32_trains(name, size):
    backbone = create_backbone(name)
    maps = backbone(torch.randn(1, 3, *size))
    assert sides(maps)[-1] == tuple(-(-side // backbone.output_stride) for side in size)
    maps[-1].sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_names_are_listed():
    assert {"resnet18", "resnet101", "mobilenet_v2", "tiny"} <= set(BACKBONES)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("resnet19", {}, "resnet18, .*mobilenet_v2, tiny"),
        ("resnet18", {"output_stride": 4}, "output_stride is 4; known are 8, 16, 32"),
        ("mobilenet_v2", {"output_stride": 64}, "output_stride is 64; known are 8, 16, 32"),
        ("resnet18", {"stem": "v1d"}, "plain, deep_32, deep_64"),
        ("resnet18", {"dilation": "none"}, "contract, uniform"),
        ("resnet18", {"depth": 50}, "resnet18 has no option depth"),
        ("mobilenet_v2", {"stem": "plain"}, "no option stem; it has output_stride"),
        ("tiny", {"output_stride": 8}, "tiny has no option output_stride; it has channels"),
        ("tiny", {"channels": 1}, "channels is 1; at least 2"),
    ],
)
def test_unknown_choices_say_which_are_known(name, options, message):
    with pytest.raises(ValueError, match=message):
        create_backbone(name, **options)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "tiny"])
def test_images_may_have_other_channels(name):
    backbone = create_backbone(name, in_channels=6)
    assert backbone.state_dict()[backbone.first_convolution].shape[1] == 6
    assert backbone(torch.randn(1, 6, 32, 32))[-1].shape[0] == 1


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet18", ("in_channels", "output_stride", "stem", "dilation", "ceil_mode")),
        ("mobilenet_v2", ("output_stride", "in_channels")),
        ("timm/resnet18", ("output_stride", "in_channels")),
    ],
)
def test_options_are_listed(name, options):
    assert backbone_options(name) == options
