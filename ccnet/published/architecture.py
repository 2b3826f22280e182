"""The arguments of `CCNet` that a published file tells: by its shapes, its family, its metadata."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from ccnet.classes import PUBLISHED
from ccnet.published.names import ATTENTION, DEPTHS, STEMS, Family
from ccnet.weights import BGR_MEAN


def architecture_of(state: Mapping[str, Tensor]) -> dict[str, Any]:
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


def input_and_rules(
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


def align_corners_of(path: Path, metadata: Mapping[str, Any]) -> tuple[bool, str]:
    meta = metadata.get("meta")
    texts = {v for v in meta.values() if isinstance(v, str)} if isinstance(meta, Mapping) else set()
    said = {word for t in texts for word in re.findall(r"align_corners\W{1,5}(True|False)", t)}
    if len(said) == 1:
        return said == {"True"}, "as the configuration in the file says"
    if "769x769" in path.name:
        return True, "as mmsegmentation's models of 769x769 crops, after the file's name"
    return False, "mmsegmentation's models of 769x769 crops want True"
