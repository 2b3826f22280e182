"""The network: published size and cost, shapes, saving, compilation, and how far passes see."""

import copy
import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ccnet import CCNet, CCNetHead
from ccnet.backbones import Tiny
from tests.conftest import new_tiny_model

AUTHORS = {
    "stem": "deep_64",
    "dilation": "uniform",
    "ceil_mode": True,
    "activation": "leaky_relu",
    "auxiliary_channels": 512,
    "auxiliary_bias": True,
    "align_corners": True,
}


def small(backbone: str = "tiny", **options) -> CCNet:
    return CCNet(3, backbone, channels=8, **{"auxiliary_channels": 8, **options}).eval()


def test_the_authors_network_has_the_published_number_of_parameters():
    with torch.device("meta"):
        model = CCNet(19, **AUTHORS)
    counts = {
        name: sum(parameter.numel() for parameter in part.parameters())
        for name, part in model.named_children()
    }
    assert counts == {
        "backbone": 42_623_936,
        "head": 23_934_100,
        "auxiliary_head": 4_729_875,
    }
    assert sum(counts.values()) == 71_287_911


@pytest.mark.parametrize(("auxiliary", "gflop"), [(True, 1395.76), (False, 1306.79)])
def test_a_crop_of_769_costs_as_much_as_published(auxiliary, gflop):
    with FakeTensorMode(), FlopCounterMode(display=False) as counter:
        model = CCNet(19, **AUTHORS).eval()
        model(torch.empty(1, 3, 769, 769), auxiliary=auxiliary)
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, abs=0.01)


def test_the_auxiliary_head_is_computed_only_when_asked_for():
    def refuse(*_):
        raise AssertionError("computed")

    model = small()
    model.auxiliary_head[0].register_forward_pre_hook(refuse)
    images = torch.randn(1, 3, 32, 32)
    for training in (False, True):
        assert model.train(training)(images.expand(2, -1, -1, -1)).shape == (2, 3, 32, 32)
    with pytest.raises(AssertionError, match="computed"):
        model(images, auxiliary=True)


def test_auxiliary_logits_come_second_and_only_from_a_model_that_has_them():
    images = torch.randn(1, 3, 32, 48)
    model = small()
    main, other = model(images, auxiliary=True)
    assert main.shape == other.shape == (1, 3, 32, 48)
    assert torch.equal(main, model(images))
    assert len(small(auxiliary_channels=None)(images, auxiliary=True)) == 1


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (65, 97)], ids=str)
@pytest.mark.parametrize("backbone", ["tiny", "mobilenet_v2", "resnet18"])
def test_logits_have_the_images_size(backbone, size):
    with torch.no_grad():
        logits = small(backbone)(torch.randn(1, 3, *size))
    assert logits.shape == (1, 3, *size)
    assert logits.isfinite().all()


def test_no_recurrence_keeps_the_convolutions():
    with_none, with_two = (set(small(recurrence=r).state_dict()) for r in (0, 2))
    assert {key for key in with_two - with_none if "attention" not in key} == set()
    assert with_none == {key for key in with_two if "attention" not in key}
    assert small(recurrence=0)(torch.randn(1, 3, 32, 32)).shape == (1, 3, 32, 32)


@pytest.mark.parametrize("kernel_size", [1, 3])
def test_the_head_takes_any_features(kernel_size):
    head = CCNetHead(12, 5, 8, 3, kernel_size=kernel_size, shared=False).eval()
    assert head(torch.randn(2, 12, 7, 10)).shape == (2, 5, 7, 10)
    assert {part[0].kernel_size for part in (head.reduction, head.smoothing, head.fusion)} == {
        (kernel_size, kernel_size)
    }
    assert len(head.attention.passes) == 3


def test_the_fusion_sees_the_features_and_after_them_their_context():
    head, features = CCNetHead(12, 5, 8).eval(), torch.randn(1, 12, 4, 4)
    seen = []
    head.fusion.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    head(features)
    assert torch.equal(seen[0][:, :12], features)
    assert seen[0].shape == (1, 12 + 8, 4, 4)


@pytest.mark.parametrize("align_corners", [False, True])
def test_logits_are_upsampled_as_asked(align_corners):
    model, images = small(align_corners=align_corners), torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        coarse = model.head(model.backbone(images)[-1])
        expected = F.interpolate(coarse, (33, 47), mode="bilinear", align_corners=align_corners)
        assert torch.equal(model(images), expected)


