"""Read published networks: the architecture, the weights by our names, what became of each key.

Two families are known: the CCNet authors' files and mmsegmentation's. The architecture is a dict
of arguments of `CCNet`, so that this file does not depend on the network.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ccnet.classes import PUBLISHED
from ccnet.models.published_names import (
    ATTENTION,
    DEPTHS,
    IN_PLACE_EPS,
    MARKS,
    PREFIXES,
    STEMS,
    STRANGERS,
    Family,
)
from ccnet.weights import BGR_MEAN, DEEP_STEM, named, read_weights


@dataclass(frozen=True)
class KeyChange:
    """What became of one key; without `key` it was left out, without `source_key` it was added."""

    source_key: str
    key: str
    change: str = ""


@dataclass(frozen=True)
class Published:
    """A published network, ready to be built."""

    path: Path
    family: Family
    architecture: dict[str, Any]
    """Arguments of `CCNet`."""
    state: dict[str, Tensor]
    """The weights by our names."""
    changes: tuple[KeyChange, ...]
    """One entry for every key of the file and of `state`."""
    notes: tuple[str, ...]
    """What the weights alone do not tell, and how it was decided."""
    metadata: dict[str, Any]
    """What was stored in the file besides the weights."""

    def describe(self) -> str:
        """A summary in words: the network, how many keys were changed and how, and the notes."""
        made = self.architecture
        width = made["auxiliary_channels"]
        auxiliary = f"auxiliary head of {width} channels" if width else "no auxiliary head"
        lines = [
            f"{self.family}: {made['backbone']} with stem {made['stem']}, R={made['recurrence']}, "
            f"{made['num_classes']} classes, {auxiliary}"
        ]
        fates = Counter(
            "left out" if not change.key else "added" if not change.source_key else "taken over"
            for change in self.changes
        )
        lines.append("keys: " + ", ".join(f"{count} {fate}" for fate, count in fates.items()))
        changes = Counter(change.change for change in self.changes if change.change)
        lines += [f"  {count} × {change}" for change, count in changes.items()]
        return "\n".join([*lines, *self.notes])

    def save_report(self, path: Path) -> None:
        """Write a CSV file with one row per key: in the file, in our network, what changed."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["source_key", "key", "change"])
            writer.writerows((c.source_key, c.key, c.change) for c in self.changes)


