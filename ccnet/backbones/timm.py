"""Any network of timm as a backbone; timm is an extra, imported when one is built."""

from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn

from ccnet.backbones.backbone import Backbone

DEFAULT_STRIDE = 8
PROBE_SIDES = (75, 97)
# Transformers on patches take images of any size only when told to
ANY_SIZE = {"dynamic_img_size": True, "dynamic_img_pad": True}


class Timm(Backbone):
    """The feature maps of a timm network by its name there, such as "convnext_tiny".

    Convolutional networks are dilated to `output_stride`; None takes 8 where the network can be
    dilated and its own stride elsewhere, as 16 of a ViT, whose maps all have that stride. `mean`
    and `std` are those of its weights. Raises ValueError without timm, for an unknown name, and for
    a network that can't give the stride or two maps of images of any size.
    """

    def __init__(
        self,
        name: str,
        *,
        output_stride: int | None = None,
        in_channels: int = 3,
        pretrained: bool = False,
    ):
        super().__init__()
        try:
            import timm
        except (ImportError, RuntimeError) as error:  # RuntimeError: torchvision of another torch
            raise ValueError(
                f"timm/{name} needs timm, which can't be imported here ({error}); "
                "pip install 'criss-cross[timm]'"
            ) from error
        if not timm.is_model(name):
            near = timm.list_models(f"*{name.partition('.')[0].partition('_')[0]}*")[:5]
            raise ValueError(
                f"timm has no {name}" + (f"; it has {', '.join(near)}" if near else "")
            )
        weights = timm.get_pretrained_cfg(name)
        if pretrained and (weights is None or not weights.has_weights):
            raise ValueError(
                f"timm has no weights for {name}; leave pretrained out, or give a file"
            )
        options = {"features_only": True, "in_chans": in_channels, "pretrained": pretrained}
        self.network = _create(timm, name, output_stride, options)
        maps: Any = self.network.feature_info
        self.out_channels, strides = tuple(maps.channels()), maps.reduction()
        self.output_stride = strides[-1]
        if output_stride is not None and self.output_stride != output_stride:
            raise ValueError(
                f"timm/{name} can't give output_stride {output_stride}, only {self.output_stride}"
            )
        if len(self.out_channels) < 2:
            raise ValueError(f"timm/{name} gives one map; the heads need two")
        if weights is not None and weights.mean and weights.std:
            self.mean = tuple(255 * value for value in weights.mean)
            self.std = tuple(255 * value for value in weights.std)
        self._probe(name, in_channels)

    def forward(self, images: Tensor) -> list[Tensor]:
        return list(self.network(images))

    @torch.no_grad()
    def _probe(self, name: str, in_channels: int) -> None:
        """Some networks take one size only, or have maps with the channels last."""
        self.network.eval()
        try:
            maps = self.forward(torch.zeros(1, in_channels, *PROBE_SIDES))
        except (AssertionError, RuntimeError) as error:
            raise ValueError(f"timm/{name} doesn't take images of any size: {error}") from error
        finally:
            self.network.train()
        shapes = [tuple(features.shape[1:]) for features in maps]
        sides = zip(shapes[-1][1:], PROBE_SIDES, strict=True)
        is_dense = all(abs(got - side / self.output_stride) < 1 for got, side in sides)
        if [shape[0] for shape in shapes] != list(self.out_channels) or not is_dense:
            raise ValueError(f"timm/{name} gives maps of {shapes}, not (channels, height, width)")


def _create(timm: Any, name: str, output_stride: int | None, options: dict[str, Any]) -> nn.Module:
    """With what the network understands of the stride and of images of any size."""
    stride = DEFAULT_STRIDE if output_stride is None else output_stride
    with suppress(AssertionError, TypeError, NotImplementedError):  # how networks refuse a stride
        return timm.create_model(name, output_stride=stride, **options)
    with suppress(TypeError):
        return timm.create_model(name, **ANY_SIZE, **options)
    return timm.create_model(name, **options)
