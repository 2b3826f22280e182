"""What a save has to hold before any of it is used: anybody may have written the file."""

import math
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from numbers import Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Optimizer

from ccnet.config import OF_THE_MACHINE, TrainConfig
from ccnet.models.arguments import LIMITS, stored_bands
from ccnet.runtime.files import DataError, shown
from ccnet.runtime.processes import rank
from ccnet.weights import differences

KEYS = ("model", "optimizer", "others", "inherited", "step", "validated", "best_miou")
KEYS += ("skipped_in_a_row", "unlogged")
MAY_GROW = ("steps", "validate_every")
"""Options that may be changed in config.yaml, so that a run can be made longer; this is said."""
MAY_MOVE = ("data.root",)
"""Options that may be changed without a word: data.json tells whether the data are the same."""
LARGEST = 16384
"""Of a whole number among the arguments of a model."""


@contextmanager
def naming(path: Path | None) -> Iterator[None]:
    """Turn what a save of another make causes into a DataError that names it; None: no save."""
    try:
        yield
    except Exception as error:  # arguments of another make may raise anything in a constructor
        if path is None:
            raise
        reason = str(error).partition("\n")[0][:300] or type(error).__name__
        raise DataError(
            f"{path} does not fit the run: {reason}; resume with the configuration and the save "
            "that this run wrote, or start a new run",
            path=path,
        ) from error


def require_checkpoint(checkpoint: Mapping[str, Any], config: TrainConfig) -> None:
    """Check what a save counts, and that its run was made by this configuration.

    Raises:
        ValueError: something is missing, of another kind or out of range, or the configuration was
            changed since.
    """
    if missing := [name for name in KEYS if name not in checkpoint]:
        raise ValueError(f"the checkpoint has no {', '.join(missing)}: another version wrote it")
    counts = {"step": config.steps, "validated": checkpoint["step"], "skipped_in_a_row": 10**9}
    for name, most in counts.items():
        value = checkpoint[name]
        if type(value) is not int or not 0 <= value <= most:
            raise ValueError(f"its {name} must be 0 to {most}, got {shown(value)}")
    best, unlogged = checkpoint["best_miou"], checkpoint["unlogged"]
    if not isinstance(best, float) or not (best == -math.inf or 0 <= best <= 1):
        raise ValueError(f"its best_miou must be 0 to 1, got {shown(best)}")
    is_list = isinstance(unlogged, list) and len(unlogged) <= config.log_every
    if not is_list or not all(is_pair(values) for values in unlogged):
        raise ValueError(f"its unlogged must be pairs of numbers, got {shown(unlogged)}")
    for name in ("model", "optimizer", "others", "inherited", "config"):
        if not isinstance(checkpoint.get(name, {}), dict):
            raise ValueError(f"its {name} must be a mapping, got {shown(checkpoint[name])}")
    changed = dict(changes(checkpoint.get("config", {}), what_is_computed(config)))
    changed = {name: words for name, words in changed.items() if name not in MAY_MOVE}
    if others := [words for name, words in changed.items() if name not in MAY_GROW]:
        raise ValueError(f"config.yaml was changed since: {', '.join(others[:5])}")
    if changed and rank() == 0:
        words = ", ".join(changed.values())
        print(f"warning: config.yaml was changed since the last save: {words}", file=sys.stderr)


def is_pair(values: object) -> bool:
    return (
        isinstance(values, list | tuple)
        and len(values) == 2
        and all(isinstance(value, float) for value in values)
    )


def what_is_computed(config: TrainConfig) -> dict[str, Any]:
    """A configuration as plain values, without the options that may change in a resumed run.

    Class weights that are still to be measured are not among them either: the save has numbers.
    """
    plain = {k: v for k, v in config.to_plain().items() if k not in OF_THE_MACHINE}
    if config.loss.class_weights == "auto":
        del plain["loss"]["class_weights"]
    return plain


def changes(
    before: Mapping[str, Any], now: Mapping[str, Any], owner: str = ""
) -> Iterator[tuple[str, str]]:
    """Keys whose values differ, and how; a key that only one of the two has does not count."""
    for key, value in now.items():
        if key not in before:
            continue
        if isinstance(value, dict) and isinstance(before[key], dict):
            yield from changes(before[key], value, f"{owner}{key}.")
        elif before[key] != value:
            name = f"{owner}{key}"
            yield name, f"{name} is {shown(value)} and was {shown(before[key])}"


