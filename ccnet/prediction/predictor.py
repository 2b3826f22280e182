"""From images to labels: the one way that commands, evaluation and reports take."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.optim.swa_utils import AveragedModel

from ccnet.models.ccnet import CCNet
from ccnet.models.loading import load_model
from ccnet.models.normalization import require_batch
from ccnet.prediction.batches import AnyImage, as_batch, require_pixels
from ccnet.runtime.device import PRECISIONS, pick_device, pick_precision


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

    Raises:
        FileNotFoundError: `model` looks like a path, and there is no such folder.
        TypeError: `model` is something else, or contains no CCNet.
        ValueError: there is no such device or precision.
    """

    def __init__(
        self, model: nn.Module | str | Path, *, device: str = "auto", precision: str = "float32"
    ) -> None:
        self.device = pick_device(device)
        self.dtype = PRECISIONS[pick_precision(precision, self.device)]
        network = load_model(model) if isinstance(model, str | Path) else unwrap(model)
        self.model = network.to(self.device).eval()

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...] | None:
        return self.model.palette

    def predict(self, image: AnyImage) -> UInt8[np.ndarray, "h w"]:
        """The most likely class of each pixel of one image.

        Args:
            image: an array (H, W, C) or a tensor (C, H, W), where C is the number of channels of
                the model (3 are RGB), of uint8 (0 to 255) or uint16 (0 to 65535); a PIL image of
                any mode, if the model takes RGB or grayscale; or the path of an image file. A file
                is turned upright by its EXIF orientation, a PIL image is not.

        Raises:
            TypeError: an object of another kind.
            ValueError: another shape, number of channels or data type, an empty image, or a file
                that cannot be read.
            FloatingPointError: the largest logit of a pixel is nan or infinite, as with damaged
                weights or numbers beyond the range of float16.
        """
        batch = as_batch(image, self.model.in_channels)
        peaks, labels = self.logits(batch)[0].max(0)  # a nan counts as the largest
        if not peaks.isfinite().all():
            remedy = "its weights are damaged"
            if self.dtype != torch.float32:
                remedy = "compute in float32, or check its weights"
            raise FloatingPointError(f"the network gives nan or infinite logits; {remedy}")
        return labels.to(torch.uint8).cpu().numpy()

    @torch.inference_mode()
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
        if any(module.training for module in self.model.modules()):
            raise RuntimeError(
                "the model, or a part of it, is in training mode, in which labels depend on the "
                "other images and the statistics of batch normalization change; call model.eval() "
                "first"
            )
        images = images.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            return self.model(self.model.normalize(images)).float()


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
