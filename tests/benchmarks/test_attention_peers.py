"""The attention kernels of others that attention.py compares with are exact peers."""

import importlib
import sys

import pytest
import torch

from ccnet import criss_cross_attention

pytestmark = pytest.mark.unchecked  # shapes and dtypes vary within a test
SHAPES = [(2, 8, 5, 7), (1, 16, 6, 4), (1, 8, 1, 9), (2, 8, 9), (1, 16, 3, 4, 5)]


@pytest.fixture
def peers():
    yield importlib.import_module("attention_peers")
    for name in [name for name in sys.modules if name.startswith("attention")]:
        del sys.modules[name]


def inputs(shape: tuple[int, ...]) -> list[torch.Tensor]:
    batch, channels, *spatial = shape
    torch.manual_seed(0)
    query, key = torch.randn(2, batch, channels // 4, *spatial, dtype=torch.float64).unbind()
    value = torch.randn(batch, channels, *spatial, dtype=torch.float64)
    return [1.5 * query, 1.5 * key, value]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_two_calls_of_a_flash_kernel_are_the_attention_and_its_gradient(peers, shape):
    tensors = [x.requires_grad_() for x in inputs(shape)]
    expected = criss_cross_attention(*tensors, backend="reference")
    found = peers.PEERS["flash-two-calls"](*tensors)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-13)
    grad = torch.randn_like(expected)
    gradients = (torch.autograd.grad(out, tensors, grad) for out in (found, expected))
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["flex-two-calls", "flex-whole-map"])
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_attention_is_the_attention(peers, form):
    for shape in SHAPES:
        if form == "flex-two-calls" or len(shape) == 4:
            tensors = inputs(shape)
            expected = criss_cross_attention(*tensors, backend="reference")
            torch.testing.assert_close(peers.PEERS[form](*tensors), expected, rtol=0, atol=1e-13)


def test_the_mask_of_a_whole_map_has_no_empty_block_at_97(peers):
    # the last block is counted whole though the map ends inside it, hence less than none is empty
    assert peers.cross_mask(97, 97, torch.device("cpu")).sparsity() <= 0


def test_a_peer_that_cannot_run_says_why(peers):
    tensors = [x.float() for x in inputs((1, 16, 6, 4))]
    assert peers.why_not("flash-two-calls", *tensors) is None
    assert "flash_attn" in peers.why_not("flash3-two-calls", *tensors)
    assert peers.why_not("efficient-two-calls", *tensors) is not None  # it is for CUDA
    assert "two axes" in peers.why_not("flex-whole-map", *(x[..., None] for x in tensors))


def test_a_large_own_score_does_not_cancel(peers):
    query, _, value = inputs((1, 8, 4, 6))
    tensors = 30 * query, 30 * query, value  # nearly all of the weight lies on the pixel itself
    expected = criss_cross_attention(*tensors, backend="reference")
    found = peers.PEERS["flash-two-calls"](*tensors)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)
