"""The one way from images to labels: arrays in, arrays out, no files."""

from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from PIL import Image
from torch import Tensor

from ccnet.images.reading import in_native_order, to_grey, to_rgb
from ccnet.models.ccnet import CCNet
from ccnet.models.loading import load_model
from ccnet.runtime.device import PRECISIONS, pick_device, pick_precision

AnyImage = (
    UInt8[np.ndarray, "h w c"]
    | UInt16[np.ndarray, "h w c"]
    | UInt8[Tensor, "c h w"]
    | UInt16[Tensor, "c h w"]
    | Image.Image
)


class Predictor:
    """Labels for images by a trained CCNet, at each image's own size.

    Args:
        model: a CCNet, or the folder or hub id of a saved one. A CCNet is moved to the device, and
            is in evaluation mode during a call only.
        device: "auto" takes CUDA, else Apple's GPU, else the CPU.
        precision: "float32", "bfloat16" or "float16" (autocast), or "auto": bfloat16 where the
            hardware multiplies it faster, else float32.

    Raises:
        FileNotFoundError: `model` looks like a path and there is no such folder.
    """

    def __init__(
        self, model: CCNet | str | Path, *, device: str = "auto", precision: str = "float32"
    ) -> None:
        self.device = pick_device(device)
        self.dtype = PRECISIONS[pick_precision(precision, self.device)]
        self.model = (model if isinstance(model, CCNet) else load_model(model)).to(self.device)

    @property
    def classes(self) -> tuple[str, ...]:
        return self.model.classes

    @property
    def palette(self) -> tuple[tuple[int, int, int], ...] | None:
        return self.model.palette

    def predict(self, image: AnyImage) -> UInt8[np.ndarray, "h w"]:
        """The most likely class of each pixel of an image of the model's channels, mostly RGB.

        An array (H, W, C) or a tensor (C, H, W), of uint8 or uint16, which reach to 255 and 65535.
        A PIL image may have any mode where the model takes RGB or grey; it is taken in its stored
        orientation, whatever its EXIF says (`ccnet.datasets.read_image` turns a file's upright).
        """
        batch = to_batch(image, self.model.in_channels).to(self.device)
        return self.logits(batch)[0].argmax(0).to(torch.uint8).cpu().numpy()

    @torch.inference_mode()
    def logits(
        self, images: UInt8[Tensor, "b c h w"] | UInt16[Tensor, "b c h w"]
    ) -> Float[Tensor, "b classes h w"]:
        """Logits of images of one size, as `predict` takes them, float32."""
        modes = {module: module.training for module in self.model.modules()}
        self.model.eval()
        images = images.to(self.device, memory_format=torch.channels_last)
        try:
            autocast = self.dtype != torch.float32
            with torch.autocast(self.device.type, self.dtype, enabled=autocast):
                return self.model(self.model.normalize(images)).float()
        finally:
            for module, training in modes.items():
                module.training = training


def to_batch(
    image: AnyImage, channels: int = 3
) -> UInt8[Tensor, "1 c h w"] | UInt16[Tensor, "1 c h w"]:
    """A batch of one image, as `Predictor.predict` takes it."""
    kind = "an RGB" if channels == 3 else "an"
    if isinstance(image, Image.Image):
        if channels not in (1, 3):
            raise ValueError(f"the model takes {channels} channels; give an array, no PIL image")
        image = to_rgb(image) if channels == 3 else to_grey(image)
    if isinstance(image, np.ndarray):
        image = in_native_order(image)
        if (
            image.ndim != 3
            or image.shape[2] != channels
            or image.dtype not in (np.uint8, np.uint16)
        ):
            raise ValueError(
                f"expected {kind} array (H, W, {channels}) of uint8 or uint16, "
                f"got {image.shape} of {image.dtype}"
            )
        image = torch.from_numpy(np.require(image, requirements=("C", "W"))).movedim(-1, 0)
    is_integer = image.dtype in (torch.uint8, torch.uint16)
    if image.ndim != 3 or image.shape[0] != channels or not is_integer:
        raise ValueError(
            f"expected {kind} tensor ({channels}, H, W) of uint8 or uint16, "
            f"got {tuple(image.shape)} of {image.dtype}"
        )
    return image.unsqueeze(0)
