"""Weights and the network that they are for: why they do not fit, and a network built with them."""

from collections.abc import Callable, Mapping
from typing import TypeVar

import torch
from torch import Tensor, nn

from ccnet.weights.checks import FLOATS, named

Network = TypeVar("Network", bound=nn.Module)


def differences(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Why a state dict cannot be loaded into a network, in words; empty if it can be.

    Keys that are missing, unexpected, of another shape or of another type are counted, and some of
    them named. The batch counters of normalization may be missing. Floating-point weights need
    floating-point values, of float16 to float64.
    """
    common = [(key, value, wanted[key]) for key, value in given.items() if key in wanted]
    problems = {
        "missing": [
            named(key)
            for key in wanted
            if key not in given and not key.endswith("num_batches_tracked")
        ],
        "unexpected": [named(key) for key in given if key not in wanted],
        "of another shape": [
            f"{named(key)} {tuple(value.shape)} for {tuple(target.shape)}"
            for key, value, target in common
            if value.shape != target.shape
        ],
        "of another type": [
            f"{named(key)} {value.dtype} for {target.dtype}".replace("torch.", "")
            for key, value, target in common
            if not _converts(value.dtype, target.dtype)
        ],
    }
    return "; ".join(
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in problems.items()
        if keys
    )


def _converts(given: torch.dtype, wanted: torch.dtype) -> bool:
    """Whether values keep their meaning; a counter may be an average, as AveragedModel makes it."""
    if wanted.is_floating_point:
        return given in FLOATS
    return not given.is_complex and given != torch.bool


def build_with_weights(
    build: Callable[[], Network], state: Mapping[str, Tensor], *, is_all_stored: bool
) -> Network:
    """Build a network and load weights; nothing is allocated before the weights are known to fit.

    Args:
        build: makes the network, on torch's default device.
        state: its state dict, which is copied.
        is_all_stored: whether the state dict has all tensors of the network. Then the network takes
            them without being initialized first; else it is built a second time.

    Raises:
        ValueError: the weights do not fit, as `differences` tells.
    """
    with torch.device("meta"):
        network = build()
    wanted = network.state_dict()
    if problems := differences(state, wanted):
        raise ValueError(problems)
    if not is_all_stored:
        network = build()
        network.load_state_dict(state, strict=False)
        return network
    plain = torch.contiguous_format
    own = {
        key: value.to(wanted[key].dtype, copy=True, memory_format=plain)
        for key, value in state.items()
    }
    network.load_state_dict(own, strict=False, assign=True)
    return network
