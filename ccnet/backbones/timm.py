"""Any network of timm as a backbone; timm is an optional dependency, imported on first use."""

import re
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from ccnet.backbones.backbone import Backbone
from ccnet.backbones.depthwise import use_own_gradients

DEFAULT_STRIDE = 8
LONGEST_NAME = 100
PROBE_SIDES = (75, 97)
# Vision transformers accept images of any size only with these options
ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True}
_PROBED: set[tuple[str, int, int]] = set()
"""Name, output stride and input channels of the networks that passed `_probe` in this process."""


class Timm(Backbone):
    """The feature maps of a network of timm.

    `mean` and `std` are those of its published weights.

    Args:
        name: the network's name in timm, such as "convnext_tiny".
        output_stride: image pixels per pixel of the last map; convolutional networks are dilated
            to reach it. None: 8 where the network can be dilated, and its own stride elsewhere,
            such as 16 for a vision transformer, whose maps all have that stride.
        in_channels: channels of the image.
        pretrained: load timm's published weights, which are downloaded once.

    Raises:
        ValueError: timm is not installed, does not know the name or has no weights for it, or the
            network cannot reach the stride, or does not give two maps for images of any size.
    """

    def __init__(
        self,
        name: str,
        *,
        output_stride: int | None = None,
        in_channels: int = 3,
        pretrained: bool = False,
    ) -> None:
        super().__init__()
        timm = _import_timm(name)
        try:
            weights = timm.get_pretrained_cfg(name)
        except RuntimeError as error:  # no weights of this tag, as in resnet18.a1_in1k
            raise ValueError(f"timm/{name}: {error}") from error
        if pretrained and (weights is None or not weights.has_weights):
            raise ValueError(
                f"timm has no weights for {name}; leave pretrained out, or give a file"
            )
        options = {"features_only": True, "in_chans": in_channels, "pretrained": pretrained}
        self.network = _create(timm, name, output_stride, options)
        use_own_gradients(self.network)
        maps: Any = self.network.feature_info
        self.out_channels, self.strides = tuple(maps.channels()), tuple(maps.reduction())
        self.output_stride = self.strides[-1]
        if output_stride is not None and self.output_stride != output_stride:
            raise ValueError(
                f"timm/{name} cannot give output_stride {output_stride}, only {self.output_stride}"
            )
        if len(self.out_channels) < 2:
            raise ValueError(f"timm/{name} gives one map; the heads need two")
        if weights is not None and weights.mean and weights.std:
            self.mean = tuple(255 * value for value in weights.mean)
            self.std = tuple(255 * value for value in weights.std)
        network = (name, self.output_stride, in_channels)
        is_meta = any(weight.is_meta for weight in self.parameters())  # only to know the shapes
        if network not in _PROBED and not is_meta:
            self._probe(name, in_channels)
            _PROBED.add(network)

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.network(images))

    @torch.no_grad()
    def _probe(self, name: str, in_channels: int) -> None:
        """Run the network once, on zeros of an odd size.

        timm's `feature_info` tells channels and strides, but not whether the network accepts other
        sizes than the one it was trained on, nor whether its maps have the channels first.
        """
        self.network.eval()
        try:
            maps = self.forward(torch.zeros(1, in_channels, *PROBE_SIDES))
        except (AssertionError, RuntimeError) as error:
            raise ValueError(f"timm/{name} does not take images of any size: {error}") from error
        finally:
            self.network.train()
        shapes = [tuple(features.shape[1:]) for features in maps]
        sides = zip(shapes[-1][1:], PROBE_SIDES, strict=True)
        is_dense = all(abs(got - side / self.output_stride) < 1 for got, side in sides)
        if [shape[0] for shape in shapes] != list(self.out_channels) or not is_dense:
            raise ValueError(f"timm/{name} gives maps of {shapes}, not (channels, height, width)")


def _import_timm(name: str) -> Any:
    """timm, which has to know the network `name`."""
    try:
        import timm
    except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
        raise ValueError(
            f"timm/{name} needs timm, which cannot be imported here ({error}); "
            "pip install 'criss-cross[timm]'"
        ) from error
    if len(name) > LONGEST_NAME or not re.fullmatch(r"[\w.-]+", name):
        raise ValueError(f"timm/{name:.40} is no name of a network of timm")
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.partition('.')[0].partition('_')[0]}*")[:5]
        raise ValueError(f"timm has no {name}" + (f"; it has {', '.join(near)}" if near else ""))
    return timm


def _create(timm: Any, name: str, output_stride: int | None, options: dict[str, Any]) -> nn.Module:
    """Create the network with those options for stride and image size that it understands."""
    stride = DEFAULT_STRIDE if output_stride is None else output_stride
    with suppress(AssertionError, TypeError, NotImplementedError):  # how networks refuse a stride
        return timm.create_model(name, output_stride=stride, **options)
    with suppress(TypeError):
        return timm.create_model(name, **ANY_SIZE, **options)
    return timm.create_model(name, **options)
