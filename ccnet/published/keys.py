"""The weights of a published network by our names, and what became of each key."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ccnet.published.names import ATTENTION, IN_PLACE_EPS, MARKS, PREFIXES, STRANGERS, Family
from ccnet.weights import DEEP_STEM, named


@dataclass(frozen=True)
class KeyChange:
    """What became of one key; without `key` it was left out, without `source_key` it was added."""

    source_key: str
    key: str
    change: str = ""


def recognize(path: Path, tensors: Mapping[str, Tensor]) -> Family:
    for family, mark in MARKS.items():
        if mark in tensors:
            return family
    for start, what in STRANGERS.items():
        if any(key.startswith(start) for key in tensors):
            raise ValueError(f"{path} is no published CCNet; it looks like {what}")
    keys = ", ".join(named(key) for key in list(tensors)[:3])
    raise ValueError(
        f"{path} is no published CCNet, which has {' or '.join(MARKS.values())}; it begins {keys}"
    )


def convert(
    family: Family, tensors: Mapping[str, Tensor], recurrence: int
) -> tuple[list[KeyChange], dict[str, Tensor]]:
    """What became of each key, and the state dict by our names."""
    prefixes = dict(PREFIXES[family])
    if family == "authors":
        is_deep = "conv3.weight" in tensors
        stem = DEEP_STEM if is_deep else {name: name for name in ("conv1.", "bn1.")}
        prefixes |= {theirs: f"backbone.{ours}" for theirs, ours in stem.items()}
    names = {key: _rename(key, prefixes) for key in tensors}
    if unknown := [key for key, name in names.items() if name is None]:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        names = ", ".join(named(key) for key in unknown[:5])
        raise ValueError(f"keys of unknown use in a CCNet: {names}{more}")
    changes, state = [], {}
    for source_key, key in names.items():
        assert key is not None
        if recurrence == 0 and key.startswith(ATTENTION):
            changes.append(KeyChange(source_key, "", "left out: no pass with recurrence=0"))
            continue
        if key in state:
            raise ValueError(f"two keys are {key}, of which one is {named(source_key)}")
        value, change = _adapt(family, key, source_key, tensors)
        state[key] = value
        changes.append(KeyChange(source_key, key, change))
    for key in _counters(state):
        if key not in state:
            state[key] = torch.tensor(0)
            changes.append(KeyChange("", key, "batch counter 0, which the file does not keep"))
    return changes, state


def _rename(key: str, prefixes: Mapping[str, str]) -> str | None:
    for theirs, ours in prefixes.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return None


def _adapt(
    family: Family, key: str, source_key: str, tensors: Mapping[str, Tensor]
) -> tuple[Tensor, str]:
    """A tensor as our network needs it, and what was changed."""
    value, changes = tensors[source_key], []
    if value.is_floating_point() and value.dtype != torch.float32:
        changes.append(f"{value.dtype} → float32".removeprefix("torch."))
        value = value.float()
    if key.endswith(".gamma") and value.shape == ():
        changes.append("γ of shape () → (1,)")
        value = value.reshape(1)
    if family == "authors" and key in ("backbone.stem.0.weight", "backbone.conv1.weight"):
        if value.ndim != 4 or value.shape[1] != 3:
            raise ValueError(f"{source_key} of shape {tuple(value.shape)}; the authors' takes BGR")
        changes.append("input channels BGR → RGB")
        value = value.flip(1)
    is_scale = source_key.removesuffix("weight") + "running_mean" in tensors
    if family == "authors" and key.endswith(".weight") and is_scale:
        changes.append(f"scale → |scale| + {IN_PLACE_EPS}")
        value = value.abs() + IN_PLACE_EPS
    return value, "; ".join(changes)


def _counters(state: Mapping[str, Tensor]) -> Iterator[str]:
    for key in list(state):
        if key.endswith(".running_mean"):
            yield key.removesuffix("running_mean") + "num_batches_tracked"
