"""A published file → the network it belongs to, its weights by our names, and each key's fate.

Knows two families: the CCNet authors' files and mmsegmentation's. Knows no model: the architecture
is a dict of `CCNet`'s arguments.
"""

import csv
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ccnet.classes import PUBLISHED
from ccnet.weights import BGR_MEAN, DEEP_STEM, read_weights

Source = Literal["authors", "mmsegmentation"]
IN_PLACE_EPS = 1e-5  # of the authors' in-place normalisation, whose scale is |weight| + this
STEMS = {(64,): "plain", (32, 32, 64): "deep_32", (64, 64, 128): "deep_64"}
DEPTHS: dict[
    tuple[bool, tuple[int, ...]], int
] = {  # whether blocks are bottlenecks, and how many a layer has
    (False, (2, 2, 2, 2)): 18,
    (False, (3, 4, 6, 3)): 34,
    (True, (3, 4, 6, 3)): 50,
    (True, (3, 4, 23, 3)): 101,
    (True, (3, 8, 36, 3)): 152,
}
ATTENTION = "head.attention.passes.0."
PREFIXES: dict[Source, dict[str, str]] = {
    "authors": {
        **{f"layer{index}.": f"backbone.layer{index}." for index in (1, 2, 3, 4)},
        "head.conva.": "head.reduction.",
        "head.cca.": ATTENTION,
        "head.convb.": "head.smoothing.",
        "head.bottleneck.0.": "head.fusion.0.",
        "head.bottleneck.1.": "head.fusion.1.",
        "head.bottleneck.3.": "head.classifier.",
        "dsn.0.": "auxiliary_head.0.",
        "dsn.1.": "auxiliary_head.1.",
        "dsn.3.": "auxiliary_head.4.",
    },
    "mmsegmentation": {
        "backbone.": "backbone.",
        "decode_head.convs.0.conv.": "head.reduction.0.",
        "decode_head.convs.0.bn.": "head.reduction.1.",
        "decode_head.cca.gamma.scale": ATTENTION + "gamma",
        "decode_head.cca.": ATTENTION,
        "decode_head.convs.1.conv.": "head.smoothing.0.",
        "decode_head.convs.1.bn.": "head.smoothing.1.",
        "decode_head.conv_cat.conv.": "head.fusion.0.",
        "decode_head.conv_cat.bn.": "head.fusion.1.",
        "decode_head.conv_seg.": "head.classifier.",
        "auxiliary_head.convs.0.conv.": "auxiliary_head.0.",
        "auxiliary_head.convs.0.bn.": "auxiliary_head.1.",
        "auxiliary_head.conv_seg.": "auxiliary_head.4.",
    },
}
MARKS: dict[Source, str] = {
    "authors": "head.cca.query_conv.weight",
    "mmsegmentation": "decode_head.cca.query_conv.weight",
}
STRANGERS = {  # the start of a key that tells another network, most telling first
    "head.reduction.0.": "weights saved by this package: CCNet.from_pretrained(FOLDER) reads them",
    "roi_head.": "a detector of mmdetection",
    "bbox_head.": "a detector of mmdetection",
    "decode_head.psp_modules.": "mmsegmentation's PSPNet",
    "decode_head.sep_bottleneck.": "mmsegmentation's DeepLabV3+",
    "decode_head.aspp_modules.": "mmsegmentation's DeepLabV3",
    "decode_head.": "a network of mmsegmentation without criss-cross attention",
    "backbone.layer1.": "another network on a ResNet",
    "stem.": "a backbone alone (ResNet with a deep stem): CCNet(pretrained=FILE) reads it",
    "layer1.": "a backbone alone (ResNet): CCNet(pretrained=FILE) reads it",
    "features.0.": "a backbone alone (MobileNet or the like): CCNet(pretrained=FILE) reads it",
    "patch_embed.": "a vision transformer",
}


@dataclass(frozen=True)
class Entry:
    """What became of one key: an empty `key` was left out, an empty `source_key` added."""

    source_key: str
    key: str
    change: str = ""