def read_published(
    path: str | Path, recurrence: int = 2, *, align_corners: bool | None = None
) -> Published:
    """Read the authors' or mmsegmentation's CCNet; the family is recognized by its keys.

    Args:
        path: the published file; no code in it is run.
        recurrence: R, which the weights do not tell, since all passes share them.
        align_corners: of the upsampling, which the weights do not tell either. None: True for the
            authors'; for mmsegmentation's what a configuration stored in the file says, without
            one True if the file's name contains 769x769 and False otherwise.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, is no CCNet, or has a key of unknown use.
    """
    path = Path(path)
    weights = read_weights(path)
    family = _recognize(path, weights.tensors)
    try:
        changes, state = _convert(family, weights.tensors, recurrence)
        architecture = _architecture(state) | {"recurrence": recurrence}
    except KeyError as error:
        raise ValueError(f"{path}: a CCNet of {family}, but it has no {error.args[0]}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    rules, class_notes = _input_and_rules(family, architecture["num_classes"], weights.metadata)
    architecture |= rules
    notes = [
        *class_notes,
        f"recurrence={recurrence}: the weights are the same for any number of passes",
    ]
    if align_corners is not None:
        notes.append(f"align_corners={align_corners}, as asked for")
    elif family == "authors":
        align_corners = True
        notes.append("align_corners=True, as the authors' network")
    else:
        align_corners, reason = _align_corners(path, weights.metadata)
        notes.append(f"align_corners={align_corners}: {reason}")
    architecture["align_corners"] = align_corners
    return Published(
        path, family, architecture, state, tuple(changes), tuple(notes), weights.metadata
    )


def _recognize(path: Path, tensors: Mapping[str, Tensor]) -> Family:
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


def _convert(
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


def _architecture(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of `CCNet` that the shapes tell.

    Raises KeyError for a missing weight, and ValueError for unknown shapes.
    """
    is_deep = "backbone.stem.0.weight" in state
    deep = [f"backbone.stem.{index}.weight" for index in (0, 3, 6)]
    stem = deep if is_deep else ["backbone.conv1.weight"]
    widths = tuple(_sides(state, name)[0] for name in stem)
    if widths not in STEMS:
        raise ValueError(f"a stem of {widths} channels; known are {', '.join(map(str, STEMS))}")
    counts = tuple(
        len({key.split(".", 3)[2] for key in state if key.startswith(f"backbone.layer{index}.")})
        for index in (1, 2, 3, 4)
    )
    is_bottleneck = "backbone.layer1.0.conv3.weight" in state
    if (is_bottleneck, counts) not in DEPTHS:
        raise ValueError(f"a ResNet of {counts} blocks; known are {', '.join(map(str, DEPTHS))}")
    channels, _, kernel_size, _ = _sides(state, "head.reduction.0.weight")
    reduction = 8
    if (query := ATTENTION + "query_conv.weight") in state:
        reduction = _sides(state, query)[1] // _sides(state, query)[0]
    width = None
    if "auxiliary_head.0.weight" in state:
        width = _sides(state, "auxiliary_head.0.weight")[0]
    return {
        "num_classes": _sides(state, "head.classifier.weight")[0],
        "backbone": f"resnet{DEPTHS[is_bottleneck, counts]}",
        "channels": channels,
        "reduction": reduction,
        "kernel_size": kernel_size,
        "in_channels": _sides(state, stem[0])[1],
        "stem": STEMS[widths],
        "auxiliary_channels": width,
        "auxiliary_bias": "auxiliary_head.0.bias" in state,
    }


def _sides(state: Mapping[str, Tensor], key: str) -> tuple[int, ...]:
    """The shape of a convolution's weight."""
    shape = tuple(state[key].shape)
    if len(shape) != 4 or not all(shape):
        raise ValueError(f"{key} of shape {shape}; a convolution has four sides")
    return shape


def _input_and_rules(
    family: Family, num_classes: int, metadata: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Arguments of `CCNet` that the family tells, the classes' names and colors, and notes."""
    known, notes = PUBLISHED.get(num_classes), []
    classes = _named(metadata, "classes", _is_name, num_classes)
    if classes is None and known is not None:
        classes = tuple(known)
        name = f"{classes[0]}, {classes[1]}, ..."
        notes.append(f"classes: the file names none; its {num_classes} are taken for {name}")
    palette = _named(metadata, "palette", _is_color, num_classes)
    rules = {
        "output_stride": 8,
        "classes": classes,
        "palette": palette or (known and tuple(known.values())),
    }
    if family == "authors":
        ours = {"dilation": "uniform", "ceil_mode": True, "activation": "leaky_relu"}
        rules |= ours | {"mean": BGR_MEAN[::-1], "std": (1.0, 1.0, 1.0)}
    else:
        rules |= {"dilation": "contract", "ceil_mode": False, "activation": "relu"}
    return rules, notes


def _named(
    metadata: Mapping[str, Any], name: str, fits: Callable[[Any], bool], count: int
) -> tuple[Any, ...] | None:
    """A list with one entry per class, where old or new versions of mmsegmentation store it."""
    meta = metadata.get("meta")
    if not isinstance(meta, Mapping):
        return None
    inner = meta.get("dataset_meta")
    stored = inner.get(name) if isinstance(inner, Mapping) else meta.get(name.upper())
    if isinstance(stored, tuple | list) and len(stored) == count and all(map(fits, stored)):
        return tuple(stored)
    return None


def _is_name(item: Any) -> bool:
    return isinstance(item, str)


def _is_color(item: Any) -> bool:
    is_triple = isinstance(item, tuple | list) and len(item) == 3
    return is_triple and all(isinstance(value, int) and 0 <= value <= 255 for value in item)


def _align_corners(path: Path, metadata: Mapping[str, Any]) -> tuple[bool, str]:
    meta = metadata.get("meta")
    texts = {v for v in meta.values() if isinstance(v, str)} if isinstance(meta, Mapping) else set()
    said = {word for t in texts for word in re.findall(r"align_corners\W{1,5}(True|False)", t)}
    if len(said) == 1:
        return said == {"True"}, "as the configuration in the file says"
    if "769x769" in path.name:
        return True, "as mmsegmentation's models of 769x769 crops, after the file's name"
    return False, "mmsegmentation's models of 769x769 crops want True"
