"""The layers: identity at the start, names, reach of the passes, conventions of PyTorch."""

import warnings
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune
from torch.utils.flop_counter import FlopCounterMode

from ccnet import CrissCrossAttention, RecurrentCrissCrossAttention, criss_cross_attention
from tests.conftest import in_processes

SIZES = {1: (9,), 2: (6, 7), 3: (3, 4, 5)}


def with_gamma(module: torch.nn.Module, gamma: float = 0.7) -> torch.nn.Module:
    for name, parameter in module.named_parameters():
        if name.endswith("gamma"):
            torch.nn.init.constant_(parameter, gamma)
    return module


@pytest.mark.parametrize("dims", [1, 2, 3])
def test_a_new_module_is_the_identity(dims):
    features = torch.randn(2, 16, *SIZES[dims])
    module = RecurrentCrissCrossAttention(16, dims=dims)
    assert torch.equal(module(features), features)
    assert not torch.equal(with_gamma(module)(features), features)


def test_parameters_have_the_published_names_and_shapes():
    shapes = {k: tuple(v.shape) for k, v in CrissCrossAttention(512).state_dict().items()}
    assert shapes == {
        "gamma": (1,),
        "query_conv.weight": (64, 512, 1, 1),
        "query_conv.bias": (64,),
        "key_conv.weight": (64, 512, 1, 1),
        "key_conv.bias": (64,),
        "value_conv.weight": (512, 512, 1, 1),
        "value_conv.bias": (512,),
    }
    assert CrissCrossAttention(4).query_conv.out_channels == 1


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_one_product_for_three_projections_changes_no_result(dims, backend):
    module = with_gamma(CrissCrossAttention(16, dims=dims, backend=backend).double())
    features = torch.randn(2, 16, *SIZES[dims], dtype=torch.float64, requires_grad=True)
    query, key, value = (
        conv(features) for conv in (module.query_conv, module.key_conv, module.value_conv)
    )
    defined = module.gamma * criss_cross_attention(query, key, value) + features
    leaves = [features, *module.parameters()]
    expected = (defined, *torch.autograd.grad(defined.square().sum(), leaves))
    out = module(features)
    got = (out, *torch.autograd.grad(out.square().sum(), leaves))
    for ours, definition in zip(got, expected, strict=True):
        torch.testing.assert_close(ours, definition, rtol=1e-10, atol=1e-10)


def reached_from(module: torch.nn.Module, pixel: tuple[int, ...], dims: int) -> torch.Tensor:
    """Input pixels with a non-zero entry in the Jacobian of one output pixel."""
    features = torch.randn(1, 8, *SIZES[dims], dtype=torch.float64, requires_grad=True)
    module(features)[0, :, *pixel].sum().backward()
    assert features.grad is not None
    return features.grad[0].abs().sum(0) > 0


@pytest.mark.parametrize(("dims", "pixel"), [(2, (2, 3)), (2, (0, 6)), (3, (1, 2, 3))])
def test_one_pass_reaches_the_cross_and_as_many_as_axes_reach_every_pixel(dims, pixel):
    attention = with_gamma(RecurrentCrissCrossAttention(8, 1, dims=dims).double())
    offsets = torch.stack(torch.meshgrid(*map(torch.arange, SIZES[dims]), indexing="ij"))
    differing = (offsets != torch.tensor(pixel).view(-1, *[1] * dims)).sum(0)
    for recurrence in range(1, dims + 1):
        attention.recurrence = recurrence
        assert torch.equal(reached_from(attention, pixel, dims), differing <= recurrence)


def test_shared_passes_have_one_set_of_weights_and_others_have_their_own():
    features = torch.randn(1, 8, 5, 5)
    shared = with_gamma(RecurrentCrissCrossAttention(8, recurrence=3))
    once = shared.attention(0)
    torch.testing.assert_close(shared(features), once(once(once(features))))
    assert len(shared.state_dict()) == 7
    assert len(RecurrentCrissCrossAttention(8, recurrence=3, shared=False).state_dict()) == 21
    assert len(RecurrentCrissCrossAttention(8, recurrence=0).state_dict()) == 0


def test_autocast_keeps_the_features_in_its_dtype():
    features = torch.randn(1, 8, 5, 5, dtype=torch.bfloat16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert with_gamma(CrissCrossAttention(8))(features).dtype == torch.bfloat16


def test_the_backend_is_handed_to_the_operator():
    features = torch.randn(1, 8, 5, 5)
    fused = with_gamma(CrissCrossAttention(8, backend="fused"))
    expected = fused(features)
    fused.backend = "reference"
    torch.testing.assert_close(fused(features), expected)
    with pytest.raises(ValueError, match="backend"):
        CrissCrossAttention(8, backend="fast")(features)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [({"channels": 0}, "channels"), ({"channels": 8, "dims": 4}, "dims must be 1, 2 or 3, got 4")],
)
def test_arguments_that_do_not_fit_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        CrissCrossAttention(**arguments)
    with pytest.raises(ValueError, match="recurrence must be ≥ 0, got -1"):
        RecurrentCrissCrossAttention(8, recurrence=-1)


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


