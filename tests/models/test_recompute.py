"""Activation checkpointing: the same step bit by bit, with less memory."""

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
