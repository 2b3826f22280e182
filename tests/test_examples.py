"""Every script in examples/ does what it says. A CPU build of torch is enough."""

import importlib.util
import re
from functools import partial
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor, nn

from ccnet.backbones import create_backbone
from ccnet.datasets import Scenes

ROOT = Path(__file__).parents[1]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("torchvision_operators")]


def example(name: str) -> ModuleType:
    """The script examples/NAME.py as a module."""
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def varied(model: nn.Module) -> nn.Module:
    """The model in evaluation mode, with batch norms as after training, not the identity."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.1, 0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    return model.eval()


def set_gamma(model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if name.endswith("gamma"):
            nn.init.constant_(parameter, 0.5)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_short_and_say_how_they_are_run(path):
    text = path.read_text()
    assert len(text.splitlines()) <= 65
    assert f"python examples/{path.name}" in text


def test_the_package_does_not_import_lightning_s_trainer():
    for path in (ROOT / "ccnet").rglob("*.py"):
        assert not re.search(r"pytorch_lightning|lightning\.pytorch", path.read_text()), path


@pytest.mark.parametrize("depth", [18, 50])
@pytest.mark.parametrize("source", ["ccnet", "torchvision"])
def test_resnet_with_attention_before_res4_s_last_block_starts_as_it_was(source, depth):
    if source == "ccnet":
        network = create_backbone(f"resnet{depth}", output_stride=16)
    else:
        from torchvision.models import get_model

        network = get_model(f"resnet{depth}", weights=None)
    varied(network).double()
    images = torch.randn(1, 3, 64, 96, dtype=torch.float64)
    num_blocks = len(network.layer3)
    before = network(images)
    attention = example("mask_rcnn").add_attention(network.layer3).double()
    assert network.layer3[-2] is attention
    assert len(network.layer3) == num_blocks + 1
    assert attention.passes[0].value_conv.in_channels == (256 if depth == 18 else 1024)
    # not bitwise equal: the attention gives channels-last, which changes the order of sums
    torch.testing.assert_close(network(images), before, rtol=1e-9, atol=1e-9)
    set_gamma(network)
    change = network(images)[-1] - before[-1]
    assert change.abs().max() > 1e-3 * before[-1].abs().max()


def test_a_stage_of_one_block_is_refused():
    with pytest.raises(ValueError, match="two blocks or more, got 1"):
        example("mask_rcnn").add_attention(nn.Sequential(nn.Identity()))


def greedy_nms(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
    """Non-maximum suppression, in place of the compiled operator of torchvision."""
    from torchvision.ops import box_iou

    overlaps, kept = box_iou(boxes, boxes) > iou_threshold, []
    for index in scores.argsort(descending=True).tolist():
        if not overlaps[index, kept].any():
            kept.append(index)
    return torch.tensor(kept, dtype=torch.int64)


@pytest.fixture
def detector(monkeypatch):
    """An untrained Mask R-CNN of torchvision for small images."""
    import torchvision
    from torchvision.models.detection import maskrcnn_resnet50_fpn

    monkeypatch.setattr(torchvision.ops.boxes, "nms", greedy_nms)
    with torch.compiler.set_stance(
        "force_eager"
    ):  # the Python form of roi_align would call the compiler
        yield maskrcnn_resnet50_fpn(
            weights=None,
            weights_backbone=None,
            num_classes=5,
            min_size=64,
            max_size=96,
            rpn_pre_nms_top_n_test=100,
            rpn_post_nms_top_n_test=20,
            rpn_pre_nms_top_n_train=100,
            rpn_post_nms_top_n_train=20,
            box_score_thresh=0.0,
            box_detections_per_img=5,
        )


@pytest.mark.slow
def test_mask_rcnn_with_attention_detects_as_before_and_learns(detector):
    varied(detector)
    image = torch.rand(3, 64, 96)
    with torch.no_grad():
        before = detector([image])[0]
        attention = example("mask_rcnn").add_attention(detector.backbone.body.layer3)
        after = detector([image])[0]
    assert len(before["boxes"]) == len(after["boxes"]) == 5
    for key in ("boxes", "labels", "scores", "masks"):
        torch.testing.assert_close(after[key], before[key], rtol=1e-3, atol=1e-3)

    masks = torch.zeros(1, 64, 96, dtype=torch.uint8)
    masks[:, 8:40, 8:40] = 1
    target = {"boxes": torch.tensor([[8.0, 8, 40, 40]]), "labels": torch.ones(1, dtype=torch.int64)}
    losses = detector.train()([image], [{**target, "masks": masks}])
    sum(losses.values()).backward()
    gradient = attention.passes[0].gamma.grad
    assert gradient.isfinite()
    assert gradient != 0


@pytest.mark.parametrize("name", ["resnet18", "mobilenetv3_small_100", "convnext_atto"])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_timm_s_features_become_logits_of_the_images_size(name, output_stride):
    model = example("timm_backbone").TimmSegmentation(name, 5, 16, output_stride).eval()
    images = torch.randn(1, 3, 97, 129)
    assert model.encoder.feature_info.reduction()[-1] == output_stride
    with torch.no_grad():
        before = model(images)
        set_gamma(model)
        assert before.shape == (1, 5, 97, 129)
        assert not torch.allclose(model(images), before)


@pytest.mark.slow
def test_timm_s_network_learns_one_image():
    model = example("timm_backbone").TimmSegmentation("resnet18", 2, 16)
    images = torch.randn(2, 3, 64, 64)
    labels = (torch.arange(64) >= 32).long().expand(2, 64, 64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    losses = []
    for _ in range(12):
        loss = nn.functional.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.5 * losses[0]
    gamma = model.head.attention.passes[0].gamma
    assert gamma.abs() > 0


@pytest.mark.slow
def test_what_the_examples_print_is_what_they_say(monkeypatch, capsys):
    """Only those that take seconds; the detector is untrained, so that nothing is downloaded."""
    from torchvision.models import detection

    untrained = partial(detection.maskrcnn_resnet50_fpn, weights_backbone=None, num_classes=5)
    monkeypatch.setattr(detection, "maskrcnn_resnet50_fpn", lambda weights: untrained())
    for name in ("mask_rcnn", "smp_context"):
        example(name).main()
        (change,) = re.findall(r"changed by (\S+) .*at the start", capsys.readouterr().out)
        assert float(change) < 1e-5
    example("timm_backbone").main()
    assert capsys.readouterr().out == "resnet18 (1, 19, 193, 257)\n"


@pytest.mark.parametrize("architecture", ["Unet", "DeepLabV3Plus", "FPN", "PSPNet"])
def test_smp_s_decoder_with_context_starts_as_it_was_and_sees_everything(architecture):
    import segmentation_models_pytorch as smp

    model = getattr(smp, architecture)("resnet18", encoder_weights=None, classes=5)
    varied(model).double()
    images = torch.randn(1, 3, 128, 160, dtype=torch.float64)
    with torch.no_grad():
        before = model(images)
        assert example("smp_context").add_context(model) is model
        model.double()
        torch.testing.assert_close(model(images), before, rtol=1e-9, atol=1e-9)
        set_gamma(model)
        assert (model(images) - before).abs().max() > 1e-3 * before.abs().max()
    features = torch.randn(1, model.encoder.out_channels[-1], 6, 7, dtype=torch.float64)
    features.requires_grad_()
    model.decoder.context(features)[0, :, 0, 0].sum().backward()
    assert (features.grad.abs().sum((0, 1)) > 0).all()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dims", "recurrence", "least", "most"),
    [(1, 0, 0.4, 0.6), (1, 1, 0.99, 1), (2, 1, 0.6, 0.85), (2, 2, 0.99, 1), (3, 3, 0.99, 1)],
)
def test_series_and_volumes_need_as_many_passes_as_they_have_axes(dims, recurrence, least, most):
    share = example("series_and_volumes").train(dims, recurrence)
    assert least <= share <= most


def test_the_classes_of_series_and_volumes_are_their_markers_signs():
    markers = example("series_and_volumes").markers
    for dims, spatial in ((1, (64,)), (2, (8, 8)), (3, (4, 4, 4))):
        inputs, classes = markers(dims, batch=20)
        assert inputs.shape == (20, 1, *spatial)
        assert classes.shape == (20, *spatial)
        flat = inputs.flatten(1)
        marked = flat.gather(1, flat.abs().argmax(1, keepdim=True))
        assert torch.equal((marked > 0).long().expand(-1, 64), classes.flatten(1))
        assert classes.float().mean() not in (0, 1)


def fit(lit: nn.Module, folder: Path, epochs: int, checkpoint: Path | None = None) -> Path:
    """Train on 160 scenes, 20 steps per epoch, and return the checkpoint that Lightning wrote."""
    from pytorch_lightning import Trainer

    trainer = Trainer(
        accelerator="cpu",
        max_epochs=epochs,
        default_root_dir=folder,
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    scenes = torch.utils.data.DataLoader(Scenes("train", num_images=160), batch_size=8)
    trainer.fit(lit, scenes, ckpt_path=checkpoint)
    return folder / "checkpoints" / f"epoch={epochs - 1}-step={20 * epochs}.ckpt"


def held_out_loss(lit: nn.Module) -> float:
    batch = next(iter(torch.utils.data.DataLoader(Scenes("val"), batch_size=64)))
    lit.log = lambda *_, **__: None  # Lightning's own log needs a trainer
    with torch.no_grad():
        return lit.eval().training_step(batch, 0).item()


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore:The 'train_dataloader' does not have many workers",
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning",
    "ignore:Checkpoint directory .* exists and is not empty",
)
def test_lightning_s_trainer_learns_and_resumes_to_the_same_weights(tmp_path):
    LitCCNet = example("lightning_trainer").LitCCNet  # noqa: N806
    network = {"backbone": "tiny", "channels": 16, "kernel_size": 1, "auxiliary_channels": None}
    whole, interrupted, resumed = (LitCCNet(80, dropout=0.0, **network) for _ in range(3))
    interrupted.load_state_dict(whole.state_dict())
    before = held_out_loss(LitCCNet(80, dropout=0.0, **network))

    fit(whole, tmp_path / "whole", epochs=4)
    checkpoint = fit(interrupted, tmp_path / "interrupted", epochs=2)
    assert not torch.equal(parameters(interrupted), parameters(whole))
    fit(resumed, tmp_path / "interrupted", 4, checkpoint)
    assert torch.equal(parameters(resumed), parameters(whole))
    assert held_out_loss(whole) < 0.8 * before

    read = LitCCNet.load_from_checkpoint(checkpoint)
    assert torch.equal(parameters(read), parameters(interrupted))


def parameters(model: nn.Module) -> Tensor:
    """All parameters as one vector."""
    return nn.utils.parameters_to_vector(model.parameters())
