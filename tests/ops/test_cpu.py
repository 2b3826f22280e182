"""The CPU form: tiles of lines, and the products inside a tile."""

import math

import pytest
import torch

from ccnet.ops import cpu, criss_cross_attention
from tests.conftest import attention_inputs


@pytest.mark.parametrize(
    ("count", "most", "sizes"),
    [(0, 3, [0]), (1, 3, [1]), (3, 3, [3]), (4, 3, [2, 2]), (10, 4, [3, 3, 4]), (5, 1, [1] * 5)],
)
def test_slices_are_as_few_as_possible_and_of_about_equal_size(count, most, sizes):
    slices = cpu.even_slices(count, most)
    assert [s.stop - s.start for s in slices] == sizes
    assert [i for s in slices for i in range(count)[s]] == list(range(count))


@pytest.mark.parametrize("most", [1, 2, 3, 4, 100])
@pytest.mark.parametrize(("outer", "inner"), [(5, 1), (3, 2), (2, 7), (1, 1)])
def test_groups_hold_every_line_once_and_at_most_as_many_as_asked(outer, inner, most):
    lines = torch.arange(outer * inner).view(outer, 1, inner, 1)
    view = lines.expand(outer, 4, inner, 2)
    seen = []
    for group, twin in cpu.line_groups([view, view + 1], outer, inner, most):
        assert group.shape[-2:] == (4, 2)
        assert group.shape[:2].numel() <= most
        assert torch.equal(group + 1, twin)
        seen += group[:, :, 0, 0].flatten().tolist()
    assert sorted(seen) == list(range(outer * inner))


@pytest.mark.parametrize("limit", [1, 20, 1000])
@pytest.mark.parametrize("shape", [(2, 5), (2, 3, 4), (1, 2, 3, 4)], ids=str)
def test_tiles_cover_the_scores_of_an_axis_once(shape, limit, monkeypatch):
    monkeypatch.setattr(cpu, "TILE_SCORES", limit)
    places = torch.arange(math.prod(shape)).view(*shape, 1)
    for axis in range(1, len(shape)):
        visits = torch.zeros(math.prod(shape))
        for start, (rows,), (columns,) in cpu.tiles(axis, (places,), (places,)):
            assert torch.equal(rows, columns[:, :, start : start + rows.shape[2]])
            assert columns.shape[2] == shape[axis]
            assert rows.numel() == 1 or rows.numel() * shape[axis] <= limit
            visits[rows.flatten()] += 1
        assert (visits == 1).all()


def test_a_statistic_comes_as_one_channel():
    key, peak = torch.randn(2, 3, 4, 5), torch.randn(2, 3, 4)
    ((_, (query_side,), _),) = cpu.tiles(2, (peak,), (key,))
    assert query_side.shape[2:] == (4, 1)
    assert torch.equal(query_side.flatten(), peak.flatten())


@pytest.mark.parametrize("limit", [1, 7, 1000])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_inner_products_are_summed_in_the_dtype_of_the_statistics(dtype, limit, monkeypatch):
    monkeypatch.setattr(cpu, "TILE_SCORES", limit)
    left, right = (torch.randn(2, 3, 4, 5, dtype=dtype) for _ in range(2))
    got = cpu.inner_products(left, right, torch.float32)
    assert got.dtype == torch.float32
    torch.testing.assert_close(got, (left * right).float().sum(-1))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("outers", [1, 3])
def test_a_product_replaces_its_target_or_is_added_to_it(outers, dtype):
    left = torch.randn(outers, 2, 4, 5, dtype=dtype)
    right = torch.randn(outers, 2, 5, 3, dtype=dtype)
    target = torch.full((outers, 2, 4, 3), math.nan, dtype=dtype)
    cpu.add_product(target, left, right, first=True)
    torch.testing.assert_close(target, left @ right)
    cpu.add_product(target, left, right, first=False)
    torch.testing.assert_close(target, 2 * (left @ right), rtol=2e-2, atol=2e-2)
    torch.testing.assert_close(cpu.product(left, right), left @ right)


def test_pixels_leave_themselves_out_of_their_scores():
    query, key = torch.randn(1, 2, 3, 4), torch.randn(1, 2, 5, 4)
    scores = cpu.tile_scores(query, key, 1, torch.float32)
    itself = torch.eye(5, dtype=torch.bool)[1:4].expand(1, 2, 3, 5)
    assert (scores[itself] == -math.inf).all()
    torch.testing.assert_close(scores.exp2(), (query @ key.mT).exp().masked_fill(itself, 0))


@pytest.mark.parametrize("spatial", [(300,), (1, 90), (90, 1), (70, 30), (3, 50, 2)], ids=str)
def test_the_working_set_is_a_tile_however_long_a_line(spatial, monkeypatch):
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
