"""Networks that turn an image into feature maps: dilated ResNet, MobileNetV2 and a tiny one."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ccnet.backbones.backbone import Backbone
from ccnet.backbones.layers import adapt_input, require
from ccnet.backbones.mobilenet import MobileNetV2
from ccnet.backbones.pretrained import load_pretrained
from ccnet.backbones.resnet import RESNETS, ResNet
from ccnet.backbones.tiny import Tiny

__all__ = [
    "BACKBONES",
    "Backbone",
    "MobileNetV2",
    "ResNet",
    "Tiny",
    "adapt_input",
    "create_backbone",
    "load_pretrained",
]

_BUILDERS: dict[str, Callable[..., Backbone]] = {
    **{f"resnet{depth}": partial(ResNet, depth) for depth in RESNETS},
    "mobilenet_v2": MobileNetV2,
    "tiny": Tiny,
}
BACKBONES = tuple(_BUILDERS)


def create_backbone(name: str, *, pretrained: str | Path | None = None, **options: Any) -> Backbone:
    """Build a backbone by its name in `BACKBONES`; the options are its class's.

    `pretrained`: a file for `load_pretrained`; without one the weights are random. Raises
    ValueError for an unknown name or option, and for a value that the backbone has not.
    """
    require("backbone", name, BACKBONES)
    build = _BUILDERS[name]
    known = tuple(inspect.signature(build).parameters)
    if unknown := [option for option in options if option not in known]:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(known)}")
    backbone = build(**options)
    if pretrained is not None:
        load_pretrained(backbone, pretrained)
    return backbone
