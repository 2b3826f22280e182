"""Whatever changes a convolution of the attention takes effect: hooks, subclasses, sharding."""

import warnings
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.flop_counter import FlopCounterMode

from ccnet import CrissCrossAttention, criss_cross_attention
from tests.conftest import in_processes, with_gamma

SIZES = {1: (9,), 2: (6, 7), 3: (3, 4, 5)}


def defined(module: Any, features: Tensor) -> Tensor:
    """The module's definition, whose convolutions are called."""
    query, key, value = (
        conv(features) for conv in (module.query_conv, module.key_conv, module.value_conv)
    )
    return module.gamma * criss_cross_attention(query, key, value) + features


CONVOLUTIONS = ("query_conv", "key_conv", "value_conv")


class LowRankConv2d(nn.Conv2d):
    """A LoRA layer as a subclass: the weight is frozen, and two small matrices are learned."""

    def __init__(self, conv: nn.Conv2d, rank: int = 2) -> None:
        super().__init__(conv.in_channels, conv.out_channels, 1)
        self.load_state_dict(conv.state_dict())
        self.weight.requires_grad_(False)
        self.down = nn.Parameter(torch.randn(rank, conv.in_channels, 1, 1))
        self.up = nn.Parameter(torch.randn(conv.out_channels, rank, 1, 1))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + F.conv2d(F.conv2d(input, self.down), self.up)


