"""The prepared network computes what the model computes, whatever the model is made of."""

import copy
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from ccnet import CCNet
from ccnet.inference import prepared as module
from ccnet.inference.head import JoinedHead
from ccnet.inference.prepared import Prepared, prepare
from ccnet.inference.winograd import WinogradConv2d
from tests.conftest import small, with_statistics

pytestmark = [pytest.mark.unchecked, pytest.mark.slow]  # torch traces the annotated code


def wide(backbone: str = "resnet18", **options) -> CCNet:
    """A network whose head has convolutions wide enough for `WinogradConv2d`."""
    return with_statistics(CCNet(5, backbone, channels=128, auxiliary_channels=8, **options))


def calm(model: CCNet) -> CCNet:
    """The model with weak residual branches; strong ones would magnify rounding errors."""
    for block in model.backbone.modules():
        if type(block).__name__ in ("_BasicBlock", "_Bottleneck", "_InvertedResidual"):
            parts = block.named_modules()
            norms = [m for n, m in parts if type(m) is nn.BatchNorm2d and "downsample" not in n]
            nn.init.constant_(norms[-1].weight, 0.2)
    return model


def difference(found: Tensor, expected: Tensor) -> float:
    """The largest, in units of the largest logit."""
    return ((found - expected).abs().max() / expected.abs().max()).item()


def kinds(network: nn.Module, kind: type[nn.Module]) -> int:
    return sum(type(m) is kind for m in network.modules())


@pytest.mark.slow
@pytest.mark.parametrize(
    ("backbone", "align_corners"),
    [("resnet18", True), ("resnet50", False), ("mobilenet_v2", False)],
)
@pytest.mark.parametrize("refinement", [None, [4, 2]], ids=["plain", "refined"])
@pytest.mark.parametrize("machine", ["x86_64", "arm64"])
def test_logits_agree_to_rounding_and_labels_exactly(
    machine, refinement, backbone, align_corners, monkeypatch
):
    monkeypatch.setattr(module.platform, "machine", lambda: machine)
    model = calm(wide(backbone, align_corners=align_corners, refinement=refinement))
    images = F.interpolate(torch.randn(2, 3, 12, 15), (269, 300), mode="bicubic")
    with torch.no_grad():  # so that every class is somewhere the most likely one
        model.head.classifier.bias -= model(images).mean((0, 2, 3))
    kept = {name: value.clone() for name, value in model.state_dict().items()}
    form = Prepared(model, torch.float32)
    found = form(images)
    with torch.no_grad():
        plain, exact = model(images), copy.deepcopy(model).double()(images.double())
    assert difference(found, plain) <= 1e-5
    assert difference(found, exact) <= 3 * difference(plain, exact)
    assert (found.argmax(1) == plain.argmax(1)).float().mean() > 0.9999
    assert len(plain.argmax(1).unique()) >= 4
    network = form.network
    assert kinds(network, nn.BatchNorm2d) == 0
    assert kinds(network, JoinedHead) == 1
    assert (kinds(network, WinogradConv2d) >= 3) == (machine == "x86_64")
    assert network.auxiliary_head is None
    assert all(torch.equal(value, kept[name]) for name, value in model.state_dict().items())
    assert model.auxiliary_head is not None


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_convolutions_are_stored_as_autocast_would_cast_them(dtype, monkeypatch):
    monkeypatch.setattr(module.platform, "machine", lambda: "arm64")
    model = with_statistics(small("resnet18"))
    network = prepare(model, dtype)
    convolutions = [m for m in network.modules() if type(m) is nn.Conv2d]
    attention = list(network.head.attention.modules())
    for convolution in convolutions:
        own = torch.float32 if convolution in attention else dtype
        assert {parameter.dtype for parameter in convolution.parameters()} == {own}
        assert convolution.weight.is_contiguous(memory_format=torch.channels_last)
    assert all(p.dtype == torch.float32 for p in model.parameters())
    images = torch.randn(1, 3, 64, 64)
    stored = Prepared(model, dtype)(images)
    with torch.inference_mode(), torch.autocast("cpu", dtype):
        cast = prepare(model, torch.float32)(images)
    assert torch.equal(stored, cast.float())
    assert stored.dtype == torch.float32


