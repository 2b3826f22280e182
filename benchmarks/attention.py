"""Compare criss-cross attention with its usual form, dense attention and lower limits of the time.

The results of every form are first compared with a computation in float64; a form whose error is
over the budget is not timed. The forms run alternately, on the same numbers. The rows are appended
to results/attention.csv, from which attention_report.py makes tables and a plot.

    python benchmarks/attention.py                               everything on the CPU: an hour
    python benchmarks/attention.py --shapes 1x512x97x97 --dtypes float32
    python benchmarks/attention.py --device cuda --minutes 8

On Linux the script restarts itself with settings that make the C library keep freed memory.
Without them each large temporary tensor, of which the usual form has many, costs page faults, and
the comparison would favor this package.
"""

import argparse
import gc
import itertools
import math
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from attention_forms import Job, Problem, matrix_products, moved_bytes, non_local_flops
from attention_memory import extra_peak, process_peak, saved_for_backward
from attention_peers import OF_DEVICE, why_not
from csv_rows import append_row
from torch import Tensor

from ccnet.saving.run_folder import source_commit

BIG = "8x512x97x97"
WIDE = "1x512x256x512"
RESULTS = Path(__file__).parent / "results" / "attention.csv"
COLUMNS = ("date", "commit", "device", "threads", "torch", "triton", "level", "shape", "dtype")
COLUMNS += ("form", "passes", "status", "milliseconds", "spread", "calls", "error_over_plain")
COLUMNS += ("extra_peak_mib", "process_peak_mib", "saved_mib")
SHAPES = ["1x512x97x97", "8x512x97x97", "8x512x64x64", "1x512x128x256", "1x512x256x512"]
SMALL = "1x64x8x8"  # where calls cost more than what they compute
SHAPES += ["2x64x97x97", "1x256x8x60x80", "1x96x61x83", SMALL]
SQUARES = [f"1x512x{side}x{side}" for side in (48, 96, 192, 384)]  # to fit the growth exponents
PASSES = {"forward": Job.forward, "forward+backward": Job.forward_backward}
LIMIT = 60  # seconds; a row is skipped if its four calls are predicted to take longer
KEEP_MEMORY = {"MALLOC_MMAP_MAX_": "0", "MALLOC_TRIM_THRESHOLD_": str(1 << 34)}


class Table:
    """The CSV file of results; every row also has the facts of the machine and is printed."""

    def __init__(self, path: Path, device: str) -> None:
        self.path = path
        self.facts = {
            "date": time.strftime("%Y-%m-%d %H:%M"),
            "commit": source_commit(),
            "device": torch.cuda.get_device_name() if device == "cuda" else processor(),
            "threads": torch.get_num_threads(),
            "torch": torch.__version__,
            "triton": triton_version() if device == "cuda" else None,
        }

    def add(self, **row: object) -> None:
        append_row(self.path, COLUMNS, {**self.facts, "status": "timed", **row})
        keys = ("level", "shape", "dtype", "form", "passes", "milliseconds", "status")
        print(*(str(row[key]).ljust(16) for key in keys if row.get(key)), flush=True)