def test_normalize_takes_the_mean_off_and_divides_by_the_deviation():
    model = small(mean=(0, 10, 20), std=(1, 2, 4))
    images = torch.full((1, 3, 2, 2), 30, dtype=torch.uint8)
    assert model.normalize(images).unique(dim=0).tolist() == [
        [[[value] * 2] * 2 for value in (30.0, 10.0, 2.5)]
    ]


# Saving and loading


def test_a_saved_model_comes_back_as_it_was(tmp_path, capsys):
    images = torch.randn(1, 3, 33, 47)
    model = CCNet(
        2,
        "tiny",
        channels=8,
        mean=(1, 2, 3),
        std=(4, 5, 6.5),
        classes=("no", "yes"),
        palette=((0, 0, 0), (255, 0, 9)),
    ).train()
    model(images.expand(2, -1, -1, -1))
    model.save_pretrained(tmp_path)
    loaded = CCNet.from_pretrained(tmp_path)
    assert not loaded.training
    assert torch.equal(loaded(images), model.eval()(images))
    assert loaded.classes == ("no", "yes")
    assert loaded.palette == ((0, 0, 0), (255, 0, 9))
    assert loaded.mean.flatten().tolist() == [1, 2, 3]
    assert loaded.std.flatten().tolist() == [4, 5, 6.5]
    assert loaded.auxiliary_head is not None
    assert capsys.readouterr() == ("", "")


def test_arrays_are_stored_as_well_as_tuples(tmp_path):
    model = small(
        mean=np.array([1, 2, 3]),
        std=torch.tensor([4.0, 5, 6]),
        classes=(name for name in "abc"),
        palette=np.eye(3, dtype=np.uint8),
    )
    model.save_pretrained(tmp_path)
    loaded = CCNet.from_pretrained(tmp_path)
    assert torch.equal(loaded.mean, model.mean)
    assert torch.equal(loaded.std, model.std)
    assert loaded.classes == ("a", "b", "c")
    assert loaded.palette == ((1, 0, 0), (0, 1, 0), (0, 0, 1))


@pytest.mark.parametrize("kind", [str, lambda path: path], ids=["str", "path"])
def test_backbone_weights_are_read_from_a_file_that_is_not_remembered(tmp_path, kind):
    source = Tiny()
    save_file(source.state_dict(), tmp_path / "tiny.safetensors")
    model = small(pretrained=kind(tmp_path / "tiny.safetensors"))
    torch.testing.assert_close(model.backbone.state_dict(), source.state_dict())
    model.save_pretrained(tmp_path / "model")
    assert "pretrained" not in json.loads((tmp_path / "model" / "config.json").read_text())
    (tmp_path / "tiny.safetensors").unlink()
    CCNet.from_pretrained(tmp_path / "model")


def test_a_config_that_names_weights_downloads_nothing(tmp_path):
    model = small()
    model.save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    for named in ("http://127.0.0.1:9/weights.pth", "imagenet", "/none.pth"):
        (tmp_path / "config.json").write_text(json.dumps(config | {"pretrained": named}))
        loaded = CCNet.from_pretrained(tmp_path)
        torch.testing.assert_close(loaded.state_dict(), model.state_dict())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"num_classes": 1}, "num_classes must be 2 to 255, got 1"),
        ({"kernel_size": 5}, "kernel_size must be 1 or 3, got 5"),
        ({"classes": ("a", "b")}, "classes has 2 entries for 3 classes"),
        ({"classes": ()}, "classes has 0 entries for 3 classes"),
        ({"palette": ((0, 0, 0),)}, "palette has 1 entries for 3 classes"),
        ({"backbone": "resnet19"}, "resnet18"),
        ({"stem": "plain"}, "tiny has no option stem"),
    ],
)
def test_arguments_that_do_not_fit_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        CCNet(**{"num_classes": 3, "backbone": "tiny", "channels": 8, **arguments})


# Other classes, other channels


def new_parts(model: CCNet, twin: CCNet) -> set[str]:
    own, other = model.state_dict(), twin.state_dict()
    assert list(own) == list(other)
    return {key for key in own if not torch.equal(own[key], other[key])}


CLASSIFIERS = {"head.classifier", "auxiliary_head.4"}


