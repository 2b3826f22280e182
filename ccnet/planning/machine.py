"""The machine that a run is planned for."""

import os
from dataclasses import dataclass
from pathlib import Path

import torch

from ccnet.runtime.device import pick_device, pick_precision

CGROUP = Path("/sys/fs/cgroup")
MEMINFO = Path("/proc/meminfo")


@dataclass(frozen=True)
class Machine:
    """One device, and what there is of it."""

    device: torch.device
    precision: str
    """The fastest that trains well: bfloat16 or float32."""
    memory: int
    """Bytes that are free on the device."""
    cores: int
    """Cores of the processor that this process may use."""


def look_at_machine(device: str = "auto", precision: str = "auto") -> Machine:
    """The machine as it is now; raises ValueError for a device that is not there."""
    picked = pick_device(device)
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return Machine(picked, pick_precision(precision, picked), free_memory(picked), cores or 1)


def free_memory(device: torch.device) -> int:
    """Bytes that are free on a CUDA device, or else in the main memory for this process."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    if not MEMINFO.is_file():
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    available = int(MEMINFO.read_text().partition("MemAvailable:")[2].split()[0]) * 1024
    limited = free_in_container()
    return available if limited is None else min(available, limited)


def free_in_container() -> int | None:
    """Bytes up to the limit of the control group; None without one."""
    limit, used = CGROUP / "memory.max", CGROUP / "memory.current"
    if not limit.is_file() or (text := limit.read_text().strip()) == "max":
        return None
    return int(text) - int(used.read_text())
