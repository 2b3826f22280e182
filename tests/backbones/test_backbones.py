import pytest
import torch
from torch import Tensor, nn

from ccnet.backbones import (
    BACKBONES,
    MobileNetV2,
    ResNet,
    Tiny,
    create_backbone,
)


@pytest.fixture
def on_meta():
    with torch.device("meta"):
        yield


def sides(maps: list[Tensor]) -> list[tuple[int, ...]]:
    return [tuple(features.shape[-2:]) for features in maps]


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
def test_resnet_maps_have_their_strides_and_channels(depth, output_stride, dilation):
    backbone = ResNet(depth, output_stride=output_stride, dilation=dilation)
    maps = backbone(torch.empty(2, 3, 64, 128))
    strides = [min(stride, output_stride) for stride in (4, 8, 16, 32)]
    assert sides(maps) == [(64 // stride, 128 // stride) for stride in strides]
    assert [features.shape[1] for features in maps] == list(backbone.out_channels)
    assert backbone.output_stride == output_stride


@pytest.mark.usefixtures("on_meta")
@pytest.mark.parametrize("output_stride", [8, 16, 32])
def test_mobilenet_maps_have_their_strides_and_channels(output_stride):
    backbone = MobileNetV2(output_stride=output_stride)
    maps = backbone(torch.empty(2, 3, 64, 128))
    strides = [min(stride, output_stride) for stride in (2, 4, 8, 16, 32)]
    assert sides(maps) == [(64 // stride, 128 // stride) for stride in strides]
    assert [features.shape[1] for features in maps] == list(backbone.out_channels)


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


def randomise_norms(backbone: nn.Module) -> None:
    for module in backbone.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (75, 97)])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2"])
def test_contracted_dilation_adds_pixels_between_those_of_the_undilated_network(name, size):
    torch.manual_seed(0)
    plain = create_backbone(name, output_stride=32).double().eval()
    randomise_norms(plain)
    dense = create_backbone(name, output_stride=8).double().eval()
    dense.load_state_dict(plain.state_dict())
    images = torch.randn(1, 3, *size, dtype=torch.float64)
    with torch.no_grad():
        expected, got = plain(images)[-1], dense(images)[-1]
    torch.testing.assert_close(got[..., ::4, ::4], expected)


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
def test_pooling_rounds_as_asked(size, ceil_mode, expected, stem):
    backbone = ResNet(18, stem=stem, ceil_mode=ceil_mode)
    assert sides(backbone(torch.empty(1, 3, *size)))[-1] == expected


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (41, 32)])
@pytest.mark.parametrize("name", ["resnet18", "resnet50", "mobilenet_v2", "tiny"])
def test_any_size_from_32_trains(name, size):
    backbone = create_backbone(name)
    maps = backbone(torch.randn(1, 3, *size))
    assert sides(maps)[-1] == tuple(-(-side // backbone.output_stride) for side in size)
    maps[-1].sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_tiny_sees_seven_pixels():
    backbone = Tiny(8).double().eval()
    randomise_norms(backbone)
    images = torch.randn(1, 3, 40, 40, dtype=torch.float64, requires_grad=True)
    fine, coarse = backbone(images)
    assert sides([fine, coarse]) == [(20, 20), (10, 10)]
    (gradient,) = torch.autograd.grad(coarse[0, :, 5, 5].sum(), images)
    rows, columns = gradient[0].abs().sum(0).nonzero().T
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (17, 23, 17, 23)


def test_convolutions_start_as_torchvision_starts_them():
    torch.manual_seed(0)
    backbone = ResNet(50)
    weight = backbone.get_parameter("layer3.1.conv2.weight")
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.01)
    assert (backbone.bn1.weight == 1).all()
    assert (backbone.bn1.bias == 0).all()


# Choosing a backbone


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


def test_unknown_depth_is_refused():
    with pytest.raises(ValueError, match="depth is 20; known are 18, 34, 50, 101, 152"):
        ResNet(20)


@pytest.mark.parametrize("name", ["resnet18", "mobilenet_v2", "tiny"])
def test_images_may_have_other_channels(name):
    backbone = create_backbone(name, in_channels=6)
    assert backbone.state_dict()[backbone.first_convolution].shape[1] == 6
    assert backbone(torch.randn(1, 6, 32, 32))[-1].shape[0] == 1