@pytest.mark.slow
def test_bfloat16_agrees_with_float32_about_as_well_as_autocast(monkeypatch):
    monkeypatch.setattr(module, "cpu_has", lambda name: name == "avx512_bf16")
    model = with_statistics(CCNet(5, "resnet18", channels=256))
    images = F.interpolate(torch.randn(1, 3, 12, 12), (270, 270), mode="bicubic")
    form = Prepared(model, torch.bfloat16)
    found = form(images)
    assert kinds(form.network, WinogradConv2d) >= 3
    with torch.inference_mode():
        exact = model(images)
        with torch.autocast("cpu", torch.bfloat16):
            cast = model(images)
    errors = [(logits - exact).square().mean().sqrt() for logits in (found, cast)]
    assert errors[0] <= 2 * errors[1]
    assert (found.argmax(1) == exact.argmax(1)).float().mean() > 0.95


class Adapted(nn.Conv2d):
    """A convolution with an adapter, as libraries for fine-tuning make them."""

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + 0.1 * F.avg_pool2d(input, 1)[:, :1]


class Doubled(nn.Module):
    def forward(self, weight: Tensor) -> Tensor:
        return 2 * weight


def with_subclass(model: CCNet) -> None:
    model.head.fusion[0].__class__ = Adapted
    model.head.smoothing[0].__class__ = Adapted
    model.backbone.get_submodule("layer1.0.conv1").__class__ = Adapted


def with_parametrization(model: CCNet) -> None:
    for name in ("backbone.layer3.1.conv2", "head.reduction.0", "head.smoothing.0"):
        parametrize.register_parametrization(model.get_submodule(name), "weight", Doubled())


def with_hooks(model: CCNet) -> None:
    for name in ("backbone.layer1.0.conv1", "head.smoothing.0", "head.reduction", "head.fusion.1"):
        model.get_submodule(name).register_forward_hook(lambda _, inputs, output: 2 * output)


def with_hook_between(model: CCNet) -> None:
    """On a module that holds nothing but the convolution before a batch norm."""
    inner = model.backbone.conv1
    model.backbone.conv1 = nn.Sequential(inner)
    model.backbone.conv1.register_forward_hook(lambda _, inputs, output: output.abs())


def with_old_weight_norm(model: CCNet) -> None:
    """Whose weight is computed by a hook, and is a tensor with a graph."""
    with pytest.warns(FutureWarning):
        nn.utils.weight_norm(model.head.smoothing[0])
    model(torch.randn(1, 3, 32, 32))
    with torch.no_grad():
        model.head.smoothing[0].weight_g.mul_(2)


def with_own_forward(model: CCNet) -> None:
    convolution = model.head.smoothing[0]
    convolution.forward = partial(twice, convolution)


def twice(convolution: nn.Conv2d, images: Tensor) -> Tensor:
    return 2 * nn.Conv2d.forward(convolution, images)


def with_weights_read_elsewhere(model: CCNet) -> None:
    class Reading(type(model.backbone)):
        def forward(self, images: Tensor) -> list[Tensor]:
            *others, last = super().forward(images)
            return [*others, last * self.layer1[0].conv1.weight.sum()]

    model.backbone.__class__ = Reading


def with_branches(model: CCNet) -> None:
    """Which torch.fx cannot trace."""

    class Branching(type(model.backbone)):
        def forward(self, images: Tensor) -> list[Tensor]:
            return super().forward(images if images.mean() > 0 else -images)

    model.backbone.__class__ = Branching


