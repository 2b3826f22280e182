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
    "backbone_options",
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


def backbone_options(name: str) -> tuple[str, ...]:
    """The options of a backbone, given by its name; raises ValueError for an unknown name."""
    if name.startswith(TIMM):
        return ("output_stride", "in_channels")
    require("backbone", name, (*BACKBONES, f"{TIMM}NAME"))
    return tuple(inspect.signature(_BUILDERS[name]).parameters)


def create_backbone(name: str, *, pretrained: str | Path | None = None, **options: Any) -> Backbone:
    """Build a backbone.

    Args:
        name: a name in `BACKBONES`, or timm/NAME for a network of timm.
        pretrained: "imagenet" for published weights, which are downloaded once, or a file or URL
            for `load_pretrained`; None for random weights.
        options: the keyword arguments of the backbone's class.

    Raises:
        ValueError: the name, an option or its value is not known, or weights do not fit.
        OSError: weights cannot be downloaded or read.
    """
    known = backbone_options(name)
    if unknown := [option for option in options if option not in known]:
        raise ValueError(f"{name} has no option {', '.join(unknown)}; it has {', '.join(known)}")
    is_imagenet = pretrained == "imagenet"
    if name.startswith(TIMM):
        backbone = Timm(name.removeprefix(TIMM), pretrained=is_imagenet, **options)
    else:
        if is_imagenet:
            pretrained = imagenet_url(name, options.get("stem", "plain"))
        backbone = _BUILDERS[name](**options)
    if pretrained is not None and pretrained != "imagenet":
        load_pretrained(backbone, pretrained)
    return backbone
