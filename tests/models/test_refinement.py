"""The refinement: its form, its cost, any backbone and size, and all that a network is used for."""

import copy
import json

import pytest
import torch
import torch.nn.functional as F
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.parallel import DistributedDataParallel
from torch.utils.flop_counter import FlopCounterMode

from ccnet import CCNet, CCNetHead
from ccnet.models.refinement import Refinement, finer_maps
from ccnet.training.assembly import recompute_parts
from tests.conftest import in_processes, new_tiny_model, small, with_gamma, with_statistics


def new_refinement(**options) -> Refinement:
    arguments = {"activation": "relu", "align_corners": False, **options}
    return Refinement(256, (24, 16), (4, 2), **arguments).eval()


def test_each_stage_has_the_size_of_its_map_and_channels_by_its_stride():
    refinement = new_refinement()
    features, finer = torch.randn(2, 256, 5, 6), [torch.randn(2, 24, 9, 12)]
    finer.append(torch.randn(2, 16, 17, 23))
    assert refinement.stages[0](features, finer[0]).shape == (2, 128, 9, 12)
    assert refinement(features, finer).shape == (2, refinement.out_channels, 17, 23)
    assert refinement.out_channels == 64
    narrow = Refinement(8, (24,), (4,), activation="relu", align_corners=False)
    assert narrow.out_channels == 8


@pytest.mark.parametrize("align_corners", [False, True])
def test_features_are_upsampled_as_asked(align_corners):
    stage, seen = new_refinement(align_corners=align_corners).stages[0], []
    stage.fusion.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    features, finer = torch.randn(1, 256, 4, 4), torch.randn(1, 24, 7, 8)
    stage(features, finer)
    projected = stage.projection(features)
    expected = F.interpolate(projected, (7, 8), mode="bilinear", align_corners=align_corners)
    assert torch.equal(seen[0], expected + stage.finer_projection(finer))


def test_every_stride_needs_its_map():
    with pytest.raises(ValueError, match="one finer map per stride, got 2 strides and 1 maps"):
        Refinement(8, (24,), (4, 2), activation="relu", align_corners=False)
    with pytest.raises(ValueError, match="got 1 strides and 0 maps"):
        CCNetHead(12, 5, 8, refinement=[4])
    with pytest.raises(ValueError, match="is shorter"):
        new_refinement()(torch.randn(1, 256, 4, 4), [torch.randn(1, 24, 8, 8)])


@pytest.mark.parametrize(
    ("strides", "refinement", "indices"),
    [
        ((2, 4, 8, 8, 8), None, ()),
        ((2, 4, 8, 8, 8), [4, 2], (1, 0)),
        ((2, 4, 8, 16, 16), [8, 2], (2, 0)),
        ((2, 4), [2], (0,)),
    ],
)
def test_the_first_map_of_each_stride_is_taken(strides, refinement, indices):
    assert finer_maps(strides, refinement) == indices


@pytest.mark.parametrize(
    ("strides", "stride", "there_are"),
    [((2, 4, 8, 8, 8), 8, "4, 2"), ((4, 8, 8, 8), 2, "4"), ((16, 16), 4, "none")],
)
def test_a_stride_without_a_finer_map_is_told_with_those_that_there_are(strides, stride, there_are):
    words = rf"output stride {strides[-1]}, got stride {stride}; .* of stride {there_are}$"
    with pytest.raises(ValueError, match=words):
        finer_maps(strides, [stride])


@pytest.mark.parametrize(
    "value", [[], [2, 4], [4, 4], [0], [True], [4.0], 4, "4", [64, 32, 8, 4, 2]]
)
def test_values_that_are_no_strides_from_coarse_to_fine_are_refused(value):
    with pytest.raises(ValueError, match=r"refinement must be strides from coarse to fine"):
        small(refinement=value)


# In a network