@pytest.mark.parametrize("recompute", [False, True])
@pytest.mark.parametrize("dims", [1, 2, 3])
def test_features_without_a_batch_are_taken_as_a_convolution_takes_them(dims, recompute):
    features = torch.randn(16, *SIZES[dims])
    recurrent = RecurrentCrissCrossAttention(16, dims=dims, recompute=recompute)
    for module in (CrissCrossAttention(16, dims=dims), recurrent):
        with_gamma(module)
        torch.testing.assert_close(module(features), module(features[None])[0])


@pytest.mark.parametrize(
    ("dims", "shape", "words"),
    [
        (2, (16, 5), r"\(B, 16, H, W\) or \(16, H, W\), got \(16, 5\)"),
        (2, (2, 16, 3, 4, 5), r"\(B, 16, H, W\) or \(16, H, W\), got \(2, 16, 3, 4, 5\)"),
        (2, (2, 8, 5, 7), r"\(B, 16, H, W\) or \(16, H, W\), got \(2, 8, 5, 7\)"),
        (2, (2, 16, 5), r"\(B, 16, H, W\) or \(16, H, W\), got \(2, 16, 5\)"),
        (1, (2, 16, 5, 7), r"\(B, 16, W\) or \(16, W\), got \(2, 16, 5, 7\)"),
        (3, (2, 16, 5), r"\(B, 16, T, H, W\) or \(16, T, H, W\), got \(2, 16, 5\)"),
    ],
)
@pytest.mark.parametrize("recurrence", [0, 1, 2])
def test_features_of_other_axes_or_channels_are_named(dims, shape, words, recurrence):
    module = RecurrentCrissCrossAttention(16, recurrence, dims=dims)
    with pytest.raises(ValueError, match=words):
        module(torch.randn(shape))
    with pytest.raises(ValueError, match=words):
        CrissCrossAttention(16, dims=dims)(torch.randn(shape))


class Network(nn.Module):
    """A user's network with the layer in it."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.attention = RecurrentCrissCrossAttention(16, **options)
        with_gamma(self.attention)

    def forward(self, images: Tensor) -> Tensor:
        return self.attention(self.stem(images).relu())


@pytest.mark.parametrize("options", [{}, {"recompute": True}, {"recurrence": 3, "shared": False}])
@pytest.mark.unchecked
def test_torch_fx_traces_a_network_with_its_convolutions_and_the_operator_as_leaves(options):
    network = Network(**options)
    traced = torch.fx.symbolic_trace(network)
    images = torch.randn(2, 3, 6, 5)
    torch.testing.assert_close(traced(images), network(images))
    targets = [node.target for node in traced.graph.nodes]
    assert targets.count(criss_cross_attention) == network.attention.recurrence
    assert "attention.passes.0.query_conv" in targets
    with torch.no_grad():  # the traced network reads the parameters, not copies of them
        network.attention.passes[0].key_conv.weight.mul_(2)
    torch.testing.assert_close(traced(images), network(images))


@pytest.mark.unchecked
@pytest.mark.slow
def test_compiled_exported_and_traced_layers_keep_the_joint_product():
    network = Network().eval()
    images = torch.randn(2, 3, 6, 5)
    expected = network(images)
    compiled = torch.compile(network, backend="aot_eager", fullgraph=True)
    torch.testing.assert_close(compiled(images), expected)
    sizes = {2: torch.export.Dim("height", min=2), 3: torch.export.Dim("width", min=2)}
    program = torch.export.export(network, (images,), dynamic_shapes=(sizes,))
    targets = [str(node.target) for node in program.graph.nodes]
    assert targets.count("aten.linear.default") == 2
    assert targets.count("aten.conv2d.default") == 1
    other = torch.randn(2, 3, 4, 9)
    torch.testing.assert_close(program.module()(other), network(other))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of torch.jit
        warnings.simplefilter("ignore", torch.jit.TracerWarning)  # shapes are checked in Python
        traced = torch.jit.trace(network, images)
    torch.testing.assert_close(traced(images), expected)


@pytest.mark.filterwarnings(
    r"ignore:`isinstance\(treespec, LeafSpec\)` is deprecated:FutureWarning",
)
@pytest.mark.slow
@pytest.mark.parametrize("source", ["network", "program"])
@pytest.mark.unchecked
def test_onnx_files_of_a_network_are_right_at_any_size(source, tmp_path):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    network = Network().eval()
    images = torch.randn(2, 3, 9, 7)
    sizes = {
        0: torch.export.Dim("batch"),
        2: torch.export.Dim("height", min=2),
        3: torch.export.Dim("width", min=2),
    }
    export = partial(torch.onnx.export, dynamo=True, verbose=False)
    if source == "network":
        program = export(network, (images,), dynamic_shapes=(sizes,))
    else:
        exported = torch.export.export(network, (images,), dynamic_shapes=(sizes,))
        assert any("ccnet" in str(node.target) for node in exported.graph.nodes)
        program = export(exported)
    program.save(str(tmp_path / "network.onnx"))
    session = runtime.InferenceSession(
        tmp_path / "network.onnx", providers=["CPUExecutionProvider"]
    )
    other = torch.randn(3, 3, 6, 11)
    (got,) = session.run(None, {session.get_inputs()[0].name: other.numpy()})
    torch.testing.assert_close(torch.from_numpy(got), network(other))
