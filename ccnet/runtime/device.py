"""The device and the precision that a command computes with."""

from pathlib import Path

import torch

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}

CPUINFO = Path("/proc/cpuinfo")
FAST_BFLOAT16 = ("amx_bf16", "avx512_bf16")
"""Instructions that multiply bfloat16 faster than float32: AMX on Intel from Sapphire Rapids on,
AVX512_BF16 on AMD from Zen 4 on and on Intel Cooper Lake. ARM's `bf16` is not among them: no
measurement of this network on such a processor exists."""


def pick_device(device: str) -> torch.device:
    """The device of a name: auto, cpu, cuda, cuda:N or mps.

    "auto" is CUDA where there is a CUDA device, otherwise Apple's GPU (mps), otherwise the CPU.

    Raises:
        ValueError: the name is another one, or this machine has no such device.
    """
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device(next((name for name, is_there in available.items() if is_there), "cpu"))
    try:
        picked = torch.device(device)
    except RuntimeError:
        picked = None
    if picked is None or picked.type not in ("cpu", "cuda", "mps"):
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, got {device!r}")
    if not available.get(picked.type, True):
        raise ValueError(f"there is no {picked.type} device here; auto or cpu would work")
    index, count = picked.index or 0, 1
    if picked.type == "cuda":
        count = torch.cuda.device_count()
    if index >= count:
        last = f"the last is cuda:{count - 1}" if picked.type == "cuda" else "there is only one"
        raise ValueError(f"there is no {device} here; {last}")
    return picked if picked.type == "cuda" else torch.device(picked.type)


def pick_precision(precision: str, device: torch.device) -> str:
    """The name of a precision; "auto" is bfloat16 where the hardware multiplies it faster.

    Raises:
        ValueError: the name is none of auto, float32, bfloat16 and float16.
    """
    if precision == "auto":
        return "bfloat16" if bfloat16_is_fast(device) else "float32"
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be auto, {', '.join(PRECISIONS)}, got {precision!r}")
    return precision


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the device multiplies bfloat16 matrices faster than float32 ones.

    On CUDA that is Ampere (compute capability 8.0) or later, on a CPU one of `FAST_BFLOAT16`.
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    return device.type == "cpu" and any(map(cpu_has, FAST_BFLOAT16))


def cpu_has(instructions: str) -> bool:
    """Whether the processor has a set of instructions, such as avx512_bf16.

    torch tells it from some version on (2.13 does for both of `FAST_BFLOAT16`); what torch does not
    tell is read from Linux's list of the processor's flags. Where neither knows it, the answer is
    False.
    """
    known = getattr(torch.cpu, "get_capabilities", dict)()
    if instructions in known:
        return bool(known[instructions])
    return CPUINFO.is_file() and instructions in CPUINFO.read_text(errors="replace").split()
