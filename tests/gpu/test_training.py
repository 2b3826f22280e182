"""Training on the device of `--device`: precisions, processes, memory that is pinned or lacking."""

import csv
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import nn

from ccnet.config import DataConfig
from ccnet.datasets import Scenes
from ccnet.demo import SCENES
from ccnet.training.loop import train
from ccnet.training.samples import AugmentedDataset, TrainingBatches, new_loader

pytestmark = pytest.mark.slow
SHORT = replace(
    SCENES, data=DataConfig(num_images=80), steps=40, batch_size=8, validate_every=40, log_every=5
)


@pytest.fixture
def device(request) -> str:
    """The device alone: what the training makes must find its own way there."""
    return request.config.getoption("--device")


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_run_learns_in_every_precision(tmp_path, device, precision):
    scores = train(replace(SHORT, device=device, precision=precision), tmp_path / "run")
    with Path(tmp_path, "run", "log.csv").open(newline="") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file) if row["loss"]]
    assert losses[-1] < 0.7 * losses[0]
    assert scores is not None
    assert scores.miou > 0.25


def test_a_compiled_run_learns(tmp_path, device):
    if device == "cpu":
        pytest.skip("tests/training/test_loop.py compiles on the CPU")
    scores = train(replace(SHORT, device=device, compile=True), tmp_path / "run")
    assert scores is not None
    assert scores.miou > 0.25


def test_batches_come_in_pinned_memory(device):
    data = AugmentedDataset(Scenes(num_images=8), None, 0)
    loader = new_loader(data, TrainingBatches(8, 4, 2, 0), 1, torch.device(device))
    for images, labels in loader:
        assert images.is_pinned() == labels.is_pinned() == (device == "cuda")


def test_one_process_alone_synchronizes_its_norms(tmp_path, device):
    """SyncBatchNorm over NCCL; on a CPU, which has none, gloo alone."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    backend = "nccl" if device == "cuda" else "gloo"
    dist.init_process_group(backend, store=store, rank=0, world_size=1)
    try:
        total = torch.ones(3, device=device)
        dist.all_reduce(total)
        assert total.tolist() == [1, 1, 1]
        if device == "cuda":
            norm = nn.BatchNorm2d(4).to(device)
            synchronized = nn.SyncBatchNorm.convert_sync_batchnorm(nn.Sequential(norm))
            batch = torch.randn(2, 4, 5, 5, device=device)
            torch.testing.assert_close(synchronized(batch), nn.BatchNorm2d(4).to(device)(batch))
    finally:
        dist.destroy_process_group()


def test_too_little_memory_is_said_with_what_takes_less(tmp_path, device):
    if device == "cpu":
        pytest.skip("a CPU's memory cannot be bounded from inside")
    torch.cuda.set_per_process_memory_fraction(0.002)  # 280 MB of an H200
    try:
        with pytest.raises(MemoryError, match="a larger accumulate, or recompute"):
            train(replace(SHORT, device=device, batch_size=64), tmp_path / "run")
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        torch.cuda.empty_cache()