class AdapterAround(nn.Module):
    """A wrapper that replaces a convolution and is none itself, as peft's layers are."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer

    def forward(self, features: Tensor) -> Tensor:
        return 2 * self.base_layer(features)


def masked(module: Any, name: str) -> None:
    prune.l1_unstructured(getattr(module, name), "weight", amount=0.8)


def with_hook_of_weight_norm(module: Any, name: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # deprecated, but in many saved networks
        torch.nn.utils.weight_norm(getattr(module, name))
    nn.init.constant_(getattr(module, name).weight_g, 2.0)


def with_hook_of_spectral_norm(module: Any, name: str) -> None:
    torch.nn.utils.spectral_norm(getattr(module, name))


def with_weight_norm(module: Any, name: str) -> None:
    conv = parametrizations.weight_norm(getattr(module, name))
    nn.init.constant_(conv.parametrizations.weight.original0, 2.0)


def with_spectral_norm(module: Any, name: str) -> None:
    parametrizations.spectral_norm(getattr(module, name))


def with_low_rank(module: Any, name: str) -> None:
    setattr(module, name, LowRankConv2d(getattr(module, name)))


def with_adapter(module: Any, name: str) -> None:
    setattr(module, name, AdapterAround(getattr(module, name)))


def with_hook_on_the_output(module: Any, name: str) -> None:
    getattr(module, name).register_forward_hook(lambda conv, inputs, output: 2 * output)


def with_hook_on_the_input(module: Any, name: str) -> None:
    getattr(module, name).register_forward_pre_hook(lambda conv, inputs: 2 * inputs[0])


def with_forward_of_its_own(module: Any, name: str) -> None:
    conv = getattr(module, name)  # as accelerate's hooks are added
    forward = conv.forward
    conv.forward = lambda features: 2 * forward(features)


def without_bias(module: Any, name: str) -> None:
    conv = getattr(module, name)
    setattr(module, name, nn.Conv2d(conv.in_channels, conv.out_channels, 1, bias=False))


def with_groups(module: Any, name: str) -> None:
    conv = getattr(module, name)
    setattr(module, name, nn.Conv2d(conv.in_channels, conv.out_channels, 1, groups=2))


def with_kernel_of_three(module: Any, name: str) -> None:
    conv = getattr(module, name)
    setattr(module, name, nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1))


CHANGES = [
    masked,
    with_hook_of_weight_norm,
    with_hook_of_spectral_norm,
    with_weight_norm,
    with_spectral_norm,
    with_low_rank,
    with_adapter,
    with_hook_on_the_output,
    with_hook_on_the_input,
    with_forward_of_its_own,
    without_bias,
    with_groups,
    with_kernel_of_three,
]


@pytest.mark.parametrize("name", CONVOLUTIONS)
@pytest.mark.parametrize("change", CHANGES)
def test_whatever_changes_a_convolution_changes_the_module(change, name):
    torch.manual_seed(1)
    module = with_gamma(CrissCrossAttention(16)).double()
    features = torch.randn(2, 16, 5, 7, dtype=torch.float64)
    plain = module(features)
    change(module, name)
    module.double().eval()  # spectral norm takes a step per call in training
    out = module(features)
    torch.testing.assert_close(out, defined(module, features))
    assert (out - plain).abs().max() > 1e-3
    leaves = [parameter for parameter in module.parameters() if parameter.requires_grad]
    expected = torch.autograd.grad(defined(module, features).square().sum(), leaves)
    for got, want in zip(torch.autograd.grad(out.square().sum(), leaves), expected, strict=True):
        torch.testing.assert_close(got, want)


def test_a_low_rank_update_is_learned():
    module = with_gamma(CrissCrossAttention(16))
    for name in CONVOLUTIONS:
        with_low_rank(module, name)
    module(torch.randn(2, 16, 5, 7)).square().sum().backward()
    for name in CONVOLUTIONS:
        conv = getattr(module, name)
        assert conv.weight.grad is None
        assert conv.down.grad.abs().max() > 1e-3
        assert conv.up.grad.abs().max() > 1e-3


def test_hooks_of_the_convolutions_see_their_inputs_outputs_and_gradients():
    module = with_gamma(CrissCrossAttention(16))
    seen: dict[str, list[tuple[int, ...]]] = {}
    for name in CONVOLUTIONS:
        conv = getattr(module, name)
        shapes = seen.setdefault(name, [])
        conv.register_forward_hook(
            lambda _, inputs, output, shapes=shapes: shapes.extend([inputs[0].shape, output.shape])
        )
        conv.register_full_backward_hook(
            lambda _, inputs, outputs, shapes=shapes: shapes.append(outputs[0].shape)
        )
    module(torch.randn(2, 16, 5, 7, requires_grad=True)).sum().backward()
    for name, channels in zip(CONVOLUTIONS, (2, 2, 16), strict=True):
        assert seen[name] == [(2, 16, 5, 7), (2, channels, 5, 7), (2, channels, 5, 7)]


@pytest.mark.parametrize("kind", ["forward_pre", "forward", "full_backward_pre", "full_backward"])
@pytest.mark.parametrize("is_global", [False, True])
def test_every_kind_of_hook_fires(kind, is_global):
    module = with_gamma(CrissCrossAttention(16))
    fired: list[nn.Module] = []

    def hook(conv, *_):
        fired.append(conv)

    if is_global:
        register = getattr(torch.nn.modules.module, f"register_module_{kind}_hook")
    else:
        register = getattr(module.key_conv, f"register_{kind}_hook")
    handle = register(hook)
    try:
        module(torch.randn(2, 16, 5, 7, requires_grad=True)).sum().backward()
    finally:
        handle.remove()
    assert module.key_conv in fired


def test_operations_counted_by_hooks_are_those_of_the_convolutions():
    counted = []

    def count(conv, inputs, output):
        counted.append(2 * output.numel() * conv.in_channels)

    module = with_gamma(CrissCrossAttention(16))
    features = torch.randn(1, 16, 5, 7)
    with FlopCounterMode(display=False) as joint, torch.no_grad():
        module(features)
    for name in CONVOLUTIONS:
        getattr(module, name).register_forward_hook(count)
    with FlopCounterMode(display=False) as separate, torch.no_grad():
        module(features)
    assert sum(counted) == 2 * 35 * 16 * (2 + 2 + 16)
    assert joint.get_total_flops() == separate.get_total_flops()


def test_weights_that_a_hook_brings_in_are_used():
    module = with_gamma(CrissCrossAttention(16))
    features = torch.randn(1, 16, 5, 7)
    expected = module(features)
    weights = {name: dict(getattr(module, name).state_dict()) for name in CONVOLUTIONS}
    for name in CONVOLUTIONS:  # as accelerate offloads a module's weights
        conv = getattr(module, name).to("meta")
        conv.register_forward_pre_hook(
            lambda conv, _, state=weights[name]: conv.load_state_dict(state, assign=True) and None
        )
        conv.register_forward_hook(lambda conv, *_: conv.to("meta") and None)
    torch.testing.assert_close(module(features), expected)
    assert module.query_conv.weight.is_meta


@pytest.mark.filterwarnings(
    r"ignore:[\s\S]*torch.ao.quantization is deprecated:DeprecationWarning",
    "ignore:Please use quant_min and quant_max:UserWarning",
)
def test_quantization_aware_training_observes_the_convolutions():
    quantization = pytest.importorskip("torch.ao.quantization")
    if not hasattr(quantization, "prepare_qat"):
        pytest.skip("this version of torch has no eager quantization-aware training")
    module = with_gamma(CrissCrossAttention(16))
    features = torch.randn(1, 16, 5, 7)
    plain = module(features)
    module.qconfig = quantization.get_default_qat_qconfig("fbgemm")
    quantization.prepare_qat(module.train(), inplace=True)
    out = module(features)
    assert 0 < (out - plain).abs().max() < 0.1
    for name in CONVOLUTIONS:
        observer = getattr(module, name).activation_post_process
        assert observer.activation_post_process.max_val > 0


def sharded_step() -> tuple[Tensor, list[Tensor]]:
    """A step with every convolution sharded by itself."""
    from torch.distributed.fsdp import fully_shard
    from torch.distributed.tensor import DTensor

    module, features = sharded_case()
    for name in CONVOLUTIONS:
        fully_shard(getattr(module, name), mesh=torch.distributed.init_device_mesh("cpu", (2,)))
    out = module(features)
    out.square().sum().backward()
    gradients = [parameter.grad for parameter in module.parameters()]
    whole = [g.full_tensor() if isinstance(g, DTensor) else g for g in gradients]
    return out.detach(), whole


def sharded_case() -> tuple[Any, Tensor]:
    torch.manual_seed(0)
    module = with_gamma(CrissCrossAttention(16))
    return module, torch.randn(1, 16, 5, 7)


@pytest.mark.slow
def test_convolutions_sharded_one_by_one_give_the_same_step():
    module, features = sharded_case()
    expected = module(features)
    gradients = torch.autograd.grad(expected.square().sum(), list(module.parameters()))
    for out, sharded in in_processes(2, sharded_step):
        torch.testing.assert_close(out, expected.detach())
        for got, want in zip(sharded, gradients, strict=True):
            torch.testing.assert_close(got, want)
