"""Memory: how much this process has taken, and amounts of it as people write them."""

import re
import sys
from pathlib import Path

import torch

UNITS = {
    "": 1,
    **{f"{letter}b": 1000**power for power, letter in enumerate(("", "k", "m", "g", "t"))},
    **{f"{letter}ib": 1024**power for power, letter in enumerate(("k", "m", "g", "t"), start=1)},
}


def parse_size(text: str) -> int:
    """Bytes in an amount such as 500MB, 2GB, 1.5 GiB or 1000000000.

    Raises:
        ValueError: it is no positive amount.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d*)?)\s*([A-Za-z]*)\s*", text, re.ASCII)
    size = 0 if found is None else float(found[1]) * UNITS.get(found[2].lower(), 0)
    if size < 1:
        raise ValueError(f"an amount of memory is a number with a unit, such as 2GB; got {text!r}")
    return int(size)


def peak_memory(device: torch.device) -> int:
    """The most bytes that were in use so far where `device` computes.

    On a CUDA device, those that PyTorch has reserved there; else those of the main memory that this
    process has occupied.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_reserved(device)
    if sys.platform == "linux":  # getrusage also counts what the parent had before this program
        status = Path("/proc/self/status").read_text()
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024
    if sys.platform == "win32":
        return _peak_on_windows()
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _peak_on_windows() -> int:
    """PeakWorkingSetSize of GetProcessMemoryInfo."""
    import ctypes

    class Counters(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_ulong),
            ("num_page_faults", ctypes.c_ulong),
            ("peak", ctypes.c_size_t),
            ("others", ctypes.c_size_t * 8),
        )

    counters = Counters(size=ctypes.sizeof(Counters))
    kernel = getattr(ctypes, "windll").kernel32  # noqa: B009 - it exists on Windows only
    kernel.GetCurrentProcess.restype = ctypes.c_void_p
    process = ctypes.c_void_p(kernel.GetCurrentProcess())
    if not kernel.K32GetProcessMemoryInfo(process, ctypes.byref(counters), counters.size):
        raise OSError("Windows does not tell how much memory this process takes")
    return counters.peak