def with_own_head(model: CCNet) -> None:
    class Head(type(model.head)):
        def forward(self, features: Tensor) -> Tensor:
            return self.classifier(self.fusion[2](self.reduction(features)))

    model.head.__class__ = Head


def with_forward_of_a_subclass(model: CCNet) -> None:
    class Both(CCNet):
        """The mean of both heads."""

        def forward(self, images: Tensor, auxiliary: bool = False) -> Tensor:
            *_, third, features = self.backbone(images)
            logits = self.head.classifier(self.head.fusion[2](self.head.reduction(features)))
            return F.interpolate(logits + self.auxiliary_head(third), images.shape[-2:])

    model.__class__ = Both


def with_untracked_norm(model: CCNet) -> None:
    norm = nn.BatchNorm2d(128, track_running_stats=False)
    model.head.smoothing[1] = norm.eval()


@pytest.mark.parametrize(
    "change",
    [
        with_subclass,
        with_parametrization,
        with_hooks,
        with_hook_between,
        with_old_weight_norm,
        with_own_forward,
        with_weights_read_elsewhere,
        with_branches,
        with_own_head,
        with_forward_of_a_subclass,
        with_untracked_norm,
    ],
)
def test_layers_that_do_more_than_pytorch_s_stay_as_they_are(change, network):
    images = torch.randn(1, 3, 256, 260)
    before = network(images).detach()
    change(network)
    with torch.no_grad():
        after = network(images)
        found = Prepared(network, torch.float32)(images)
        # random networks with doubled layers magnify rounding errors
        assert difference(found, after) < 1e-3 < 1e-2 < difference(before, after)
        exact = network.double()(images.double())
    assert difference(Prepared(network, torch.float32)(images.double()), exact) < 1e-6


@pytest.fixture
def network() -> CCNet:
    return wide()


def test_a_global_hook_runs(network):
    images = torch.randn(1, 3, 64, 64)
    called = []
    with nn.modules.module.register_module_forward_hook(
        lambda m, inputs, output: called.append(type(m))
    ):
        Prepared(network, torch.float32)(images)
    assert called.count(nn.BatchNorm2d) == kinds(network, nn.BatchNorm2d) - 1


def test_it_follows_changes_of_the_model(network):
    images = torch.randn(1, 3, 64, 64)
    form = Prepared(network, torch.float32)

    def agrees() -> bool:
        with torch.no_grad():
            return difference(form(images), network(images)) < 1e-4

    assert agrees()
    unchanged = form.network
    assert agrees()
    assert form.network is unchanged
    with torch.no_grad():
        network.backbone.conv1.weight.mul_(1.5)
    assert agrees()
    network.load_state_dict({name: 1.1 * x for name, x in network.state_dict().items()})
    assert agrees()
    network.head.smoothing[0] = nn.Conv2d(128, 128, 1).eval()
    assert agrees()
    recorded = []
    with network.head.attention.register_forward_hook(lambda *seen: recorded.append(seen)):
        assert agrees()
    assert len(recorded) == 2
    with network.backbone.layer1[0].conv1.register_forward_hook(lambda m, inputs, out: -out):
        assert agrees()
    assert agrees()
    network.double()
    images = images.double()
    assert agrees()
    assert form(images).dtype == torch.float32


def test_tensors_that_need_no_change_are_shared(network):
    network = network.double()
    copied = prepare(network, torch.float32)
    assert copied.head.classifier.weight.data_ptr() == network.head.classifier.weight.data_ptr()
    assert copied.head.classifier is not network.head.classifier


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of torch's compiler
def test_it_can_be_compiled():
    network = with_statistics(CCNet(3, "tiny", channels=128, auxiliary_channels=8))
    images = torch.randn(1, 3, 160, 160)
    found = Prepared(network, torch.float32, compile=True)(images)
    torch.compiler.reset()
    with torch.no_grad():
        torch.testing.assert_close(found, network(images), rtol=0, atol=1e-4)