def test_other_classes_start_the_classifiers_anew_and_say_so(tmp_path, caplog):
    model = small(classes=("a", "b", "c"), palette=np.eye(3, dtype=np.uint8), mean=(1, 2, 3))
    model.save_pretrained(tmp_path)
    twin = CCNet.from_pretrained(tmp_path, num_classes=5)
    shapes = {key: value.shape for key, value in twin.state_dict().items()}
    assert shapes["head.classifier.weight"] == (5, 8, 1, 1)
    assert shapes["auxiliary_head.4.bias"] == (5,)
    renewed = {key.rpartition(".")[0] for key in new_parts(model, twin)}
    assert renewed == CLASSIFIERS
    assert twin.classes == tuple(f"class {index}" for index in range(5))
    assert twin.palette is None
    assert torch.equal(twin.mean, model.mean)
    assert not twin.training
    (message,) = caplog.messages
    assert message.startswith("new for 5 classes instead of 3: head.classifier.weight, ")
    assert all(part in message for part in CLASSIFIERS)
    twin.save_pretrained(tmp_path / "twin")
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(CCNet.from_pretrained(tmp_path / "twin")(images), twin(images))


def test_names_and_colours_go_with_other_classes(tmp_path):
    small().save_pretrained(tmp_path)
    twin = CCNet.from_pretrained(
        tmp_path, num_classes=2, classes=("no", "yes"), palette=((0, 0, 0), (1, 1, 1))
    )
    assert (twin.classes, twin.palette) == (("no", "yes"), ((0, 0, 0), (1, 1, 1)))


def test_as_many_classes_change_nothing(tmp_path, caplog):
    model = small(classes=("a", "b", "c"))
    model.save_pretrained(tmp_path)
    same = CCNet.from_pretrained(tmp_path, num_classes=3)
    assert new_parts(model, same) == set()
    assert same.classes == ("a", "b", "c")
    assert model.adapted() is model
    assert caplog.messages == []


@pytest.mark.parametrize("backbone", ["tiny", "resnet18", "mobilenet_v2"])
def test_other_channels_change_the_first_convolution_alone(tmp_path, backbone, caplog):
    model = small(backbone, mean=(1, 2, 3), std=(4, 5, 6))
    model.save_pretrained(tmp_path)
    twin = CCNet.from_pretrained(tmp_path, in_channels=5)
    first = f"backbone.{model.backbone.first_convolution}"
    own, other = model.state_dict()[first], twin.state_dict()[first]
    rest = model.state_dict().keys() - {first}
    assert all(torch.equal(model.state_dict()[key], twin.state_dict()[key]) for key in rest)
    assert other.shape[1] == 5
    for channel in range(5):
        torch.testing.assert_close(other[:, channel], own[:, channel % 3] * 3 / 5)
    assert twin.mean.flatten().tolist() == [1, 2, 3, 1, 2]
    assert twin.std.flatten().tolist() == [4, 5, 6, 4, 5]
    assert twin.classes == model.classes
    assert f"{first}: 5 channels made from 3" in caplog.messages
    assert twin(torch.randn(1, 5, 32, 32)).shape == (1, 3, 32, 32)


@pytest.mark.usefixtures("torchvision_operators")
def test_every_branch_of_a_stem_sees_the_other_channels(caplog):
    model = small("timm/repvgg_a0", auxiliary_channels=None)
    twin = model.adapted(in_channels=5)
    own, other = model.state_dict(), twin.state_dict()
    changed = {key for key in own if own[key].shape != other[key].shape}
    assert len(changed) == len(caplog.messages) == 2
    for key in changed:
        torch.testing.assert_close(other[key][:, 3], own[key][:, 0] * 3 / 5)
        assert f"{key}: 5 channels made from 3" in caplog.messages
    assert all(torch.equal(own[key], other[key]) for key in own.keys() - changed)


def test_other_names_for_as_many_classes_keep_the_classifiers_and_are_told(caplog):
    model = small(classes=("a", "b", "c"))
    twin = model.adapted(num_classes=3, classes=("d", "e", "f"))
    assert new_parts(model, twin) == set()
    assert twin.classes == ("d", "e", "f")
    assert caplog.messages == ["new names for 3 classes, trained classifiers"]


def test_an_adapted_model_keeps_its_numbers_and_its_device(tmp_path):
    model = small().double()
    assert {x.dtype for x in model.adapted(num_classes=4).parameters()} == {torch.float64}
    small().save_pretrained(tmp_path)
    loaded = CCNet.from_pretrained(tmp_path, map_location="meta")
    assert {x.device.type for x in (*loaded.parameters(), loaded.mean)} == {"meta"}


def test_a_grey_image_looks_to_one_channel_as_to_three():
    model = small(mean=(9, 9, 9), std=(2, 2, 2))
    twin = model.adapted(in_channels=1)
    grey = torch.randint(0, 256, (1, 1, 40, 40), dtype=torch.uint8)
    expected = model(model.normalize(grey.expand(1, 3, 40, 40)))
    torch.testing.assert_close(twin(twin.normalize(grey)), expected)


