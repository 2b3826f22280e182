"""Which device and which precision a command computes with."""

import torch

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def pick_device(device: str) -> torch.device:
    """Raises ValueError for a device that there isn't."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device(next((name for name, there in available.items() if there), "cpu"))
    try:
        picked = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, got {device!r}") from None
    if not available.get(picked.type, True):
        raise ValueError(f"there is no {picked.type} device here; auto or cpu would work")
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise ValueError(f"there is no {device} here; the last is cuda:{last}")
    return picked


def pick_precision(precision: str, device: torch.device) -> str:
    if precision == "auto":
        return "bfloat16" if bfloat16_is_fast(device) else "float32"
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be auto, {', '.join(PRECISIONS)}, got {precision!r}")
    return precision


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the hardware has bfloat16 matrix units: AMX on a CPU, Ampere or later on CUDA."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool(getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16", False))
    return False