def measure(
    problem: Problem, level: str, forms: list[str], table: Table, arguments: argparse.Namespace
) -> None:
    """Add the rows of one level and problem: all forms and lower limits, with each of PASSES."""
    shape, dtype = "x".join(map(str, problem.shape)), str(problem.dtype).removeprefix("torch.")
    common = {"level": level, "shape": shape, "dtype": dtype}
    exact = Job(level, "reference", replace(problem, exact=True)).results()
    plain_errors = errors(Job(level, "plain", problem), exact)
    jobs, ratios = {}, {}
    for form in forms:
        job = Job(level, form, problem)
        if form != "non-local":  # which computes a different function
            found = errors(job, exact)
            ratios[form] = max(
                error / plain for error, plain in zip(found, plain_errors, strict=False)
            )
            if not within_budget(found, plain_errors, exact, problem.dtype):
                status = f"not timed: its error is {ratios[form]:.2f} times that of the plain form"
                for passes in PASSES:
                    table.add(**common, form=form, passes=passes, status=status)
                continue
        jobs[form] = job
    del exact
    products, flops = matrix_products(problem, level, backward=True)
    flops_per_second = flops / min(timed(products, problem.device) for _ in range(2))
    for passes, run in PASSES.items():
        backward = passes == "forward+backward"
        calls: dict[str, Callable[[], object]] = {}
        for form, job in jobs.items():
            if backward and not job.has_backward:
                continue
            predicted = 0.0
            if form == "non-local":
                predicted = 4 * non_local_flops(problem, backward) / flops_per_second
            if predicted > LIMIT:
                status = f"skipped: predicted {predicted:.0f} s"
                table.add(**common, form=form, passes=passes, status=status)
            else:
                calls[form] = lambda run=run, job=job: run(job)
        calls["matrix products"] = matrix_products(problem, level, backward)[0]
        for form, times in time_alternately(calls, problem.device, arguments.seconds).items():
            row = {**common, "form": form, "passes": passes, **summary(times)}
            if form in ratios:
                row["error_over_plain"] = f"{ratios[form]:.2f}"
            if form in jobs:
                row["extra_peak_mib"] = mib(extra_peak(calls[form], problem.device))
            if form in jobs and backward:
                job = jobs[form]
                saved = saved_for_backward(partial(job.function, *job.inputs), job.parameters)
                row["saved_mib"] = mib(saved)
                if shape in arguments.process_peaks and "compiled" not in form:
                    row["process_peak_mib"] = mib(process_peak(level, form, shape, dtype))
            table.add(**row)
        if problem.device == "cuda" and level == "operator":
            once, per_axis = moved_bytes(problem, backward)
            for name, moved in (("bytes once", once), ("bytes, one pass per axis", per_axis)):
                seconds = [moved / arguments.bandwidth]
                table.add(**common, form=name, passes=passes, **summary(seconds))


def usable_peers(problem: Problem, level: str, shape: str, dtype: str, table: Table) -> list[str]:
    """The kernels of others that run here on such tensors; the others get a row that says why."""
    peers = []
    for form in OF_DEVICE[problem.device]:
        reason = why_not(form, *problem.query_key_value())
        if reason is None:
            peers.append(form)
        else:
            table.add(level=level, shape=shape, dtype=dtype, form=form, status=reason)
    return peers


def errors(job: Job, exact: list[Tensor]) -> list[float]:
    """Root-mean-square errors of the output and, where there are gradients, of each of them."""
    return [rms(result.sub_(e)) for result, e in zip(job.results(), exact, strict=False)]


def within_budget(
    found: list[float], plain: list[float], exact: list[Tensor], dtype: torch.dtype
) -> bool:
    """Whether every error is at most twice that of the plain form plus one rounding."""
    rounding = torch.finfo(dtype).eps
    budgets = [2 * error + rounding * rms(e) for error, e in zip(plain, exact, strict=True)]
    return all(error <= budget for error, budget in zip(found, budgets, strict=False))


def rms(tensor: Tensor) -> float:
    return tensor.square().mean().sqrt().item()


def timed(call: Callable[[], object], device: str) -> float:
    """Seconds that one call takes; on a GPU the mean of as many consecutive calls as take 5 ms.

    In this way the GPU does not wait for Python, as in a network. On a GPU its own clock is read.
    """
    if device == "cpu":
        start = time.perf_counter()
        call()
        return time.perf_counter() - start
    first = on_gpu(call, 1)
    return first if first > 5e-3 else on_gpu(call, math.ceil(5e-3 / first))


def on_gpu(call: Callable[[], object], calls: int) -> float:
    """Mean seconds per call, by the clock of the GPU."""
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        call()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / 1e3 / calls


def time_alternately(
    calls: dict[str, Callable[[], object]], device: str, seconds: float
) -> dict[str, list[float]]:
    """Times in seconds of each call, where every turn runs each of them once.

    Each call is repeated for about `seconds`, but 3 to 30 times, or at least once if it takes 5 s.
    """
    first = {name: min(timed(call, device) for _ in range(2)) for name, call in calls.items()}
    times: dict[str, list[float]] = {name: [] for name in calls}
    for turn in range(30):
        for name, call in calls.items():
            fewest = 3 if first[name] < 5 else 1
            if turn < max(fewest, seconds / first[name]):
                times[name].append(timed(call, device))
    return times