@dataclass(frozen=True)
class Published:
    """A published network as it is built and filled here."""

    path: Path
    source: Source
    architecture: dict[str, Any]
    """Arguments of `CCNet`."""
    state: dict[str, Tensor]
    """Weights by our names."""
    entries: tuple[Entry, ...]
    """Every key of the file and of ours."""
    notes: tuple[str, ...]
    """What the weights alone couldn't tell, and how it was decided."""
    metadata: dict[str, Any]
    """What lay beside the weights in the file."""

    def describe(self) -> str:
        """The network, the keys' counts and each change, for people."""
        made = self.architecture
        width = made["auxiliary_channels"]
        auxiliary = f"auxiliary head of {width} channels" if width else "no auxiliary head"
        lines = [
            f"{self.source}: {made['backbone']} with stem {made['stem']}, R={made['recurrence']}, "
            f"{made['num_classes']} classes, {auxiliary}"
        ]
        fates = Counter(
            "left out" if not entry.key else "added" if not entry.source_key else "taken over"
            for entry in self.entries
        )
        lines.append("keys: " + ", ".join(f"{count} {fate}" for fate, count in fates.items()))
        changes = Counter(entry.change for entry in self.entries if entry.change)
        lines += [f"  {count} × {change}" for change, count in changes.items()]
        return "\n".join([*lines, *self.notes])

    def save_report(self, path: Path) -> None:
        """A CSV of every key: in the file, in our network, what was changed."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["source_key", "key", "change"])
            writer.writerows((e.source_key, e.key, e.change) for e in self.entries)


def read_published(
    path: str | Path, recurrence: int = 2, *, align_corners: bool | None = None
) -> Published:
    """Read the authors' or mmsegmentation's CCNet; the source is known by its keys.

    `recurrence` can't be read from weights: the passes share them. Nor can `align_corners`: the
    authors' is True; for mmsegmentation's, None takes what a configuration stored in the file says,
    else True where the file's name says 769x769 and False otherwise. Raises FileNotFoundError, and
    ValueError for a file that can't be read, is no CCNet or has a key of unknown use.
    """
    path = Path(path)
    weights = read_weights(path)
    source = _recognise(path, weights.tensors)
    try:
        entries, state = _convert(source, weights.tensors, recurrence)
        architecture = _architecture(state) | {"recurrence": recurrence}
    except (KeyError, IndexError) as error:
        raise ValueError(f"{path}: a CCNet of {source}, but it has no {error.args[0]}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    rules, class_notes = _input_and_rules(source, architecture["num_classes"], weights.metadata)
    architecture |= rules
    notes = [
        *class_notes,
        f"recurrence={recurrence}: the weights are the same for any number of passes",
    ]
    if align_corners is not None:
        notes.append(f"align_corners={align_corners}, as asked for")
    elif source == "authors":
        align_corners = True
        notes.append("align_corners=True, as the authors' network")
    else:
        align_corners, reason = _align_corners(path, weights.metadata)
        notes.append(f"align_corners={align_corners}: {reason}")
    architecture["align_corners"] = align_corners
    return Published(
        path, source, architecture, state, tuple(entries), tuple(notes), weights.metadata
    )


def _recognise(path: Path, tensors: Mapping[str, Tensor]) -> Source:
    for source, mark in MARKS.items():
        if mark in tensors:
            return source
    for start, what in STRANGERS.items():
        if any(key.startswith(start) for key in tensors):
            raise ValueError(f"{path} is no published CCNet; it looks like {what}")
    keys = ", ".join(list(tensors)[:3])
    raise ValueError(
        f"{path} is no published CCNet, which has {' or '.join(MARKS.values())}; it begins {keys}"
    )


def _convert(
    source: Source, tensors: Mapping[str, Tensor], recurrence: int
) -> tuple[list[Entry], dict[str, Tensor]]:
    """Each key's fate, and the state dict by our names."""
    prefixes = dict(PREFIXES[source])
    if source == "authors":
        is_deep = "conv3.weight" in tensors
        stem = DEEP_STEM if is_deep else {name: name for name in ("conv1.", "bn1.")}
        prefixes |= {theirs: f"backbone.{ours}" for theirs, ours in stem.items()}
    names = {key: _rename(key, prefixes) for key in tensors}
    if unknown := [key for key, name in names.items() if name is None]:
        more = f" and {len(unknown) - 5} more" if len(unknown) > 5 else ""
        raise ValueError(f"keys of unknown use in a CCNet: {', '.join(unknown[:5])}{more}")
    entries, state = [], {}
    for source_key, key in names.items():
        assert key is not None
        if recurrence == 0 and key.startswith(ATTENTION):
            entries.append(Entry(source_key, "", "left out: no pass with recurrence=0"))
            continue
        if key in state:
            raise ValueError(f"two keys are {key}, of which one is {source_key}")
        value, change = _adapt(source, key, source_key, tensors)
        state[key] = value
        entries.append(Entry(source_key, key, change))
    for key in _counters(state):
        if key not in state:
            state[key] = torch.tensor(0)
            entries.append(Entry("", key, "batch counter 0, which the file doesn't keep"))
    return entries, state


