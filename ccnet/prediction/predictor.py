"""From images to labels: the one way that commands, evaluation and reports take."""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from ccnet.inference.prepared import Prepared
from ccnet.models.ccnet import CCNet
from ccnet.models.loading import load_model
from ccnet.models.normalization import require_batch
from ccnet.prediction.batches import (
    ImageOfAnySize,
    as_batch,
    as_stored,
    read_for,
    require_pixels,
)
from ccnet.prediction.protocol import PROTOCOLS, Protocol, ProtocolName
from ccnet.prediction.views import score_images
from ccnet.runtime.device import PRECISIONS, pick_device, pick_precision

LOG = logging.getLogger(__name__)

LARGEST_WHOLE = 16_000_000
"""Pixels of an image above which tiles are chosen where no protocol is asked for."""


class Predictor:
    """Labels for images by a trained CCNet, at the size of each image.

    The given model itself is used: it is moved to the device and put into evaluation mode. One
    predictor may be called by many threads at once.

    Args:
        model: a CCNet, or the folder or hub id of a saved one. Of a CCNet that torch.compile,
            DataParallel, DistributedDataParallel or AveragedModel wraps, the CCNet inside is used,
            not compiled: images of many sizes would compile it again and again.
        device: "auto" takes CUDA, else the GPU of an Apple computer, else the CPU.
        precision: "float32", "bfloat16" or "float16" (by autocast), or "auto": bfloat16 where the
            hardware computes it faster, else float32.
        protocol: whole images or tiles, scales, mirror images; a key of `PROTOCOLS` names one.
            None: that with which the model was validated, or else whole images. Images of more
            than `LARGEST_WHOLE` pixels are then cut into tiles, which is logged.
        batch_size: largest number of views that the network sees at once. None: 1 on a CPU, 8 on
            another device.
        compile: compile the network with torch.compile, which takes up to a minute for each new
            size of the views.

    Attributes:
        model: the CCNet.
        protocol: how images are shown to it.

    Raises:
        FileNotFoundError: `model` looks like a path, and there is no such folder.
        TypeError: `model` is something else, or contains no CCNet.
        ValueError: there is no such device, precision or protocol.
    """

    def __init__(
        self,
        model: nn.Module | str | Path,
        *,
        device: str = "auto",
        precision: str = "float32",
        protocol: Protocol | ProtocolName | None = None,
        batch_size: int | None = None,
        compile: bool = False,
    ) -> None:
        self.device = pick_device(device)
        self.dtype = PRECISIONS[pick_precision(precision, self.device)]
        network = load_model(model) if isinstance(model, str | Path) else unwrap(model)
        self.model = network.to(self.device).eval()
        self.protocol = find_protocol(protocol, self.model)
        self.is_protocol_given = protocol is not None
        self.batch_size = batch_size or (1 if self.device.type == "cpu" else 8)
        self.network = Prepared(self.model, self.dtype, compile=compile)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...] | None:
        return self.model.palette

    def read(
        self, image: Any
    ) -> UInt8[np.ndarray, "_ _ c"] | UInt16[np.ndarray, "_ _ c"] | ImageOfAnySize:
        """An image as the network takes it, of what `predict` takes; raises as that does.

        Of a model that takes chosen bands (`model.bands`), arrays and tensors have all bands and
        the values that files have; the bands are chosen and scaled as those of files are.
        """
        bands = self.model.bands
        if isinstance(image, str | Path):
            return read_for(image, self.model.in_channels, bands)
        return image if bands is None else as_stored(image, bands)

    def predict(self, image: Any) -> UInt8[np.ndarray, "h w"]:
        """The most likely class of each pixel of one image.

        Args:
            image: an array (H, W, C) or a tensor (C, H, W), where C is the number of channels of
                the model (3 are RGB), of uint8 (0 to 255) or uint16 (0 to 65535); a PIL image of
                any mode, if the model takes RGB or grayscale; or the path of an image file. A file
                is turned upright by its EXIF orientation, a PIL image is not. For a model of chosen
                bands (`model.bands`) all bands, of the type of its files, as `read` says.

        Raises:
            TypeError: an object of another kind.
            ValueError: another shape, number of channels or data type, an empty image, or a file
                that cannot be read.
            FloatingPointError: the scores of a pixel are nan or infinite, as with damaged weights
                or numbers beyond the range of float16.
        """
        (scores,) = self.score([self.read(image)])
        return self.most_likely(scores)

    def probabilities(self, image: Any) -> Float[np.ndarray, "classes h w"]:
        """The probability of each class at each pixel of one image, in float32.

        Takes and raises the same as `predict`.
        """
        (scores,) = self.score([self.read(image)])
        self.require_finite(scores.amax(0))
        return self.as_probabilities(scores).cpu().numpy()

    def score(self, images: Iterable[ImageOfAnySize]) -> Iterator[Float[Tensor, "classes _ _"]]:
        """The scores of each image by the protocol, in order, at its size, on the device.

        Scores are logits, or probabilities where the protocol averages these. Tiles of several
        images are shown to the network together. Takes and raises the same as `predict`, except
        that arrays and tensors are what `read` gives.
        """
        self.require_evaluation_mode()
        channels, bands = self.model.in_channels, self.model.bands
        batches = (as_batch(image, channels, bands) for image in images)
        for protocol, group in groupby(batches, lambda batch: self.protocol_for(*batch.shape[2:])):
            normalized = (self.model.normalize(self.to_device(batch)) for batch in group)
            yield from score_images(self.run_network, normalized, protocol, self.batch_size)

    def protocol_for(self, height: int, width: int) -> Protocol:
        """How an image of this size is shown to the network."""
        protocol = self.protocol
        pixels = height * width * max(protocol.scales) ** 2
        if self.is_protocol_given or protocol.tile is not None or pixels <= LARGEST_WHOLE:
            return protocol
        sliding = PROTOCOLS["sliding"]
        tiled = replace(protocol, tile=sliding.tile, stride=sliding.stride)
        LOG.warning(
            "an image of %d×%d is too large to be seen whole: %s; the protocol whole sees it whole",
            width,
            height,
            tiled,
        )
        return tiled

    def most_likely(self, scores: Float[Tensor, "classes h w"]) -> UInt8[np.ndarray, "h w"]:
        """The class with the largest score of each pixel; raises FloatingPointError for nan."""
        peaks, labels = scores.max(0)  # a nan counts as the largest
        self.require_finite(peaks)
        return labels.to(torch.uint8).cpu().numpy()

    def as_probabilities(
        self, scores: Float[Tensor, "classes h w"]
    ) -> Float[Tensor, "classes h w"]:
        """Scores by the protocol as probabilities."""
        return scores if self.protocol.average == "probabilities" else scores.softmax(0)

    def require_finite(self, peaks: Tensor) -> None:
        """Raises FloatingPointError unless the largest score of each pixel is a finite number."""
        if not peaks.isfinite().all():
            remedy = "its weights are damaged"
            if self.dtype != torch.float32:
                remedy = "compute in float32, or check its weights"
            raise FloatingPointError(f"the network gives nan or infinite logits; {remedy}")

    def logits(
        self, images: UInt8[Tensor, "b c h w"] | UInt16[Tensor, "b c h w"]
    ) -> Float[Tensor, "b classes h w"]:
        """Logits in float32 of a batch of images of one size, uint8 or uint16, on the device.

        Raises:
            TypeError: `images` is not a tensor.
            ValueError: another shape, number of channels or data type, or an empty batch.
            RuntimeError: the model has been put into training mode since.
        """
        require_batch(images, self.model.in_channels)
        require_pixels(images.shape)
        self.require_evaluation_mode()
        return self.run_network(self.model.normalize(self.to_device(images)))

    def to_device(self, images: Tensor) -> Tensor:
        return images.to(self.device, memory_format=torch.channels_last)

    def run_network(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes h w"]:
        """Logits in float32 of normalized images, in the precision of this predictor."""
        return self.network(images)

    def require_evaluation_mode(self) -> None:
        if any(module.training for module in self.model.modules()):
            raise RuntimeError(
                "the model, or a part of it, is in training mode, in which labels depend on the "
                "other images and the statistics of batch normalization change; call model.eval() "
                "first"
            )


def find_protocol(protocol: Protocol | ProtocolName | None, model: CCNet) -> Protocol:
    """The protocol that is asked for, or that with which the model was validated.

    Raises:
        ValueError: there is none of this name, or the one in the model's metrics is damaged.
    """
    if isinstance(protocol, Protocol):
        return protocol
    if protocol is not None:
        if protocol not in PROTOCOLS:
            raise ValueError(f"protocol must be {', '.join(PROTOCOLS)}, got {protocol!r}")
        return PROTOCOLS[protocol]
    validated = (model.metrics or {}).get("protocol")
    return Protocol() if validated is None else Protocol.from_dict(validated)


def unwrap(model: nn.Module) -> CCNet:
    """The CCNet inside the wrappers that PyTorch puts around a network; TypeError without one."""
    inner: object = model
    while not isinstance(inner, CCNet):
        if isinstance(inner, DataParallel | DistributedDataParallel | AveragedModel):
            inner = inner.module
        # torch.compile's class is private; its only submodule has this name
        elif isinstance(inner, nn.Module) and "_orig_mod" in dict(inner.named_children()):
            inner = inner.get_submodule("_orig_mod")
        else:
            raise TypeError(
                "expected a CCNet, one that torch.compile, DataParallel, DistributedDataParallel "
                "or AveragedModel wraps, or the folder or hub id of a saved one; "
                f"got {type(model).__name__}"
            )
    return inner
