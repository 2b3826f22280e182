"""From a trained network to a file that has been compared with it."""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ccnet.export.agreement import Agreement, compare, require_agreement
from ccnet.export.deployed import Deployed, trace
from ccnet.export.formats import FORMATS
from ccnet.export.names import FilePrecision, FormatName
from ccnet.export.quantization import quantize
from ccnet.export.sample_images import noise, photographs, read_images, resize
from ccnet.models.ccnet import CCNet
from ccnet.prediction.batches import as_batch
from ccnet.runtime.disk import (
    FULL,
    beside,
    flush,
    flush_folder,
    named_if_full,
    remove,
    require_replaceable,
)
from ccnet.runtime.files import shown
from ccnet.runtime.lock import locked

ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
SMALLEST_AGREEMENT = {"float32": 0.999, "float16": 0.99, "int8": 0.9}
"""Share of the pixels that must get the class of the network, by precision."""
MOST_PIXELS = 4096 * 4096
"""Of an image of a given size, on three of which a file is compared."""


def export(
    model: CCNet,
    path: str | Path,
    format: FormatName = "onnx",
    *,
    labels: bool = False,
    normalized: bool = False,
    precision: FilePrecision = "float32",
    size: tuple[int, int] | None = None,
    images: str | Path | None = None,
    min_agreement: float | None = None,
) -> list[Agreement]:
    """Write a network to a file that needs no ccnet, and compare the file with the network.

    The file takes `images` (B, C, H, W), with any batch and sides of 32 or more, and gives `logits`
    (B, classes, H, W) in float32. `Deployed` says what it computes, which facts it carries, and
    what images of chosen bands are. It appears at `path` after the comparison. The model is not
    changed.

    Args:
        model: the network to write; its weights may be of any floating-point type.
        path: the file. An AOTInductor package is for CPUs like that of this machine, and reads
            images that are not contiguous wrongly, without an error.
        format: "onnx", "torch-export" or "aot" (AOTInductor).
        labels: add a second output `labels`, the most likely classes (B, H, W) in uint8.
        normalized: take float32 images that `model.normalize` made, instead of uint8 images.
        precision: "float16" stores and computes in it; "int8" is onnxruntime's quantization of the
            convolutions. Both are for ONNX only.
        size: (height, width) for a file that takes images of this size only; None for any size.
            For backbones that PyTorch cannot export for any size, such as a ViT as torch-export.
        images: folder of images of the model's channels, which int8 needs; 16 bits are scaled to 8.
            Every second image calibrates; some of the others are compared instead of noise, at the
            size of the first of them and at half of it, or at `size`.
        min_agreement: smallest share of pixels, 0 to 1, that must get the class of the network.
            None: 0.999 for float32, 0.99 for float16 and 0.9 for int8. In float32 logits must also
            agree to 1e-4, in units of the largest logit if that is above 1.

    Returns:
        How well the file and the network agree, for each size that was compared.

    Raises:
        ValueError: the file and the network disagree, arguments do not fit, PyTorch cannot export
            the backbone in this format, for any size or for this one, or another export writes this
            file. No file is left then.
        ImportError: the packages for ONNX are missing.
        FileNotFoundError: AOTInductor finds no C++ compiler.
        OSError: the file cannot be written.
    """
    path = Path(path)
    check_arguments(path, format, precision, size, images)
    if min_agreement is None:
        min_agreement = SMALLEST_AGREEMENT[precision]
    if not 0 <= min_agreement <= 1:  # a nan is not
        raise ValueError(f"min_agreement must be from 0 to 1, got {min_agreement}")
    require_replaceable(path)
    calibration, batches = [], noise(model.in_channels, size)
    if images is not None:
        calibration, held_out = read_images(Path(images), model.in_channels, model.bands)
        batches = photographs(held_out, size)
    network = copy.deepcopy(model).cpu().float().eval()
    deployed = Deployed(network, labels, normalized, precision, size)
    path.parent.mkdir(parents=True, exist_ok=True)
    with work_folder(path) as folder:
        fresh = folder / f"model{path.suffix}"
        try:
            write(deployed, format, fresh, calibration)
        except Exception as error:
            full = full_disk(error)
            raise (error if full is None else named_if_full(full, path)) from error
        rows = compare_file(fresh, format, network, deployed, batches)
        require_agreement(rows, min_agreement, exact=precision == "float32")
        flush(fresh)
        fresh.replace(path)
    flush_folder(path.parent)
    return rows


