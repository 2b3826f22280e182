"""Memory of one form of attention.py: its peak, and what is stored for the backward pass.

    python benchmarks/attention_memory.py LEVEL FORM SHAPE DTYPE

prints the peak of this process in bytes. Linux only.
"""

import argparse
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from attention_forms import Job, Problem
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile


def extra_peak(call: Callable[[], object], device: str) -> int:
    """Peak of the allocated bytes during a call, without its results (output and gradients)."""
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        result = call()
        torch.cuda.synchronize()
        return torch.cuda.max_memory_allocated() - torch.cuda.memory_allocated()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        result = call()
    assert profiler.profiler is not None
    events = [e for e in profiler.profiler.kineto_results.events() if e.name() == "[memory]"]
    live = peak = 0
    for event in sorted(events, key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    del result
    return peak - live


def saved_for_backward(call: Callable[[], object], parameters: Iterable[torch.Tensor]) -> int:
    """Bytes of the storages that a call saves for the backward pass, without the parameters."""
    own = {x.untyped_storage().data_ptr() for x in parameters}
    saved = {}

    def record(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(record, lambda tensor: tensor):
        out = call()
    del out
    return sum(size for address, size in saved.items() if address not in own)


def process_peak(level: str, form: str, shape: str, dtype: str) -> int:
    """Largest growth of the resident memory of a new process by forward and backward, in bytes.

    The output and the gradients are not counted. Linux only.
    """
    command = [sys.executable, __file__, level, form, shape, dtype]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(result.stdout.split()[-1])


def resident(field: str) -> int:
    """Resident memory of this process in bytes: now ("VmRSS") or its peak ("VmHWM")."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("level", choices=("operator", "module"))
    parser.add_argument("form", help="a form of attention_forms.py, such as fused or plain")
    parser.add_argument("shape", help="shape of the feature map, such as 1x512x97x97")
    parser.add_argument("dtype", help="dtype of all tensors, such as float32")
    arguments = parser.parse_args()
    level, form, dtype = arguments.level, arguments.form, getattr(torch, arguments.dtype)
    sizes = tuple(map(int, arguments.shape.split("x")))
    small = (*sizes[:2], *(min(size, 9) for size in sizes[2:]))
    Job(level, form, Problem(small, dtype)).forward_backward()  # loads the libraries
    job = Job(level, form, Problem(sizes, dtype))
    Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to the present value
    before = resident("VmRSS")
    results = job.forward_backward()
    size_of_results = sum(x.nbytes for x in results)
    print(resident("VmHWM") - before - size_of_results)


if __name__ == "__main__":
    main()