def require_inherited(arguments: Mapping[str, Any], known: Mapping[str, Any]) -> None:
    """Check the arguments of a model that a save contains, before a network is built of them.

    Args:
        arguments: of the save.
        known: those that a model of this run has.

    Raises:
        ValueError: one is unknown, of another kind, or too large.
    """
    bands = stored_bands({"in_channels": 3} | dict(arguments))
    for name, value in arguments.items():
        if name == "bands":
            continue
        is_list = isinstance(value, list) and len(value) <= LIMITS["in_channels"][1]
        numbers = value if is_list else [value]
        is_plain = all(part is None or isinstance(part, int | float | str) for part in numbers)
        if name not in known or not is_plain:
            raise ValueError(f"its model has the argument {shown(name)}: {shown(value)}")
        if any(isinstance(part, int | float) and not abs(part) <= LARGEST for part in numbers):
            raise ValueError(f"its model's {name} must be at most {LARGEST}, got {shown(value)}")
    if bands is None and arguments.get("in_channels", 3) != 3:
        raise ValueError("its model takes images of other channels than 3")


def require_weights(found: Mapping[str, Any], wanted: Mapping[str, Tensor]) -> None:
    """Raise ValueError if tensors of a state dict have not the names, shapes and dtypes wanted."""
    others = [name for name, value in found.items() if not is_plain_tensor(value)]
    if others:
        raise ValueError(f"its {shown(others[0])} is no tensor in plain memory")
    if problems := differences(found, wanted):
        raise ValueError(f"its weights: {problems}")
    for name, value in found.items():
        require_same_make(value, wanted[name], name)


def require_same_make(found: Any, wanted: Any, name: str) -> None:
    """Raise ValueError if a state is not made like another one: kinds, lengths, shapes, dtypes.

    Keys of mappings may be missing, since libraries add some from version to version.
    """
    if isinstance(wanted, dict):
        fits = isinstance(found, dict) and found.keys() <= wanted.keys()
        parts = [(found[key], wanted[key], f"{name}.{key}") for key in found] if fits else []
    elif isinstance(wanted, list | tuple):
        fits = isinstance(found, list | tuple) and len(found) == len(wanted)
        pairs = enumerate(zip(found, wanted, strict=True)) if fits else ()
        parts = [(*pair, f"{name}[{index}]") for index, pair in pairs]
    elif isinstance(wanted, Tensor):
        fits = is_plain_tensor(found) and found.shape == wanted.shape
        fits, parts = fits and found.dtype == wanted.dtype and bool(found.isfinite().all()), []
    elif isinstance(wanted, Real) and not isinstance(wanted, bool):
        fits = isinstance(found, Real) and not isinstance(found, bool) and math.isfinite(found)
        parts = []
    else:
        fits, parts = type(found) is type(wanted), []
    if not fits:
        raise ValueError(f"its {name} has another form, or is not finite: {shown(found)}")
    for part in parts:
        require_same_make(*part)


def is_plain_tensor(value: object) -> bool:
    """Whether a value is a tensor with its numbers in the CPU's memory, not a sparse one or so."""
    if not isinstance(value, Tensor) or value.is_quantized:
        return False
    return value.device.type == "cpu" and value.layout is torch.strided


def require_optimizer_state(found: Mapping[str, Any], optimizer: Optimizer) -> None:
    """Raise ValueError if an optimizer's state is not one of this optimizer's parameters."""
    wanted = optimizer.state_dict()
    groups, states = found.get("param_groups", ()), found.get("state")
    require_same_make(groups, wanted["param_groups"], "optimizer.param_groups")
    own = [group["params"] for group in wanted["param_groups"]]
    if [group.get("params") for group in groups] != own:
        raise ValueError("its optimizer has other parameters")
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if not isinstance(states, dict) or not set(states) <= set(range(len(parameters))):
        raise ValueError("its optimizer has other parameters")
    names = {"momentum_buffer"} if isinstance(optimizer, SGD) else {"step", "exp_avg", "exp_avg_sq"}
    for index, values in states.items():
        if not isinstance(values, dict) or set(values) != names:
            raise ValueError(f"its optimizer is not {type(optimizer).__name__}")
        for name, value in values.items():
            if value is None and name == "momentum_buffer":  # of SGD without momentum
                continue
            shape = () if name == "step" else parameters[index].shape
            like = torch.empty(shape, dtype=getattr(value, "dtype", None), device="meta")
            if not like.is_floating_point():
                raise ValueError(f"its optimizer's {name} is of another kind")
            require_same_make(value, like, f"optimizer.state[{index}].{name}")
