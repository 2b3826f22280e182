"""Networks that turn an image into feature maps: ResNet, MobileNetV2, a tiny one, timm's."""

import inspect
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from ccnet.backbones.backbone import Backbone
from ccnet.backbones.layers import adapt_input, require
from ccnet.backbones.mobilenet import MobileNetV2
from ccnet.backbones.pretrained import imagenet_url, load_pretrained
from ccnet.backbones.resnet import RESNETS, ResNet
from ccnet.backbones.timm import Timm
from ccnet.backbones.tiny import Tiny

__all__ = [
    "BACKBONES",
    "Backbone",
    "MobileNetV2",
    "ResNet",
    "Timm",
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
TIMM = "timm/"


def create_backbone(name: str, *, pretrained: str | Path | None = None, **options: Any) -> Backbone:
    """Build a backbone by its name in `BACKBONES`, or timm/NAME; the options are its class's.

    `pretrained`: "imagenet", which is downloaded once, or a file or URL for `load_pretrained`;
    without it the weights are random. Raises ValueError for an unknown name or option, and for a
    value that the backbone has not; OSError for weights that can't be had.
    """
    is_imagenet = pretrained == "imagenet"
    if name.startswith(TIMM):
        build: Callable[..., Backbone] = partial(
            Timm, name.removeprefix(TIMM), pretrained=is_imagenet
        )
        known = ("output_stride", "in_channels")
    else:
        require("backbone", name, (*BACKBONES, f"{TIMM}NAME"))
        build = _BUILDERS[name]
        known = tuple(inspect.signature(build).parameters)
    if unknown := [option for option in options if option not in known]:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(known)}")
    if is_imagenet and not name.startswith(TIMM):
        pretrained = imagenet_url(name, options.get("stem", "plain"))
    backbone = build(**options)
    if pretrained is not None and pretrained != "imagenet":
        load_pretrained(backbone, pretrained)
    return backbone