def summary(seconds: list[float]) -> dict[str, object]:
    """Median and interquartile range."""
    low, middle, high = statistics.quantiles(seconds * 2, n=4, method="inclusive")
    return {
        "milliseconds": f"{1e3 * middle:.4g}",
        "spread": f"{1e3 * (high - low):.2g}",
        "calls": len(seconds),
    }


def mib(size: int) -> str:
    return f"{size / 2**20:.1f}"


def copy_bandwidth() -> float:
    """Bytes per second that a copy on the GPU reads and writes together."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    times = time_alternately({"copy": lambda: target.copy_(source)}, "cuda", 0.5)["copy"]
    return 2 * source.numel() / statistics.median(times)


def processor() -> str:
    facts = Path("/proc/cpuinfo")
    lines = facts.read_text().splitlines() if facts.exists() else []
    names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


def triton_version() -> str:
    import triton

    return triton.__version__


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu", help="where to run")
    parser.add_argument(
        "--shapes",
        nargs="+",
        default=[*SHAPES, *SQUARES],
        metavar="SHAPE",
        help="shapes of the feature maps: BxCxL, BxCxHxW or BxCxDxHxW",
    )
    parser.add_argument(
        "--dtypes",
        nargs="+",
        default=["float32", "bfloat16", "float16"],
        metavar="DTYPE",
        help="dtypes of all tensors, as PyTorch names them",
    )
    parser.add_argument(
        "--levels",
        nargs="+",
        default=["operator", "module"],
        metavar="LEVEL",
        help="operator (the attention alone) and module (with its convolutions, two passes)",
    )
    parser.add_argument(
        "--without",
        nargs="+",
        default=[],
        metavar="FORM",
        help='forms that are left out, such as "non-local", which takes most of the time',
    )
    parser.add_argument(
        "--compile",
        choices=("none", "first", "all"),
        default="first",
        help="shapes for which the plain form is also run under torch.compile: none, the first "
        "(which takes half a minute) or all",
    )
    parser.add_argument(
        "--seconds", type=float, default=2, help="seconds for which each form is repeated"
    )
    parser.add_argument(
        "--minutes",
        type=float,
        default=math.inf,
        help="start no further shape, dtype or level after this many minutes",
    )
    parser.add_argument("--output", type=Path, default=RESULTS, help="CSV file to append to")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    on_linux_cpu = arguments.device == "cpu" and platform.system() == "Linux"
    if on_linux_cpu and not KEEP_MEMORY.items() <= os.environ.items():
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **KEEP_MEMORY})
    arguments.process_peaks = SHAPES[:1] if on_linux_cpu else []
    arguments.bandwidth = copy_bandwidth() if arguments.device == "cuda" else None
    table = Table(arguments.output, arguments.device)
    end = time.monotonic() + 60 * arguments.minutes
    groups = list(itertools.product(arguments.shapes, arguments.dtypes, arguments.levels))
    if arguments.device == "cuda":  # rows that the goals need come first, in case the time ends
        goals = [(shape, "bfloat16", "operator") for shape in (BIG, WIDE, *SQUARES)]
        groups.sort(key=lambda group: goals.index(group) if group in goals else len(goals))
    first = groups[0][0]
    for shape, dtype, level in groups:
        forms = ["fused", "plain"]
        forms += ["recomputed"] if level == "module" else ["reference", "non-local"]
        if arguments.compile == "all" or (arguments.compile == "first" and shape == first):
            forms.append("plain compiled")
        if time.monotonic() > end:
            status = "not run: the time given by --minutes was over"
            table.add(level=level, shape=shape, dtype=dtype, status=status)
            continue
        sizes = tuple(map(int, shape.split("x")))
        problem = Problem(sizes, getattr(torch, dtype), arguments.device)
        if level == "operator":
            forms += usable_peers(problem, level, shape, dtype, table)
        forms = [form for form in forms if form not in arguments.without]
        measure(problem, level, forms, table, arguments)
        torch.compiler.reset()
        gc.collect()


if __name__ == "__main__":
    main()
