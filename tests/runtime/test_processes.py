"""Sums and exchanges over processes: in two real ones, and in one that sends nothing."""

import time

import pytest
import torch
import torch.distributed as dist

from ccnet.losses import ohem_threshold
from ccnet.runtime import processes
from ccnet.runtime.processes import (
    broadcast_buffers,
    gather_over_processes,
    num_processes,
    objects_of_processes,
    rank,
    reporting_lost_processes,
    sum_over_processes,
)
from tests.conftest import in_processes


def everything() -> dict[str, object]:
    """All of it, by a process whose numbers are its rank plus one."""
    own = torch.full((2,), rank() + 1.0)
    norm = torch.nn.BatchNorm2d(2)
    norm.running_mean.copy_(own)
    total = sum_over_processes(own)
    broadcast_buffers(norm)
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


GLOO = "[/pytorch/third_party/gloo/gloo/transport/tcp/"


@pytest.mark.parametrize(
    "error",
    [
        dist.DistBackendError("NCCL error: remote process exited or there was a network error"),
        dist.DistNetworkError("The client socket has failed to connect to localhost:29500"),
        dist.DistStoreError("wait timeout after 300000ms"),
        RuntimeError(f"{GLOO}pair.cc:553] Connection closed by peer [127.0.0.1]:50329"),
        RuntimeError(f"{GLOO}pair.cc:537] Read error [::1]:3459: Connection reset by peer"),
        RuntimeError(f"{GLOO}unbound_buffer.cc:78] Timed out waiting 4000ms for recv operation"),
        RuntimeError("Application timeout caused pair closure"),
    ],
    ids=["backend", "network", "store", "closed", "reset", "timeout", "after a timeout"],
)
def test_a_lost_connection_is_told_after_a_moment(monkeypatch, error):
    waited = []
    monkeypatch.setattr(processes.time, "sleep", waited.append)
    with (
        pytest.raises(ConnectionError, match="process 0 has lost the others") as caught,
        reporting_lost_processes(),
    ):
        raise error
    assert caught.value.__cause__ is error
    assert waited == [2]


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("The size of tensor a (2) must match the size of tensor b (3)"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        NotImplementedError("no kernel"),
        ValueError("of another kind"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_other_errors_pass_unchanged_and_at_once(monkeypatch, error):
    monkeypatch.setattr(processes.time, "sleep", lambda _: pytest.fail("waited"))
    with pytest.raises(type(error)) as caught, reporting_lost_processes():
        raise error
    assert caught.value is error


def errors_of_the_first_of_two() -> list[tuple[str, str, float]]:
    """Of an exchange with wrong sizes, and after the other process has gone."""
    told = []
    if rank() == 1:
        dist.destroy_process_group()
        return told
    wrong = torch.ones(2), torch.ones(3)

    def gather_wrong_sizes() -> None:
        with reporting_lost_processes():
            dist.all_gather(list(wrong), torch.ones(2))

    for exchange in (gather_wrong_sizes, lambda: sum_over_processes(torch.ones(2))):
        start = time.monotonic()
        try:
            exchange()
        except Exception as error:
            told.append((type(error).__name__, str(error), time.monotonic() - start))
    return told


@pytest.mark.slow
def test_of_two_processes_one_that_has_gone_is_a_lost_connection_and_a_wrong_size_is_not():
    (wrong_size, lost), _ = in_processes(2, errors_of_the_first_of_two)
    assert wrong_size[0] != "ConnectionError"
    assert wrong_size[2] < 1
    assert lost[0] == "ConnectionError"
    assert "process 0 has lost the others" in lost[1]
