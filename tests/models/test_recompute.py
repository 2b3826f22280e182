"""Activation checkpointing: the same step bit by bit, with less memory."""

import copy

import pytest
import torch
from torch import nn

from ccnet import RecurrentCrissCrossAttention
from ccnet.models.recompute import recompute

MIB = 2**20


def kept_bytes(module: nn.Module, features: torch.Tensor) -> int:
    """Bytes that a forward pass saves for the backward pass, without the module's own tensors."""
    own = {tensor.untyped_storage().data_ptr() for tensor in module.state_dict().values()}
    kept = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in own:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(features)
    return sum(kept.values())


@pytest.mark.slow
@pytest.mark.parametrize("recurrence", [2, 3])
def test_recomputed_attention_keeps_only_its_input(recurrence):
    features = torch.randn(1, 512, 97, 97, requires_grad=True)
    assert kept_bytes(RecurrentCrissCrossAttention(512, recurrence), features) > 100 * MIB
    module = RecurrentCrissCrossAttention(512, recurrence, recompute=True)
    assert kept_bytes(module, features) <= 20 * MIB


@pytest.mark.parametrize("recurrence", [0, 1, 3])
def test_recomputed_attention_gives_the_same_bits(recurrence):
    module = RecurrentCrissCrossAttention(16, recurrence)
    for attention in module.passes:
        nn.init.constant_(attention.gamma, 0.5)
    results = []
    for module.recompute in (False, True):
        features = torch.randn(2, 16, 5, 7, generator=torch.Generator().manual_seed(0))
        leaves = [features.requires_grad_(), *module.parameters()]
        out = module(features)
        results.append([out, *torch.autograd.grad((out * out).sum(), leaves)])
    for expected, got in zip(*results, strict=True):
        assert torch.equal(expected, got)


def test_a_recomputed_block_draws_the_same_random_numbers():
    block = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Dropout2d(0.5), nn.BatchNorm2d(8))
    results = []
    for call in (lambda x: block(x), lambda x: recompute(block, x)):
        torch.manual_seed(0)
        block[2].reset_running_stats()
        features = torch.randn(2, 3, 4, 4, requires_grad=True)
        call(features).square().sum().backward()
        results.append([features.grad, *map(torch.clone, block[2].buffers()), torch.rand(1)])
    for expected, got in zip(*results, strict=True):
        assert torch.equal(expected, got)


def new_pair() -> tuple[nn.Module, nn.Module, torch.Tensor]:
    """A block with attention and batch normalization, its recomputed twin, and features."""
    torch.manual_seed(1)
    plain = RecurrentCrissCrossAttention(8, 2)
    nn.init.constant_(plain.passes[0].gamma, 0.5)
    twin = copy.deepcopy(plain)
    twin.recompute = True
    return plain, twin, torch.randn(2, 8, 5, 6, dtype=torch.float64, requires_grad=True)


def test_the_backward_pass_can_run_twice_and_be_differentiated():
    plain, twin, features = new_pair()
    results = []
    for module in (plain.double(), twin.double()):
        out = module(features).pow(2).sum()
        first = torch.autograd.grad(out, features, retain_graph=True)
        second = torch.autograd.grad(out, features, create_graph=True)
        third = torch.autograd.grad(second[0].pow(2).sum(), features)
        results.append((*first, *second, *third))
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected)


def test_a_block_with_batch_normalization_runs_backward_twice_and_counts_once():
    block = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    twin, features = copy.deepcopy(block), torch.randn(2, 3, 5, 5, requires_grad=True)
    expected = torch.autograd.grad(block(features).pow(3).sum(), features)[0]
    out = recompute(twin, features).pow(3).sum()
    for _ in range(2):
        assert torch.equal(torch.autograd.grad(out, features, retain_graph=True)[0], expected)
    for name, value in block.state_dict().items():
        assert torch.equal(twin.state_dict()[name], value), name


def test_the_second_run_uses_the_parameters_of_a_functional_call():
    plain, twin, features = new_pair()
    other = {
        name: torch.randn_like(value, dtype=torch.float64).requires_grad_()
        for name, value in plain.named_parameters()
    }
    grads = []
    for module in (plain.double(), twin.double()):
        out = torch.func.functional_call(module, other, (features,)).pow(2).sum()
        grads.append(torch.autograd.grad(out, [features, *other.values()]))
    for expected, got in zip(*grads, strict=True):
        torch.testing.assert_close(got, expected)


def test_the_second_run_begins_with_the_buffers_of_the_first():
    plain, twin, features = new_pair()
    grads = []
    for module in (plain, twin):
        torch.manual_seed(2)
        torch.nn.utils.spectral_norm(module.passes[0].query_conv)  # its hook writes into a buffer
        out = module.double().train()(features).pow(2).sum()
        grads.append(torch.autograd.grad(out, features)[0])
    assert torch.equal(*grads)
    for name, value in plain.state_dict().items():
        assert torch.equal(twin.state_dict()[name], value), name


def test_torch_func_is_told_to_do_without():
    _, twin, features = new_pair()
    with pytest.raises(NotImplementedError, match="a module without recompute works"):
        torch.func.grad(lambda x: twin.double()(x).sum())(features.detach())
