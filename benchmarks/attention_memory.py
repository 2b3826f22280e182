"""What a form of attention.py takes of memory: while it runs, and from forward to backward.

python benchmarks/attention_memory.py LEVEL FORM SHAPE DTYPE    # the peak of this process, in MiB
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import torch
from attention_forms import Job, Problem
from torch.autograd.graph import saved_tensors_hooks
from torch.profiler import ProfilerActivity, profile


def extra_peak(call: Callable[[], object], device: str) -> int:
    """The most bytes live at once, less those of the results: outputs and gradients."""
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


def saved_for_backward(job: Job) -> int:
    """Bytes of the storages kept from forward to backward, parameters aside."""
    parameters = {x.untyped_storage().data_ptr() for x in job.parameters}
    kept = {}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with saved_tensors_hooks(note, lambda tensor: tensor):
        out = job.function(*job.inputs)
    del out
    return sum(size for address, size in kept.items() if address not in parameters)


def process_peak(level: str, form: str, shape: str, dtype: str) -> int:
    """Bytes that forward and backward add to a fresh process's resident memory, at the most.

    Outputs and gradients don't count. Linux only.
    """
    command = [sys.executable, __file__, level, form, shape, dtype]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(result.stdout.split()[-1])


def resident(field: str) -> int:
    """VmRSS or VmHWM of this process, in bytes."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(field))


def main() -> None:
    level, form, shape, dtype = sys.argv[1:]
    sizes = tuple(map(int, shape.split("x")))
    small = (*sizes[:2], *(min(size, 9) for size in sizes[2:]))
    Job(level, form, Problem(small, getattr(torch, dtype))).forward_backward()  # loads libraries
    job = Job(level, form, Problem(sizes, getattr(torch, dtype)))
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
    before = resident("VmRSS")
    results = job.forward_backward()
    own = sum(x.nbytes for x in results)
    print(resident("VmHWM") - before - own)


if __name__ == "__main__":
    main()