@contextmanager
def work_folder(path: Path) -> Iterator[Path]:
    """A folder beside a file to make it in; what a killed export has left there is removed."""
    folder = beside(path)
    if folder.is_symlink() or not folder.is_dir():
        remove(folder)
    folder.mkdir(exist_ok=True)
    with locked(folder):
        try:
            for leftover in folder.iterdir():
                remove(leftover)
            yield folder
        finally:
            remove(folder)


def full_disk(error: BaseException | None) -> OSError | None:
    """The error of a full disk behind another one, as compilers and onnxruntime wrap it."""
    while error is not None:
        for number in FULL:
            if getattr(error, "errno", None) == number or os.strerror(number) in str(error):
                return OSError(number, os.strerror(number))
        error = error.__cause__ or error.__context__
    return None


def write(deployed: Deployed, format: str, path: Path, calibration: list[np.ndarray]) -> None:
    """Write a file in its format and precision; `calibration` are images, which int8 needs."""
    try:
        FORMATS[format].write(trace(deployed), deployed, path)
    except RuntimeError as error:  # the base of PyTorch's own errors, whose classes are private
        raise ValueError(cannot_export(format, deployed.size, error)) from error
    if deployed.precision == "int8":
        floats = path.rename(path.with_suffix(".float32.onnx"))
        size, channels = deployed.size, deployed.network.in_channels
        resized = (image if size is None else resize(image, *size) for image in calibration)
        inputs = (deployed.as_input(as_batch(image, channels)) for image in resized)
        quantize(floats, path, (images.numpy() for images in inputs))


def compare_file(
    path: Path, format: str, network: CCNet, deployed: Deployed, batches: list[list[Tensor]]
) -> list[Agreement]:
    """How well a file agrees with its network, for each size of the batches."""
    run = FORMATS[format].open(path)

    @torch.inference_mode()
    def logits(images: Tensor) -> Tensor:
        return network(network.normalize(images))

    try:
        return [compare(logits, lambda x: run(deployed.as_input(x)), part) for part in batches]
    except RuntimeError as error:  # such as too little memory
        raise ValueError(
            f"the file cannot be compared with the network: {reason_of(error)}"
        ) from error


def cannot_export(format: str, size: tuple[int, int] | None, error: RuntimeError) -> str:
    if size is not None:
        return f"PyTorch cannot export this network as {format}: {reason_of(error)}"
    return (
        f"PyTorch cannot export this network as {format} for any size: {reason_of(error)}; a file "
        "for one size may work, as with size=(512, 512) or --size '[512, 512]'"
    )


def reason_of(error: RuntimeError) -> str:
    return str(error).partition("\n")[0][:200]


def check_arguments(
    path: Path,
    format: str,
    precision: str,
    size: tuple[int, int] | None,
    images: str | Path | None,
) -> None:
    if format not in FORMATS:
        raise ValueError(f"format must be {', '.join(FORMATS)}, got {format!r}")
    suffix = FORMATS[format].suffix
    if path.suffix != suffix:
        raise ValueError(f"a {format} file must end in {suffix}, got {path}")
    if precision not in SMALLEST_AGREEMENT:
        known = ", ".join(SMALLEST_AGREEMENT)
        raise ValueError(f"precision must be {known}, got {precision!r}")
    if format != "onnx" and precision != "float32":
        raise ValueError(f"{precision} is for format onnx; {format} is written in float32")
    if size is not None and (len(size) != 2 or min(size) < 32):
        raise ValueError(f"size must be a height and a width of at least 32, got {shown(size)}")
    if size is not None and size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"size may have up to {MOST_PIXELS:,} pixels, got {shown(size)}")
    if images is not None and not Path(images).is_dir():
        raise FileNotFoundError(f"{images}: no such folder; give a folder of images")
    if precision == "int8" and images is None:
        raise ValueError("int8 needs a folder of images to calibrate with")
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if format == "onnx" and missing:
        raise ImportError(
            f"ONNX needs {', '.join(missing)}, not installed here: pip install 'criss-cross[onnx]'"
        )
