"""The one way from images to labels: arrays in, arrays out, no files."""

import json
import re
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from ccnet.datasets.dataset import in_native_order, to_grey, to_rgb
from ccnet.models import CCNet

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
AnyImage = (
    UInt8[np.ndarray, "h w c"]
    | UInt16[np.ndarray, "h w c"]
    | UInt8[Tensor, "c h w"]
    | UInt16[Tensor, "c h w"]
    | Image.Image
)
HUB_ID = r"\w[\w.-]*/\w[\w.-]*"


# What a broken or another library's config.json or weight file gives; the first is a ValueError
UNUSABLE = (json.JSONDecodeError, SafetensorError, RuntimeError, TypeError, AttributeError)


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


def load_model(folder: str | Path) -> CCNet:
    """A saved CCNet from a folder, or from the hub where `folder` is an id such as owner/name."""
    path = Path(folder)
    if path.is_dir():
        for name in ("config.json", "model.safetensors"):
            if not (path / name).is_file():
                raise FileNotFoundError(
                    f"{path} is no model folder: it has no {name}; a training run keeps its best "
                    "model in the folder `model` inside it"
                )
    else:
        could_be_hub_id = re.fullmatch(HUB_ID, str(folder)) and not path.parent.exists()
        if path.exists() or not could_be_hub_id:
            raise FileNotFoundError(f"no model folder at {path}")
    try:
        return CCNet.from_pretrained(str(folder))
    except OSError as error:  # what the hub's library raises for no such id and for no network
        if path.is_dir():
            raise
        raise FileNotFoundError(
            f"no model folder at {path}, and none of that name from the hub: {error}"
        ) from error
    except UNUSABLE as error:
        raise ValueError(f"{folder} holds no usable model: {error}") from error


def require_same_classes(model: CCNet, classes: tuple[str, ...]) -> None:
    """Raises ValueError where a data set's classes aren't the model's, in number, name or order."""
    if len(model.classes) != len(classes):
        raise ValueError(f"the model has {len(model.classes)} classes, the data {len(classes)}")
    for index, (own, other) in enumerate(zip(model.classes, classes, strict=True)):
        if own not in (other, f"class {index}"):  # the latter is a model without names
            raise ValueError(f"class {index} of the model is {own!r}, of the data {other!r}")


def pick_device(device: str) -> torch.device:
    """Raises ValueError for a device that there isn't."""
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available()}
    if device == "auto":
        return torch.device(next((name for name, there in available.items() if there), "cpu"))
    try:
        picked = torch.device(device)
    except RuntimeError:
        raise ValueError(f"device must be auto, cpu, cuda, cuda:N or mps, got {device!r}") from None
    if not available.get(picked.type, True):
        raise ValueError(f"there is no {picked.type} device here; auto or cpu would work")
    if picked.type == "cuda" and (picked.index or 0) >= torch.cuda.device_count():
        last = torch.cuda.device_count() - 1
        raise ValueError(f"there is no {device} here; the last is cuda:{last}")
    return picked


def pick_precision(precision: str, device: torch.device) -> str:
    if precision == "auto":
        return "bfloat16" if bfloat16_is_fast(device) else "float32"
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be auto, {', '.join(PRECISIONS)}, got {precision!r}")
    return precision


def bfloat16_is_fast(device: torch.device) -> bool:
    """Whether the hardware has bfloat16 matrix units: AMX on a CPU, Ampere or later on CUDA."""
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device) >= (8, 0)
    if device.type == "cpu":
        return bool(getattr(torch.cpu, "get_capabilities", dict)().get("amx_bf16", False))
    return False
