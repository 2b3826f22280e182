"""Networks of timm as backbones: maps, strides, normalization, and what is refused."""

import json
import resource
import subprocess
import sys

import pytest
import torch
from safetensors.torch import save_file

from ccnet import CCNet, Predictor
from ccnet.backbones import Timm, create_backbone

pytestmark = pytest.mark.usefixtures("torchvision_operators")


@pytest.mark.parametrize(
    ("name", "asked", "stride", "first_map"),
    [
        ("resnet18", 8, 8, 2),
        ("resnet18", None, 8, 2),
        ("resnet18", 16, 16, 2),
        ("resnet18", 32, 32, 2),
        ("convnext_atto", 8, 8, 4),
        ("convnext_atto", None, 8, 4),
        ("vit_tiny_patch16_224", None, 16, 16),
        ("vit_tiny_patch16_224", 16, 16, 16),
        ("efficientnet_b0", 16, 16, 2),
        ("tf_efficientnet_lite0", None, 8, 2),
    ],
)
@pytest.mark.slow
def test_maps_have_their_channels_and_strides(name, asked, stride, first_map):
    options = {} if asked is None else {"output_stride": asked}
    backbone = create_backbone(f"timm/{name}", **options).eval()
    assert isinstance(backbone, Timm)
    assert backbone.output_stride == stride
    with torch.no_grad():
        maps = backbone(torch.randn(1, 3, 64, 96))
    assert [features.shape[1] for features in maps] == list(backbone.out_channels)
    assert [64 // features.shape[2] for features in maps] == list(backbone.strides)
    assert tuple(maps[0].shape[2:]) == (64 // first_map, 96 // first_map)
    assert tuple(maps[-1].shape[2:]) == (64 // stride, 96 // stride)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "vit_tiny_patch16_224"])
@pytest.mark.slow
def test_a_ccnet_on_timm_trains_at_any_size_and_comes_back(name, tmp_path):
    model = CCNet(3, f"timm/{name}", channels=8, auxiliary_channels=8).train()
    main, auxiliary = model(torch.randn(2, 3, 75, 97), auxiliary=True)
    assert main.shape == auxiliary.shape == (2, 3, 75, 97)
    (main.sum() + auxiliary.sum()).backward()
    parameters = dict(model.backbone.named_parameters())
    reached = [key for key, parameter in parameters.items() if parameter.grad is not None]
    assert reached == list(parameters)
    model.save_pretrained(tmp_path)
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    expected = Predictor(model, device="cpu").predict(image)
    assert (Predictor(tmp_path, device="cpu").predict(image) == expected).all()


@pytest.mark.parametrize(
    ("name", "mean"),
    [("vit_tiny_patch16_224", (127.5, 127.5, 127.5)), ("resnet18", (123.675, 116.28, 103.53))],
)
@pytest.mark.slow
def test_normalization_is_that_of_the_networks_weights(name, mean):
    model = CCNet(3, f"timm/{name}", channels=8)
    assert model.mean.flatten().tolist() == pytest.approx(mean)
    assert CCNet(3, f"timm/{name}", channels=8, mean=(1, 2, 3)).mean.flatten().tolist() == [1, 2, 3]


@pytest.mark.slow
def test_channels_may_be_others():
    backbone = create_backbone("timm/resnet18", in_channels=5)
    assert backbone.state_dict()[backbone.first_convolution].shape[1] == 5
    model = CCNet(3, "timm/vit_tiny_patch16_224", channels=8).adapted(in_channels=2)
    assert model(torch.randn(1, 2, 64, 64)).shape == (1, 3, 64, 64)


@pytest.mark.parametrize(
    ("name", "options", "words"),
    [
        ("resnet19", {}, r"timm has no resnet19"),
        ("convnext_tinny", {}, r"timm has no convnext_tinny; it has convnext"),
        ("vit_tiny_patch16_224", {"output_stride": 8}, "output_stride 8, only 16"),
        ("hrnet_w18", {"output_stride": 8}, "output_stride 8, only 32"),
        ("hrnet_w18", {}, "does not take images of any size"),
        ("mixer_s16_224", {}, "does not take images of any size"),
        ("swin_tiny_patch4_window7_224", {}, "does not take images of any size"),
        ("resnet18", {"stem": "plain"}, "timm/resnet18 has no option stem; it has output_stride"),
    ],
)
@pytest.mark.slow
def test_what_a_network_can_not_give_is_told(name, options, words):
    with pytest.raises(ValueError, match=words):
        create_backbone(f"timm/{name}", **options)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "*" * 90,
        "x" * 10_000,
        "hf-hub:owner/name",
        "../resnet18",
        "resnet18\n",
        "resnet18.no_tag",
    ],
)
def test_a_hostile_name_is_refused_in_one_short_line(name):
    with pytest.raises(ValueError, match=r"^timm") as caught:
        create_backbone(f"timm/{name}")
    assert len(str(caught.value)) < 300


@pytest.mark.slow
def test_a_network_of_timm_is_not_allocated_for_other_weights(tmp_path):
    CCNet(3, "tiny", channels=8).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(
        json.dumps(config | {"backbone": "timm/vit_giant_patch14_224"})
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ValueError, match=r"holds no usable model: \d+ missing"):
        CCNet.from_pretrained(tmp_path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 1 << 19  # 512 MiB of 4 GB


def test_a_network_without_imagenet_weights_is_told_so():
    with pytest.raises(ValueError, match="timm has no weights for resnetv2_50d; leave pretrained"):
        create_backbone("timm/resnetv2_50d", pretrained="imagenet")


@pytest.mark.slow
def test_a_saved_backbone_is_read_and_a_file_of_timms_own_where_the_names_agree(tmp_path):
    import timm

    source = create_backbone("timm/resnet18")
    save_file(source.state_dict(), tmp_path / "ours.safetensors")
    target = create_backbone("timm/resnet18", pretrained=tmp_path / "ours.safetensors")
    torch.testing.assert_close(target.state_dict(), source.state_dict())
    for name in ("tf_efficientnet_lite0", "resnet18", "convnext_atto"):
        theirs = timm.create_model(name).state_dict()
        save_file(theirs, tmp_path / f"{name}.safetensors")
        if name == "convnext_atto":
            with pytest.raises(ValueError, match=r"atto.*of timm's own.*give \"imagenet\""):
                create_backbone(f"timm/{name}", pretrained=tmp_path / f"{name}.safetensors")
            continue
        read = create_backbone(f"timm/{name}", pretrained=tmp_path / f"{name}.safetensors")
        own = read.state_dict()
        assert all(torch.equal(own[key], theirs[key.removeprefix("network.")]) for key in own)
    with pytest.raises(ValueError, match=r"does not fit Timm: .* missing"):
        create_backbone("timm/resnet34", pretrained=tmp_path / "resnet18.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_efficientnet_lite_reads_its_weights_and_takes_its_normalization(shared_data, name):
    file = shared_data / "weights" / f"{name}_imagenet.safetensors"
    model = CCNet(3, f"timm/{name}", channels=8, pretrained=file)
    assert model.mean.flatten().tolist() == model.std.flatten().tolist() == [127.5] * 3
    assert model.backbone.strides == (2, 4, 8, 8, 8)
    first = model.backbone.state_dict()[model.backbone.first_convolution]
    assert first.abs().max() > 0.5  # trained, not initialized


@pytest.mark.slow
def test_without_timm_the_error_says_what_to_install():
    program = """
import sys
sys.modules["timm"] = None
from ccnet.backbones import create_backbone
try:
    create_backbone("timm/resnet18")
except ValueError as error:
    print(error)
"""
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install 'criss-cross[timm]'" in result.stdout, result.stderr


@pytest.mark.slow
def test_a_network_is_probed_once_in_a_process(monkeypatch):
    runs = []
    forward = Timm.forward
    monkeypatch.setattr("ccnet.backbones.timm._PROBED", set())
    monkeypatch.setattr(
        Timm, "forward", lambda self, x: (runs.append(x.shape), forward(self, x))[1]
    )
    for options in ({}, {}, {"output_stride": 8}, {"output_stride": 16}, {"in_channels": 1}):
        assert create_backbone("timm/resnet18", **options).training
    assert [shape[1] for shape in runs] == [3, 3, 1]  # by stride and channels
    for _ in range(2):
        with pytest.raises(ValueError, match="does not take images of any size"):
            create_backbone("timm/mixer_s16_224")
    assert len(runs) == 5  # what is refused is refused again
