"""What is known of the machine."""

import pytest
import torch

from ccnet.planning import machine
from ccnet.planning.machine import free_in_container, free_memory, look_at_machine

CPU = torch.device("cpu")


def test_a_processor_has_cores_and_free_memory():
    found = look_at_machine("cpu", "float32")
    assert (found.device, found.precision) == (CPU, "float32")
    assert found.cores >= 1
    assert 1 << 20 < found.memory < 1 << 50


def test_a_device_that_is_not_there_is_an_error():
    with pytest.raises(ValueError, match="there is no"):
        look_at_machine("cuda:99")


def test_a_container_may_have_less_than_the_machine(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "CGROUP", tmp_path)
    assert free_in_container() is None
    (tmp_path / "memory.max").write_text("max\n")
    assert free_in_container() is None
    (tmp_path / "memory.max").write_text("5000000\n")
    (tmp_path / "memory.current").write_text("2000000\n")
    assert free_in_container() == 3_000_000
    assert free_memory(CPU) == 3_000_000


def test_without_linux_s_figures_half_of_the_memory_counts_as_free(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "MEMINFO", tmp_path / "missing")
    assert 1 << 20 < free_memory(CPU) < 1 << 50