@pytest.mark.parametrize("size", [(32, 32), (33, 47), (65, 41)], ids=str)
@pytest.mark.parametrize(
    ("backbone", "options"),
    [
        ("tiny", {"refinement": [2]}),
        ("mobilenet_v2", {"refinement": [4, 2]}),
        ("mobilenet_v2", {"refinement": [8, 4], "output_stride": 16}),
        ("resnet18", {"refinement": [4]}),
        ("resnet18", {"refinement": [4, 2], "ceil_mode": True, "align_corners": True}),
        ("resnet18", {"refinement": [4, 2], "stem": "deep_32", "output_stride": 16}),
        ("resnet18", {"refinement": [2], "stem": "deep_64", "dilation": "uniform"}),
        ("resnet50", {"refinement": [4, 2]}),
    ],
    ids=str,
)
@pytest.mark.slow
def test_any_backbone_gives_logits_at_the_images_size(backbone, options, size):
    model, images, sizes = small(backbone, **options), torch.randn(2, 3, *size), []
    model.head.attention.register_forward_hook(lambda *args: sizes.append(args[1][0].shape[-2:]))
    model.head.register_forward_hook(lambda *args: sizes.append(args[2].shape[-2:]))
    main, auxiliary = model.train()(images, auxiliary=True)
    assert main.shape == auxiliary.shape == (2, 3, *size)
    coarse = [-(-side // model.backbone.output_stride) for side in size]
    fine = [-(-side // options["refinement"][-1]) for side in size]
    found = [list(side) for side in sizes]
    assert found == [coarse, fine] or options.get("ceil_mode")
    (main.square().mean() + auxiliary.square().mean()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())


@pytest.mark.usefixtures("torchvision_operators")
@pytest.mark.slow
def test_networks_of_timm_are_refined_where_they_have_the_maps():
    for name in ("tf_efficientnet_lite0", "resnet18"):
        model = small(f"timm/{name}", refinement=[4, 2])
        assert model(torch.randn(1, 3, 75, 97)).shape == (1, 3, 75, 97)
    assert small("timm/convnext_atto", refinement=[4])(torch.randn(1, 3, 75, 97)).isfinite().all()
    with pytest.raises(ValueError, match="got stride 2; there are maps of stride 4"):
        small("timm/convnext_atto", refinement=[4, 2])
    with pytest.raises(ValueError, match="there are maps of stride none"):
        small("timm/vit_tiny_patch16_224", refinement=[4])


def test_without_refinement_nothing_is_as_new():
    model = small()
    assert model.head.refinement is None
    assert "refinement" not in model.arguments  # nor in config.json, which older versions read
    assert not any("refinement" in key for key in model.state_dict())
    assert small(refinement=None).arguments == model.arguments


def test_maps_that_no_one_needs_are_given_back():
    """The stem's map of a ResNet is the largest one."""
    model, alive = small("resnet18"), []
    kept = torch.utils.weak.WeakTensorKeyDictionary()
    model.backbone.maxpool.register_forward_pre_hook(lambda _, inputs: kept.update({inputs[0]: 1}))
    model.head.register_forward_pre_hook(lambda *_: alive.append(len(kept)))
    with torch.no_grad():
        model(torch.randn(1, 3, 64, 64))
    assert alive == [0]


@pytest.mark.parametrize(
    ("size", "stride_4", "both"), [((360, 480), 3.4, 6.9), ((512, 1024), 10.4, 21.0)]
)
@pytest.mark.slow
def test_the_cost_is_bounded(size, stride_4, both):
    """GFLOP that are added to MobileNetV2 with 256 channels, which has 26 at 480×360."""

    def gflop(refinement):
        with FakeTensorMode(), FlopCounterMode(display=False) as counter:
            model = CCNet(11, "mobilenet_v2", channels=256, refinement=refinement).eval()
            model(torch.empty(1, 3, *size))
        return counter.get_total_flops() / 1e9

    plain = gflop(None)
    assert gflop([4]) - plain == pytest.approx(stride_4, abs=0.1)
    assert gflop([4, 2]) - plain == pytest.approx(both, abs=0.1)
    assert both < 0.3 * plain


@pytest.mark.slow
def test_a_line_of_two_pixels_is_learned():
    """At stride 4 and without refinement the same network cannot tell where the line is."""

    def error(**options) -> float:
        torch.manual_seed(0)
        model = CCNet(2, "tiny", channels=16, auxiliary_channels=None, dropout=0, **options)
        images = torch.zeros(8, 3, 32, 32)
        labels = torch.zeros(8, 32, 32, dtype=torch.long)
        for index in range(8):
            images[index, :, :, 3 * index + 4 : 3 * index + 6] = 1
            labels[index, :, 3 * index + 4 : 3 * index + 6] = 1
        optimizer = torch.optim.AdamW(model.parameters(), 1e-2)
        for _ in range(60):
            loss = F.cross_entropy(model.train()(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        wrong = model(images).argmax(1) != labels
        return (wrong.sum() / labels.sum()).item()

    assert error(refinement=[2]) < 0.05
    assert error() > 0.1


# What a network is used for


def refined(**options) -> CCNet:
    return with_gamma(small(refinement=[2], **options))


def test_a_saved_network_comes_back_as_it_was(tmp_path):
    model, images = refined(), torch.randn(1, 3, 33, 47)
    model.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["refinement"] == [2]
    assert torch.equal(CCNet.from_pretrained(tmp_path)(images), model(images))
    assert torch.equal(copy.deepcopy(model)(images), model(images))


def test_other_classes_keep_the_refinement(caplog):
    model = refined()
    own, other = model.state_dict(), model.adapted(num_classes=5).state_dict()
    renewed = {key for key in own if not torch.equal(own[key], other[key])}
    assert {key.rpartition(".")[0] for key in renewed} == {"head.classifier", "auxiliary_head.4"}
    assert "new for 5 classes instead of 3" in caplog.text


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(None, [4, 2]), ([4, 2], None), ([4], [2])])
def test_another_refinement_keeps_all_before_it_and_says_so(before, after, caplog, tmp_path):
    model = small("resnet18", refinement=before)
    model.save_pretrained(tmp_path)
    twin = CCNet.from_pretrained(tmp_path, refinement=after)
    assert twin.arguments.get("refinement") == after
    assert caplog.messages == ["new: head.refinement, head.classifier"]
    own, other = model.state_dict(), twin.state_dict()
    same = {key for key in own.keys() & other.keys() if torch.equal(own[key], other[key])}
    new = ("head.refinement.", "head.classifier.")
    assert {key for key in other if not key.startswith(new)} <= same
    assert not any(key.endswith("classifier.weight") for key in same)
    assert twin(torch.randn(1, 3, 33, 47)).shape == (1, 3, 33, 47)
    assert twin.adapted(refinement=after).state_dict().keys() == other.keys()


@pytest.mark.parametrize(
    "parts", [["head.refinement"], ["head"], ["head.refinement.stages.0", "head.attention"]]
)
def test_recomputed_parts_give_the_same_gradients(parts):
    def gradients(model: CCNet) -> list[torch.Tensor]:
        torch.manual_seed(0)
        logits = model.train()(torch.randn(2, 3, 33, 40, dtype=torch.float64))
        logits.square().mean().backward()
        return [p.grad for p in model.parameters() if p.grad is not None]

    plain, model = refined().double(), refined().double()
    model.load_state_dict(plain.state_dict())
    recompute_parts(model, parts)
    assert all(map(torch.equal, gradients(model), gradients(plain)))


def test_channels_last_and_half_precision_agree():
    model, images = with_statistics(refined()), torch.randn(2, 3, 40, 56)
    expected = model(images)
    form = copy.deepcopy(model).to(memory_format=torch.channels_last)
    found = form(images.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    with torch.autocast("cpu", torch.bfloat16):
        half = model(images)
    assert (half - expected).abs().max() < 0.05 * expected.abs().max()


def distributed_gradients() -> list[list[float]]:
    torch.manual_seed(0)
    model = DistributedDataParallel(small(refinement=[2]).train())
    torch.manual_seed(torch.distributed.get_rank())
    for _ in range(2):  # a parameter without gradient is told in the second step
        model.zero_grad()
        sum(x.square().mean() for x in model(torch.randn(2, 3, 32, 40), auxiliary=True)).backward()
    return [parameter.grad.flatten().tolist() for parameter in model.parameters()]


@pytest.mark.slow
def test_processes_share_the_gradients_of_the_refinement():
    first, second = in_processes(2, distributed_gradients)
    assert first == second


@pytest.mark.slow
@pytest.mark.unchecked
def test_it_compiles_to_one_graph():
    torch.compiler.reset()
    model, images = refined(), torch.randn(1, 3, 33, 40)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(images), model(images))


def test_the_reach_of_the_attention_is_not_changed():
    """Two passes reach every pixel, also from the finer map's place."""
    model = new_tiny_model().double().adapted(refinement=[2])
    with_gamma(model, 0.5)
    images = torch.randn(1, 3, 32, 40, dtype=torch.float64, requires_grad=True)
    (gradient,) = torch.autograd.grad(model(images)[0, :, 17, 3].square().sum(), images)
    assert (gradient[0].abs().sum(0) > 0).all()
