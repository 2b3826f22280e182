"""Convolutions by matrix products over tiles, compared with direct ones."""

import pytest
import torch
from torch import nn

from ccnet.inference import winograd
from ccnet.inference.winograd import WinogradConv2d, is_winograd, matrices, transformed

tiles = pytest.mark.parametrize("tile", [2, 4])


@tiles
def test_the_factors_of_a_tile_give_a_correlation(tile):
    outputs, filters = matrices(tile)
    x, f = torch.randn(tile + 2).double(), torch.randn(3).double()
    points = torch.stack(list(transformed(list(x))))
    expected = [f @ x[start : start + 3] for start in range(tile)]
    torch.testing.assert_close(outputs @ (filters @ f * points), torch.stack(expected))


@pytest.mark.parametrize("size", [(1, 7), (16, 16), (13, 30)])
@pytest.mark.parametrize(
    ("dilation", "padding", "bias"), [(1, 1, True), (2, 2, False), (4, 4, True), (1, 0, True)]
)
@tiles
def test_it_is_the_same_function_of_any_size(tile, dilation, padding, bias, size, monkeypatch):
    monkeypatch.setattr(winograd, "FEWEST_PIXELS", 0)
    monkeypatch.setattr(winograd, "PRODUCT_BYTES", 2**14)  # several groups of rows
    size = tuple(max(side, 3 - 2 * padding) for side in size)
    direct = nn.Conv2d(5, 7, 3, padding=padding, dilation=dilation, bias=bias).double()
    images = torch.randn(2, 5, *size).double()
    with torch.no_grad():
        found = WinogradConv2d(direct, tile)(images)
        torch.testing.assert_close(found, direct(images), rtol=0, atol=1e-13)
    assert found.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("tile", "dtype", "ratio"),
    [(2, torch.float32, 2), (4, torch.float32, 6), (2, torch.bfloat16, 3)],
)
@torch.no_grad()
def test_rounding_errors_are_a_small_multiple_of_the_direct_form_s(tile, dtype, ratio):
    direct = nn.Conv2d(256, 64, 3, padding=2, dilation=2).to(dtype)
    images = torch.randn(1, 256, 33, 40).relu().to(dtype)
    exact = nn.functional.conv2d(
        images.double(), direct.weight.double(), direct.bias.double(), padding=2, dilation=2
    )
    errors = [
        (form(images) - exact).square().mean().sqrt()
        for form in (WinogradConv2d(direct, tile), direct)
    ]
    assert errors[0] <= ratio * errors[1] + torch.finfo(dtype).eps * exact.square().mean().sqrt()
    assert errors[0] > 0


@torch.no_grad()
def test_small_maps_are_convolved_directly_whatever_the_batch():
    direct = nn.Conv2d(3, 3, 3, padding=1)
    form = WinogradConv2d(direct, 4)
    for batch, side, equal in ((1, 31, True), (2, 31, True), (1, 32, False)):
        images = torch.randn(batch, 3, side, side)
        assert torch.equal(form(images), direct(images)) == equal


@torch.no_grad()
def test_autocast_around_it_changes_nothing():
    form = WinogradConv2d(nn.Conv2d(4, 4, 3, padding=1), 4)
    images = torch.randn(1, 4, 32, 32)
    with torch.autocast("cpu", torch.bfloat16):
        found = form(images)
    assert torch.equal(found, form(images))


def test_other_convolutions_are_not_taken():
    assert is_winograd(nn.Conv2d(8, 9, 3, padding=2, dilation=2), 8)
    assert not is_winograd(nn.Conv2d(8, 9, 3, padding=2, dilation=2), 9)
    others = (
        nn.Conv2d(8, 8, 3, stride=2),
        nn.Conv2d(8, 8, 1),
        nn.Conv2d(8, 8, 3, groups=2),
        nn.Conv2d(8, 8, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(8, 8, 3, padding="same"),
        nn.Conv2d(8, 8, 3, padding=(1, 0)),
        nn.Conv2d(8, 8, 3, dilation=(1, 2)),
    )
    assert not any(is_winograd(conv, 8) for conv in others)
