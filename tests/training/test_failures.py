"""What went wrong in a step, in words: memory that isn't there, losses that aren't numbers."""

from dataclasses import replace

import pytest
import torch

from ccnet.config import DataConfig, TrainConfig
from ccnet.datasets.transforms import RandomTransform
from ccnet.training.failures import (
    describe_failure,
    explaining_out_of_memory,
    require_finite,
    requiring_finite_output,
)
from ccnet.training.samples import TrainingBatches

CROPS = DataConfig(augment=RandomTransform(crop_size=(769, 769)))


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
        RuntimeError("MPS backend out of memory"),
        RuntimeError("CUDA error: out of memory"),
        MemoryError("bad allocation"),
    ],
    ids=["CUDA", "CPU", "MPS", "CUDA's own", "Python"],
)
def test_lack_of_memory_says_what_takes_less(error):
    config = replace(TrainConfig(), data=CROPS, batch_size=8, accumulate=2)
    said = r"crops of \(769, 769\), batch_size 8 on 1 devices in 2 parts.*accumulate.*recompute"
    with pytest.raises(MemoryError, match=said) as caught, explaining_out_of_memory(config):
        raise error
    assert str(error) in str(caught.value)


@pytest.mark.parametrize("kind", [RuntimeError, NotImplementedError, RecursionError])
def test_other_errors_pass_as_they_are(kind):
    with pytest.raises(kind, match="of another kind"), explaining_out_of_memory(TrainConfig()):
        raise kind("of another kind")


def test_lack_of_memory_without_a_word_is_told_all_the_same():
    said = "What was tried: MemoryError"
    with pytest.raises(MemoryError, match=said), explaining_out_of_memory(TrainConfig()):
        raise MemoryError


@pytest.mark.parametrize(
    ("losses", "blamed"),
    [([torch.nan, 1.0], [0]), ([1.0, torch.inf], [1]), ([1.0, 2.0], [0, 1])],
    ids=["first part", "second part", "the gradient alone"],
)
def test_the_files_of_the_parts_that_are_to_blame_are_named(losses, blamed):
    model = torch.nn.Linear(3, 1, bias=False)
    torch.nn.init.constant_(model.weight, 2.0)
    batches = TrainingBatches(5, 4, 9, seed=2, parts=2)
    parts = batches.parts_of(7)
    files = [f"image {index}" for part in blamed for _, index in parts[part]]
    values = list(map(torch.tensor, losses))
    text = describe_failure(
        7, sum(values), torch.tensor(torch.inf), values, batches, lambda i: f"image {i}", model
    )
    assert "at step 7, the gradient's norm inf, the weights' 3.4641; " in text
    assert f"its files: {', '.join(files)}. A lower optimizer.lr" in text


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_network_that_is_not_finite_is_named(value):
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.BatchNorm1d(2))
    require_finite(model, step=7)
    with torch.no_grad():
        model[1].running_var[1] = value
    with pytest.raises(FloatingPointError, match=r"after step 7 .* not finite \(1\.running_var\)"):
        require_finite(model, step=7)


def test_finite_weights_that_overflow_are_found(capsys):
    model = torch.nn.Linear(1, 1)
    torch.nn.init.constant_(model.weight, 1e30)
    large, small = torch.full((1, 1), 1e30), torch.zeros(1, 1)
    with pytest.raises(FloatingPointError, match=r"after step 7 .* gives nothing that is finite"):  # noqa: SIM117
        with requiring_finite_output(model, step=7):
            model(large)
    with requiring_finite_output(model, step=7):
        model(large)
        model(small)
    assert "warning: 1 outputs of the validation are not finite" in capsys.readouterr().err
    with requiring_finite_output(model, step=7):
        pass
