"""The public function: dtypes, strides, autocast, compilation, export, protocols, errors."""

import itertools
import subprocess
import sys

import pytest
import torch

from ccnet.ops import attention_weights, criss_cross_attention, fused_available
from tests.conftest import attention_inputs

pytestmark = pytest.mark.usefixtures("device")
SIZES = [(7,), (5, 4), (1, 6), (6, 1), (1, 1), (3, 2, 4), (1, 2, 1)]


@pytest.mark.unchecked
@pytest.mark.slow
def test_compile_and_export_keep_one_graph():
    inputs = attention_inputs(5, 6)
    expected = criss_cross_attention(*inputs)
    compiled = torch.compile(criss_cross_attention, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*inputs), expected)
    for got, want in zip(
        torch.autograd.grad(compiled(*inputs).sum(), inputs),
        torch.autograd.grad(expected.sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(got, want)

    class Attention(torch.nn.Module):
        def forward(self, query, key, value):
            return criss_cross_attention(query, key, value)

    spatial = {2: torch.export.Dim("height", min=2), 3: torch.export.Dim("width", min=2)}
    program = torch.export.export(
        Attention(), tuple(x.detach() for x in inputs), dynamic_shapes=(spatial,) * 3
    )
    other = tuple(x.detach() for x in attention_inputs(4, 9))
    torch.testing.assert_close(program.module()(*other), criss_cross_attention(*other))


@pytest.mark.slow
@pytest.mark.unchecked
def test_inductor_compiles_without_a_graph_break():
    inputs = attention_inputs(5, 6)
    compiled = torch.compile(criss_cross_attention, fullgraph=True)
    torch.testing.assert_close(compiled(*inputs), criss_cross_attention(*inputs))


def errors(form, inputs, weight, exact) -> list[float]:
    """Root-mean-square error of output and gradients against the float64 ones."""
    inputs = [x.detach().clone().requires_grad_() for x in inputs]
    out = form(*inputs)
    got = (out, *torch.autograd.grad((out * weight.to(out.dtype)).sum(), inputs))
    return [rms(g.double() - e) for g, e in zip(got, exact, strict=True)]


def rms(tensor) -> float:
    return tensor.square().mean().sqrt().item()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("spatial", [(1, 7), (63, 7), (97, 63), (63,), (5, 7, 9)], ids=str)
def test_fused_error_is_within_twice_the_eager_form(spatial, dtype):
    inputs = attention_inputs(*spatial, batch=1, dtype=dtype, channels=16, reduced=8)
    weight = torch.randn_like(inputs[2]).double()
    doubles = [x.detach().double().requires_grad_() for x in inputs]
    out = criss_cross_attention(*doubles, backend="reference")
    exact = (out, *torch.autograd.grad((out * weight).sum(), doubles))
    fused = errors(lambda *x: criss_cross_attention(*x, backend="fused"), inputs, weight, exact)
    eager = errors(lambda *x: criss_cross_attention(*x, backend="reference"), inputs, weight, exact)
    for got, allowed, tensor in zip(fused, eager, exact, strict=True):
        assert got <= 2 * allowed + torch.finfo(dtype).eps * rms(tensor)


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_any_strides_give_the_same_result(backend):
    query, key, value = (x.detach() for x in attention_inputs(6, 5))
    expected = criss_cross_attention(query, key, value, backend=backend)
    wide = torch.randn(2, 12, 12, 11)
    wide[:, ::2, ::2, 1::2] = value
    strided = (
        query.to(memory_format=torch.channels_last),
        key.mT.contiguous().mT,
        wide[:, ::2, ::2, 1::2],
    )
    torch.testing.assert_close(criss_cross_attention(*strided, backend=backend), expected)


def test_expanded_inputs_and_gradients_are_taken():
    query, key, value = attention_inputs(4, 4)
    row = query[:, :, :1].expand_as(query)
    out = criss_cross_attention(row, key, value)
    out.sum().backward()  # an expanded gradient, stride 0 everywhere
    torch.testing.assert_close(out, criss_cross_attention(row, key, value, backend="reference"))
    assert query.grad is not None
    assert query.grad[:, :, 1:].abs().sum() == 0


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("spatial", [(4,), (3, 4), (2, 3, 4)], ids=str)
def test_an_empty_batch_gives_an_empty_result(spatial, backend):
    inputs = attention_inputs(*spatial, batch=0)
    out = criss_cross_attention(*inputs, backend=backend)
    out.sum().backward()
    assert out.shape == (0, 6, *spatial)


@pytest.mark.parametrize("backend", ["fused", "reference"])
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast_casts_inputs_but_leaves_float64_alone(dtype, backend, device):
    inputs = attention_inputs(4, 5)
    with torch.autocast(device, dtype=dtype):
        low = criss_cross_attention(*inputs, backend=backend)
        exact = criss_cross_attention(*(x.double() for x in inputs))
    assert low.dtype == dtype
    assert exact.dtype == torch.float64
    expected = criss_cross_attention(*(x.to(dtype) for x in inputs), backend=backend)
    torch.testing.assert_close(low, expected)
    low.sum().backward()
    assert all(x.grad is not None and x.grad.dtype == torch.float32 for x in inputs)


@pytest.mark.parametrize("backend", ["fused", "reference"])
def test_autocast_takes_inputs_of_different_dtypes(backend, device):
    query, key, value = attention_inputs(4, 5)
    low = value.bfloat16()
    with torch.autocast(device, dtype=torch.bfloat16):  # query and key after a norm, in float32
        out = criss_cross_attention(query, key, low, backend=backend)
        with pytest.raises(ValueError, match=r"bfloat16, torch.bfloat16 and torch.float64"):
            criss_cross_attention(query, key, value.double(), backend=backend)
    expected = criss_cross_attention(query.bfloat16(), key.bfloat16(), low, backend=backend)
    torch.testing.assert_close(out, expected)
    with pytest.raises(ValueError, match=r"float32, torch.float32 and torch.bfloat16"):
        criss_cross_attention(query, key, low, backend=backend)


@pytest.mark.unchecked
def test_subclasses_and_modes_see_one_call():
    calls = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            calls.append(func)
            return func(*args, **(kwargs or {}))

    class Named(torch.Tensor):
        @classmethod
        def __torch_function__(cls, func, types, args=(), kwargs=None):
            calls.append(func)
            return super().__torch_function__(func, types, args, kwargs or {})

    inputs = attention_inputs(3, 4)
    expected = criss_cross_attention(*inputs)
    with Mode():
        torch.testing.assert_close(criss_cross_attention(*inputs), expected)
    assert calls[0] is criss_cross_attention
    calls.clear()
    out = criss_cross_attention(inputs[0], inputs[1], inputs[2].as_subclass(Named))
    assert isinstance(out, Named)
    assert calls[0] is criss_cross_attention
    torch.testing.assert_close(out.as_subclass(torch.Tensor), expected)


@pytest.mark.unchecked
def test_torch_fx_records_one_call_with_its_backend():
    def attend(query, key, value):
        return criss_cross_attention(query, key, value, backend="reference")

    traced = torch.fx.symbolic_trace(attend)
    (call,) = (node for node in traced.graph.nodes if node.op == "call_function")
    assert call.target is criss_cross_attention
    assert call.kwargs == {"backend": "reference"}
    inputs = attention_inputs(3, 4)
    torch.testing.assert_close(traced(*inputs), attend(*inputs))


def test_large_scores_stay_finite():
    query, key, value = (x.detach() * 1e3 for x in attention_inputs(6, 7))
    assert criss_cross_attention(query, key, value).isfinite().all()


def test_fresh_memory_is_never_read(monkeypatch):
    new_empty = torch.Tensor.new_empty
    monkeypatch.setattr(
        torch.Tensor, "new_empty", lambda self, *a, **k: new_empty(self, *a, **k).fill_(torch.nan)
    )
    for spatial in SIZES:
        inputs = attention_inputs(*spatial)
        out = criss_cross_attention(*inputs, backend="fused")
        out.sum().backward()
        assert out.isfinite().all()
        assert all(x.grad is not None and x.grad.isfinite().all() for x in inputs)


@pytest.mark.parametrize(
    ("shapes", "words"),
    [
        (((2, 3), (2, 3), (2, 6)), "1 to 3 spatial axes"),
        (((2, 3, 4, 4), (2, 4, 4, 4), (2, 6, 4, 4)), "same shape"),
        (((2, 3, 4, 4), (2, 3, 4, 4), (1, 6, 4, 4)), "batch"),
        (((2, 3, 4, 4), (2, 3, 4, 4), (2, 6, 4, 5)), "spatial size"),
        (((2, 3, 0, 4), (2, 3, 0, 4), (2, 6, 0, 4)), "only the batch may be empty"),
    ],
)
@pytest.mark.unchecked
def test_shapes_that_do_not_fit_are_named(shapes, words):
    with pytest.raises(ValueError, match=words) as error:
        criss_cross_attention(*(torch.zeros(shape) for shape in shapes))
    assert all(str(tuple(shape)) in str(error.value) for shape in shapes)


@pytest.mark.unchecked
def test_dtypes_devices_and_backends_that_do_not_fit_are_named():
    query, key, value = (x.detach() for x in attention_inputs(3, 3))
    with pytest.raises(ValueError, match=r"float32, torch.float32 and torch.float64"):
        criss_cross_attention(query, key, value.double())
    with pytest.raises(ValueError, match="int64"):
        criss_cross_attention(query.long(), key.long(), value.long())
    with pytest.raises(ValueError, match="one device"):
        criss_cross_attention(query, key, value.to("meta"))
    with pytest.raises(ValueError, match="got 'cuda'"):
        criss_cross_attention(query, key, value, backend="cuda")
    with pytest.raises(NotImplementedError, match="no fused criss-cross kernel"):
        criss_cross_attention(*(x.to("meta") for x in (query, key, value)), backend="fused")


def test_fused_kernels_are_queryable():
    assert fused_available("cpu", torch.bfloat16)
    assert not fused_available("mps", torch.float32)
    assert not fused_available("cpu", torch.int8)


@pytest.mark.slow
def test_a_process_without_triton_runs_on_the_cpu():
    program = """
import sys
sys.modules["triton"] = None
import torch
from ccnet import RecurrentCrissCrossAttention
module = RecurrentCrissCrossAttention(16)
module(torch.randn(1, 16, 5, 6)).sum().backward()
assert module.passes[0].gamma.grad is not None
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=120)


@pytest.mark.unchecked
def test_what_is_no_tensor_is_named():
    query, key, value = (x.detach().numpy() for x in attention_inputs(3, 3))
    with pytest.raises(TypeError, match="must be tensors, got ndarray"):
        criss_cross_attention(query, key, value)


@pytest.mark.parametrize("spatial", [(5,), (4, 7), (1, 6), (6, 1), (1, 1), (2, 3, 4)], ids=str)
def test_weights_of_the_cross_are_those_that_the_operator_applies(spatial):
    """Against the operator's derivative by the value, in the documented order of positions."""
    query, key, _ = attention_inputs(*spatial, dtype=torch.float64, batch=1)
    weights = attention_weights(query, key)
    assert weights.shape == (1, sum(spatial) - len(spatial) + 1, *spatial)
    torch.testing.assert_close(weights.sum(1), torch.ones(1, *spatial, dtype=torch.float64))
    value = torch.zeros(1, 1, *spatial, dtype=torch.float64, requires_grad=True)
    out = criss_cross_attention(query, key, value)[0, 0]
    for u in itertools.product(*map(range, spatial)):
        (row,) = torch.autograd.grad(out[u], value, retain_graph=True)
        positions = [
            (*u[:axis], place, *u[axis + 1 :])
            for axis, length in enumerate(spatial)
            for place in range(length)
            if place != u[axis] or axis == len(spatial) - 1
        ]
        expected = torch.stack([row[0, 0][position] for position in positions])
        torch.testing.assert_close(weights[0, :, *u], expected)


def test_weights_can_be_differentiated():
    query, key, _ = attention_inputs(2, 3, dtype=torch.float64, batch=1)
    assert torch.autograd.gradcheck(attention_weights, (query, key))


@pytest.mark.unchecked
def test_weights_of_inputs_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="query and key must have the same shape"):
        attention_weights(torch.zeros(1, 2, 3, 4), torch.zeros(1, 2, 4, 3))
