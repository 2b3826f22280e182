"""What processes add up and hand around, in two real ones, and in one where nothing is sent."""

import pytest
import torch

from ccnet.losses import ohem_threshold
from ccnet.runtime.processes import (
    gather_over_processes,
    num_processes,
    objects_of_processes,
    rank,
    sum_over_processes,
    take_buffers_of_first,
)
from tests.conftest import in_processes


def everything() -> dict[str, object]:
    """All of it, by a process whose numbers are its rank plus one."""
    own = torch.full((2,), rank() + 1.0)
    norm = torch.nn.BatchNorm2d(2)
    norm.running_mean.copy_(own)
    total = sum_over_processes(own)
    take_buffers_of_first(norm)
    probabilities = torch.tensor([0.8, 0.9, 0.3]) if rank() == 0 else torch.tensor([0.7, 0.2])
    return {
        "rank": rank(),
        "processes": num_processes(),
        "sum": total.tolist(),
        "own": own.tolist(),
        "gathered": gather_over_processes(own).tolist(),
        "objects": objects_of_processes(f"rank {rank()}"),
        "mean": norm.running_mean.tolist(),
        "thresholds": [ohem_threshold(probabilities, 0.25, kept).item() for kept in range(6)],
    }


@pytest.mark.slow
def test_two_processes_have_the_same_sums_gathers_and_statistics():
    for index, found in enumerate(in_processes(2, everything)):
        assert found.pop("rank") == index
        assert found.pop("own") == [index + 1.0] * 2  # what was given is left as it was
        thresholds = found.pop("thresholds")
        assert found == {
            "processes": 2,
            "sum": [3.0, 3.0],
            "gathered": [1.0, 1.0, 2.0, 2.0],
            "objects": ["rank 0", "rank 1"],
            "mean": [1.0, 1.0],
        }
        # of 0.2, 0.3, 0.7, 0.8, 0.9 in both together; all five are kept where five are wanted
        assert thresholds == pytest.approx([0.25, 0.25, 0.3, 0.7, 0.8, 1.0])


def test_one_process_sends_nothing():
    value = torch.ones(3)
    assert (rank(), num_processes()) == (0, 1)
    assert sum_over_processes(value) is value
    assert gather_over_processes(value) is value
    assert objects_of_processes("x") == ["x"]