def test_channels_are_stored_and_their_number_is_checked(tmp_path):
    model = small(in_channels=4, mean=(1, 2, 3, 4), std=(1, 1, 1, 1))
    model.save_pretrained(tmp_path)
    loaded = CCNet.from_pretrained(tmp_path)
    assert loaded.in_channels == 4
    assert loaded.mean.flatten().tolist() == [1, 2, 3, 4]
    with pytest.raises(ValueError, match="mean has 3 entries for 4 channels"):
        small(in_channels=4, mean=(1, 2, 3))
    with pytest.raises(ValueError, match="in_channels must be ≥ 1, got 0"):
        small(in_channels=0)
    with pytest.raises(ValueError, match="backbone can't be changed; num_classes, in_channels"):
        model.adapted(backbone="resnet18")


def test_sixteen_bits_are_scaled_to_eight():
    model = small()
    bytes8 = torch.randint(0, 256, (1, 3, 4, 4), dtype=torch.uint8)
    bits16 = (bytes8.int() * 257).to(torch.uint16)
    torch.testing.assert_close(model.normalize(bits16), model.normalize(bytes8))


# Learning


def test_gradient_reaches_every_parameter():
    model = small(dropout=0.0).double().train()
    torch.nn.init.constant_(model.head.attention.passes[0].gamma, 0.5)
    logits = model(torch.randn(2, 3, 32, 40, dtype=torch.float64), auxiliary=True)
    sum((x * torch.randn_like(x)).sum() for x in logits).backward()
    # what shifts all scores of a pixel alike is lost in the softmax
    blind = {"head.attention.passes.0.key_conv.bias"}
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert (parameter.grad.abs().max() > 1e-9) == (name not in blind), name


def test_a_deep_copy_is_equal_and_its_own(tmp_path):
    model = new_tiny_model(recurrence=1)
    twin = copy.deepcopy(model)
    images = torch.randn(1, 3, 32, 32)
    assert torch.equal(twin(images), model(images))
    torch.nn.init.zeros_(twin.head.classifier.weight)
    assert not torch.equal(twin(images), model(images))
    twin.save_pretrained(tmp_path)
    assert torch.equal(CCNet.from_pretrained(tmp_path)(images), twin(images))


@pytest.mark.slow
def test_an_exported_model_takes_other_sizes(tiny_model):
    size = {2: torch.export.Dim("height", min=32), 3: torch.export.Dim("width", min=32)}
    program = torch.export.export(tiny_model, (torch.randn(1, 3, 48, 64),), dynamic_shapes=(size,))
    images = torch.randn(1, 3, 65, 41)
    torch.testing.assert_close(program.module()(images), tiny_model(images))


@pytest.mark.slow
def test_a_model_compiles_to_one_graph(tiny_model):
    torch.compiler.reset()
    compiled = torch.compile(tiny_model, fullgraph=True, backend="aot_eager")
    images = torch.randn(1, 3, 33, 40)
    torch.testing.assert_close(compiled(images), tiny_model(images))


# Context


@pytest.mark.parametrize("recurrence", [0, 1, 2])
def test_two_passes_see_the_whole_image_one_a_cross_and_none_seven_pixels(recurrence):
    model = new_tiny_model(recurrence).double()
    images = torch.randn(1, 3, 40, 48, dtype=torch.float64, requires_grad=True)
    logits = model.head(model.backbone(images)[-1])  # [1, 4, 10, 12]
    (gradient,) = torch.autograd.grad(logits[0, :, 5, 4].square().sum(), images)
    seen = gradient[0].abs().sum(0) > 0
    rows, columns = torch.zeros(40, dtype=torch.bool), torch.zeros(48, dtype=torch.bool)
    rows[17:24] = columns[13:20] = True  # 7×7 around (4·5, 4·4)
    row, column = rows[:, None], columns[None]
    expected = {0: row & column, 1: row | column, 2: torch.ones(40, 48, dtype=torch.bool)}
    assert torch.equal(seen, expected[recurrence])


def test_every_pixel_sees_every_other_after_two_passes():
    model = new_tiny_model().double()
    images = torch.randn(1, 3, 32, 32, dtype=torch.float64)

    def logits(x):
        return model.head(model.backbone(x)[-1])[0].square().sum(0)

    jacobian = torch.autograd.functional.jacobian(logits, images)  # [8, 8, 1, 3, 32, 32]
    assert (jacobian.abs().sum((2, 3)) > 0).all()
