"""The network: published size and cost, shapes, saving, compilation, and how far passes see."""

import copy
import errno
import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.flop_counter import FlopCounterMode

from ccnet import CCNet
from ccnet.backbones import Tiny
from tests.conftest import new_tiny_model, small

AUTHORS = {
    "stem": "deep_64",
    "dilation": "uniform",
    "ceil_mode": True,
    "activation": "leaky_relu",
    "auxiliary_channels": 512,
    "auxiliary_bias": True,
    "align_corners": True,
}


@pytest.mark.slow
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
@pytest.mark.slow
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


@pytest.mark.parametrize("align_corners", [False, True])
def test_logits_are_upsampled_as_asked(align_corners):
    model, images = small(align_corners=align_corners), torch.randn(1, 3, 33, 47)
    with torch.no_grad():
        coarse = model.head(model.backbone(images)[-1])
        expected = F.interpolate(coarse, (33, 47), mode="bilinear", align_corners=align_corners)
        assert torch.equal(model(images), expected)


def test_the_embedding_comes_last_and_changes_nothing_else(tmp_path):
    plain, model = small(), small(embedding_channels=4)
    model.load_state_dict(plain.state_dict(), strict=False)
    images = torch.randn(2, 3, 33, 47)
    *logits, embedding = model(images, auxiliary=True, embedding=True)
    assert all(map(torch.equal, logits, plain(images, auxiliary=True)))
    assert torch.equal(model(images), plain(images))
    assert torch.equal(model(images, embedding=True), plain(images))
    assert embedding.shape[:2] == (2, 4)
    model.save_pretrained(tmp_path)
    loaded = CCNet.from_pretrained(tmp_path)
    assert torch.equal(loaded(images, auxiliary=True, embedding=True)[-1], embedding)


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


def test_saving_replaces_links_and_does_not_follow_them(tmp_path):
    names = ("config.json", "model.safetensors", "README.md")
    for name, target in zip(names, ("a", "b", "missing"), strict=True):
        (tmp_path / "folder").mkdir(exist_ok=True)
        (tmp_path / "folder" / name).symlink_to(tmp_path / target)
    for target in "ab":
        (tmp_path / target).write_text("kept")
    small().save_pretrained(tmp_path / "folder")
    CCNet.from_pretrained(tmp_path / "folder")
    assert [(tmp_path / target).read_text() for target in "ab"] == ["kept"] * 2
    assert not (tmp_path / "missing").exists()
    assert not any((tmp_path / "folder" / name).is_symlink() for name in names)


def test_saving_that_fails_leaves_no_model_rather_than_half_of_one(tmp_path, monkeypatch):
    model = small()
    model.save_pretrained(tmp_path)
    before = (tmp_path / "model.safetensors").read_bytes()

    def fail(_, path):
        Path(path).write_bytes(before[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("ccnet.models.ccnet.save_model", fail)
    with pytest.raises(OSError, match=r"model\.safetensors could not be written: no space is left"):
        model.save_pretrained(tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "model.safetensors"]
    with pytest.raises(FileNotFoundError, match=r"it has no config\.json"):
        CCNet.from_pretrained(tmp_path)


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
@pytest.mark.unchecked
def test_an_exported_model_takes_other_sizes(tiny_model):
    size = {2: torch.export.Dim("height", min=32), 3: torch.export.Dim("width", min=32)}
    program = torch.export.export(tiny_model, (torch.randn(1, 3, 48, 64),), dynamic_shapes=(size,))
    images = torch.randn(1, 3, 65, 41)
    torch.testing.assert_close(program.module()(images), tiny_model(images))


@pytest.mark.slow
@pytest.mark.unchecked
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
