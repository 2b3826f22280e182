"""The layers: identity at the start, names, reach of the passes, conventions of PyTorch."""

import warnings
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from ccnet import CrissCrossAttention, RecurrentCrissCrossAttention, criss_cross_attention
from tests.conftest import with_gamma

SIZES = {1: (9,), 2: (6, 7), 3: (3, 4, 5)}


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