def _rename(key: str, prefixes: Mapping[str, str]) -> str | None:
    for theirs, ours in prefixes.items():
        if key.startswith(theirs):
            return ours + key.removeprefix(theirs)
    return None


def _adapt(
    source: Source, key: str, source_key: str, tensors: Mapping[str, Tensor]
) -> tuple[Tensor, str]:
    """A tensor as our network wants it, and what was changed."""
    value, changes = tensors[source_key], []
    if value.is_floating_point() and value.dtype != torch.float32:
        changes.append(f"{value.dtype} → float32".removeprefix("torch."))
        value = value.float()
    if key.endswith(".gamma") and value.shape == ():
        changes.append("γ of shape () → (1,)")
        value = value.reshape(1)
    if source == "authors" and key in ("backbone.stem.0.weight", "backbone.conv1.weight"):
        if value.shape[1:2] != (3,):
            raise ValueError(f"{source_key} of shape {tuple(value.shape)}; the authors' takes BGR")
        changes.append("input channels BGR → RGB")
        value = value.flip(1)
    is_scale = source_key.removesuffix("weight") + "running_mean" in tensors
    if source == "authors" and key.endswith(".weight") and is_scale:
        changes.append(f"scale → |scale| + {IN_PLACE_EPS}")
        value = value.abs() + IN_PLACE_EPS
    return value, "; ".join(changes)


def _counters(state: Mapping[str, Tensor]) -> Iterator[str]:
    for key in list(state):
        if key.endswith(".running_mean"):
            yield key.removesuffix("running_mean") + "num_batches_tracked"


def _architecture(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """Arguments of CCNet that shapes tell. Raises KeyError, or ValueError for unknown shapes."""
    is_deep = "backbone.stem.0.weight" in state
    deep = [f"backbone.stem.{index}.weight" for index in (0, 3, 6)]
    stem = deep if is_deep else ["backbone.conv1.weight"]
    widths = tuple(state[name].shape[0] for name in stem)
    if widths not in STEMS:
        raise ValueError(f"a stem of {widths} channels; known are {', '.join(map(str, STEMS))}")
    counts = tuple(
        len({key.split(".")[2] for key in state if key.startswith(f"backbone.layer{index}.")})
        for index in (1, 2, 3, 4)
    )
    is_bottleneck = "backbone.layer1.0.conv3.weight" in state
    if (is_bottleneck, counts) not in DEPTHS:
        raise ValueError(f"a ResNet of {counts} blocks; known are {', '.join(map(str, DEPTHS))}")
    reduction = state["head.reduction.0.weight"]
    query = state.get(ATTENTION + "query_conv.weight")
    auxiliary = state.get("auxiliary_head.0.weight")
    return {
        "num_classes": state["head.classifier.weight"].shape[0],
        "backbone": f"resnet{DEPTHS[is_bottleneck, counts]}",
        "channels": reduction.shape[0],
        "reduction": 8 if query is None else query.shape[1] // query.shape[0],
        "kernel_size": reduction.shape[2],
        "in_channels": state[stem[0]].shape[1],
        "stem": STEMS[widths],
        "auxiliary_channels": None if auxiliary is None else auxiliary.shape[0],
        "auxiliary_bias": "auxiliary_head.0.bias" in state,
    }


def _input_and_rules(
    source: Source, num_classes: int, metadata: Mapping[str, Any]
) -> tuple[dict[str, Any], list[str]]:
    """Arguments of CCNet that the source tells, the classes' names and colours, and notes."""
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
    if source == "authors":
        ours = {"dilation": "uniform", "ceil_mode": True, "activation": "leaky_relu"}
        rules |= ours | {"mean": BGR_MEAN[::-1], "std": (1.0, 1.0, 1.0)}
    else:
        rules |= {"dilation": "contract", "ceil_mode": False, "activation": "relu"}
    return rules, notes


def _named(
    metadata: Mapping[str, Any], name: str, fits: Callable[[Any], bool], count: int
) -> tuple[Any, ...] | None:
    """A list of one entry a class that mmsegmentation stored, in its old or its new place."""
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
    texts = [v for v in meta.values() if isinstance(v, str)] if isinstance(meta, Mapping) else []
    said = set(re.findall(r"align_corners\W{1,5}(True|False)", "\n".join(texts)))
    if len(said) == 1:
        return said == {"True"}, "as the configuration in the file says"
    if "769x769" in path.name:
        return True, "as mmsegmentation's models of 769x769 crops, after the file's name"
    return False, "mmsegmentation's models of 769x769 crops want True"
