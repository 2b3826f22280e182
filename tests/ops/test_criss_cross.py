"""The contract: schema, gradients, dtypes, strides, autocast, compilation, export, errors."""

import subprocess
import sys

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ccnet.ops import cpu, criss_cross_attention, fused_available
from ccnet.ops.operators import pixel_rows
from tests.conftest import attention_inputs

pytestmark = pytest.mark.usefixtures("device")
SIZES = [(7,), (5, 4), (1, 6), (6, 1), (1, 1), (3, 2, 4), (1, 2, 1)]


@pytest.mark.parametrize("spatial", SIZES, ids=str)
def test_gradcheck_passes_for_first_and_second_derivatives(spatial, device):
    if device == "cuda":
        pytest.skip("no float64 kernel")
    inputs = attention_inputs(*spatial, batch=1, dtype=torch.float64, channels=2, reduced=2)

    def attend(*tensors):
        return criss_cross_attention(*tensors, backend="fused")

    assert torch.autograd.gradcheck(attend, inputs)
    assert torch.autograd.gradgradcheck(attend, inputs)


@pytest.mark.parametrize(
    ("spatial", "dtype"),
    [
        ((7,), torch.float32),
        pytest.param((5, 4), torch.bfloat16, marks=pytest.mark.slow),
        pytest.param((1, 6), torch.float32, marks=pytest.mark.slow),
        pytest.param((2, 3, 2), torch.float32, marks=pytest.mark.slow),
        pytest.param((2, 3, 2), torch.bfloat16, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_opcheck_passes_for_both_operators(spatial, dtype):
    inputs = [
        x.detach().movedim(1, -1).contiguous().requires_grad_()
        for x in attention_inputs(*spatial, dtype=dtype)
    ]
    torch.library.opcheck(torch.ops.ccnet.criss_cross_attention.default, inputs)
    outputs = torch.ops.ccnet.criss_cross_attention(*(x.detach() for x in inputs))
    torch.library.opcheck(
        torch.ops.ccnet.criss_cross_attention_backward.default,
        (torch.randn_like(outputs[0]), *inputs, *outputs),
    )


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


@pytest.mark.parametrize("spatial", [(9,), (6, 5), (2, 3, 4)], ids=str)
def test_slices_of_one_tensor_are_taken_as_they_are(spatial):
    projected = torch.randn(2, *spatial, 12).movedim(-1, 1)
    parts = projected.split([3, 3, 6], dim=1)
    for part in parts:
        assert pixel_rows(part.movedim(1, -1)).data_ptr() == part.data_ptr()
    results = []
    for inputs in (parts, [part.contiguous() for part in parts]):
        inputs = [x.detach().requires_grad_() for x in inputs]
        out = criss_cross_attention(*inputs, backend="fused")
        results.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    for got, expected in zip(*results, strict=True):
        assert torch.equal(got, expected)


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


def test_what_is_kept_for_backward_does_not_grow_with_height_plus_width():
    kept: list[int] = []
    inputs = [x.to(memory_format=torch.channels_last) for x in attention_inputs(40, 50)]
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: (kept.append(x.untyped_storage().nbytes()), x)[1], lambda x: x
    ):
        out = criss_cross_attention(*inputs, backend="fused")
    assert sum(kept) == 4 * (sum(x.numel() for x in inputs) + out.numel() + 2 * 2 * 40 * 50)


@pytest.mark.parametrize("spatial", [(300,), (1, 90), (90, 1), (70, 30), (3, 50, 2)], ids=str)
def test_the_working_set_is_a_tile_however_long_a_line(spatial, monkeypatch, device):
    if device != "cpu":
        pytest.skip("the CPU form's tiles")
    sizes: list[int] = []
    tile_scores = cpu.tile_scores

    def measured(*arguments):
        scores = tile_scores(*arguments)
        sizes.append(scores.numel())
        return scores

    monkeypatch.setattr(cpu, "TILE_SCORES", 1000)
    monkeypatch.setattr(cpu, "tile_scores", measured)
    inputs = attention_inputs(*spatial, dtype=torch.float64)
    results = []
    for backend in ("fused", "reference"):
        out = criss_cross_attention(*inputs, backend=backend)
        results.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    assert max(sizes) <= 1000
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("spatial", [(60,), (30, 2), (2, 30), (2, 3, 5)], ids=str)
def test_products_with_the_values_are_tiles_too(spatial, monkeypatch):
    sizes: list[int] = []
    product = cpu.product

    def measured(*operands):
        result = product(*operands)
        if result.shape[-1] == 20:  # scores have a limit of their own
            sizes.append(result.numel())
        return result

    monkeypatch.setattr(cpu, "TILE_VALUES", 1500)
    monkeypatch.setattr(cpu, "product", measured)
    inputs = attention_inputs(*spatial, batch=5, dtype=torch.float64, channels=20)
    results = []
    for backend in ("fused", "reference"):
        out = criss_cross_attention(*inputs, backend=backend)
        results.append((out, *torch.autograd.grad(out.square().sum(), inputs)))
    assert max(sizes, default=0) <= 1500
    for got, expected in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-10)


def test_the_paper_s_cost_of_the_products_is_counted():
    # 97×97×512: 8.3 GFLOP a pass in the paper, 6.17 of them in the three projections
    query, key, value = (torch.empty(1, c, 97, 97, device="meta") for c in (64, 64, 512))
    with FlopCounterMode(display=False) as counter:
        torch.ops.ccnet.criss_cross_attention(*(x.movedim(1, -1) for x in (query, key, value)))
    assert counter.get_total_flops() == 2 * 97 * 97 * (97 + 97 - 1) * (64 + 512)


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
def test_shapes_that_do_not_fit_are_named(shapes, words):
    with pytest.raises(ValueError, match=words) as error:
        criss_cross_attention(*(torch.zeros(shape) for shape in shapes))
    assert all(str(tuple(shape)) in str(error.value) for shape in shapes)


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
