"""The two fused operators: registration, what they save, strides, FLOPs."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from ccnet.ops import criss_cross_attention
from ccnet.ops.operators import pixel_rows
from tests.conftest import attention_inputs

pytestmark = pytest.mark.usefixtures("device")


@pytest.mark.parametrize(
    ("spatial", "dtype"),
    [
        ((7,), torch.float32),
        ((5, 4), torch.bfloat16),
        ((1, 6), torch.float32),
        ((2, 3, 2), torch.float32),
        ((2, 3, 2), torch.bfloat16),
    ],
    ids=str,
)
@pytest.mark.slow
@pytest.mark.unchecked
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


def test_the_paper_s_cost_of_the_products_is_counted():
    # 97×97×512: 8.3 GFLOP a pass in the paper, 6.17 of them in the three projections
    query, key, value = (torch.empty(1, c, 97, 97, device="meta") for c in (64, 64, 512))
    with FlopCounterMode(display=False) as counter:
        torch.ops.ccnet.criss_cross_attention(*(x.movedim(1, -1) for x in (query, key, value)))
    assert counter.get_total_flops() == 2 * 97 * 97 * (97 + 97 - 1) * (64 + 512)


def test_what_is_kept_for_backward_does_not_grow_with_height_plus_width():
    kept: list[int] = []
    inputs = [x.to(memory_format=torch.channels_last) for x in attention_inputs(40, 50)]
    with torch.autograd.graph.saved_tensors_hooks(
        lambda x: (kept.append(x.untyped_storage().nbytes()), x)[1], lambda x: x
    ):
        out = criss_cross_attention(*inputs, backend="fused")
    assert sum(kept) == 4 * (sum(x.numel() for x in inputs) + out.numel() + 2 * 2 * 40 * 50)


def test_the_backward_pass_costs_three_products_of_the_query_and_two_of_the_value():
    shapes = [(1, 97, 97, channels) for channels in (64, 64, 512)]
    query, key, value = (torch.empty(shape, device="meta") for shape in shapes)
    statistic = torch.empty(1, 97, 97, device="meta")
    inputs = (value, query, key, value, value, statistic, statistic)
    with FlopCounterMode(display=False) as counter:
        torch.ops.ccnet.criss_cross_attention_backward(*inputs)
    assert counter.get_total_flops() == 2 * 97 * 97 * (97 + 97 - 1) * (3 * 64 + 2 * 512)


def test_inputs_of_the_backward_operator_may_have_any_strides():
    inputs = [x.detach().movedim(1, -1).contiguous() for x in attention_inputs(5, 4)]
    outputs = torch.ops.ccnet.criss_cross_attention(*inputs)
    tensors = (torch.randn_like(outputs[0]), *inputs, *outputs)
    expected = torch.ops.ccnet.criss_cross_attention_backward(*tensors)
    strided = [x.transpose(1, 2).contiguous().transpose(1, 2) for x in tensors]
    for got, want in zip(
        torch.ops.ccnet.criss_cross_attention_backward(*strided), expected, strict=True
    ):
        torch.testing.assert_close(got, want)
