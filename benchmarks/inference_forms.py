"""The networks and the forms of prediction that inference.py compares.

A form maps normalized images (1, 3, H, W) in float32 to logits (1, classes, H, W) in float32.
"""

import copy
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from attention_forms import plain_recurrence
from PIL import Image
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from ccnet import CCNet, Predictor
from ccnet.export.deployed import Deployed, trace
from ccnet.export.formats import write_onnx

Run = Callable[[Tensor], Tensor]
Size = tuple[int, int]
"""Height and width of an image."""


@dataclass(frozen=True)
class Form:
    """How a network predicts.

    Args:
        build: from a network, and the size of the images, to what is called.
        dtype: in which products are computed.
    """

    build: Callable[[CCNet, Size], Run]
    dtype: torch.dtype = torch.float32


def random_network(backbone: str) -> CCNet:
    """The authors' network (with MobileNetV2 as far as it fits), whose attention counts.

    Each residual branch is scaled by 0.2: with the usual initialization the 33 blocks amplify
    rounding errors until no bfloat16 logit has a digit in common with the exact one.
    """
    torch.manual_seed(0)
    options: dict[str, Any] = {"activation": "leaky_relu", "auxiliary_channels": 512}
    if backbone.startswith("resnet"):
        options |= {"stem": "deep_64", "dilation": "uniform", "ceil_mode": True}
    model = CCNet(19, backbone, align_corners=True, **options).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("gamma"):
                parameter.fill_(0.5)
            if name.endswith("bn3.weight"):
                parameter.fill_(0.2)
        # so that every class is somewhere the most likely one
        model.head.classifier.bias -= model(smooth_noise((129, 257))).mean((0, 2, 3))
    return model


def smooth_noise(size: Size) -> Tensor:
    """A normalized image in which neighbors are alike, as in a photograph."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.randn(1, 3, *(side // 16 + 1 for side in size), generator=generator)
    return F.interpolate(coarse, size, mode="bicubic")


def photograph(model: CCNet, path: Path, size: Size) -> Tensor:
    """A photograph at another size, normalized."""
    picture = Image.open(path).convert("RGB").resize(size[::-1], Image.Resampling.BICUBIC)
    return model.normalize(torch.from_numpy(np.array(picture)).movedim(-1, 0)[None])


def plain_network(model: CCNet) -> CCNet:
    """A copy as the network is usually written: contiguous, the attention by permuted copies."""
    network = copy.deepcopy(model)
    attention = network.head.attention
    attention.forward = partial(plain_recurrence, attention)
    return network


def plain(
    model: CCNet, size: Size, *, dtype: torch.dtype = torch.float32, compiled: bool = False
) -> Run:
    """The plain form, which runs the auxiliary head as well, as the authors' code does."""
    network = plain_network(model)
    called = torch.compile(network, dynamic=False) if compiled else network

    @torch.inference_mode()
    def run(images: Tensor) -> Tensor:
        with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
            return called(images.contiguous(), auxiliary=True)[0].float()

    return run


def ours(model: CCNet, size: Size, *, precision: str = "float32") -> Run:
    return Predictor(model, device="cpu", precision=precision).run_network


def write_file(model: CCNet, path: Path) -> None:
    """Our own export as ONNX, for any size."""
    deployed = Deployed(model, labels=False, normalized=True, precision="float32")
    write_onnx(trace(deployed), deployed, path)


def onnxruntime(model: CCNet, size: Size) -> Run:
    """onnxruntime on the exported file, told the size beforehand."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    for name, side in zip(("batch", "height", "width"), (1, *size), strict=True):
        options.add_free_dimension_override_by_name(name, side)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        write_file(model, path)
        session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> Tensor:
        (logits,) = session.run(None, {"images": images.numpy()})
        return torch.from_numpy(logits)

    return run


def openvino(model: CCNet, size: Size, *, precision: str = "f32") -> Run:
    """OpenVINO on the exported file, told the size beforehand."""
    import openvino

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "model.onnx")
        write_file(model, path)
        graph = openvino.Core().read_model(path)
        graph.reshape([1, model.in_channels, *size])
        options = {
            "INFERENCE_PRECISION_HINT": precision,
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        compiled = openvino.Core().compile_model(graph, "CPU", options)

    def run(images: Tensor) -> Tensor:
        return torch.from_numpy(compiled([images.numpy()])[0].copy())

    return run


BASELINE = "plain"
BFLOAT16 = torch.bfloat16
FORMS = {
    "plain": Form(plain),
    "plain bfloat16": Form(partial(plain, dtype=BFLOAT16), BFLOAT16),
    "plain compiled": Form(partial(plain, compiled=True)),
    "ours": Form(ours),
    "ours bfloat16": Form(partial(ours, precision="bfloat16"), BFLOAT16),
    "onnxruntime": Form(onnxruntime),
    "OpenVINO": Form(openvino),
    "OpenVINO bfloat16": Form(partial(openvino, precision="bf16"), BFLOAT16),
}


def require_packages(forms: Sequence[str]) -> None:
    """Raises ImportError, which says what to install, unless the forms can run."""
    import importlib.util

    packages = {form.split()[0].lower() for form in forms} & {"onnxruntime", "openvino"}
    missing = [name for name in sorted(packages) if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{' and '.join(missing)} not found: pip install 'criss-cross[benchmarks]', or choose "
            "other --forms"
        )


def operations(model: CCNet, size: Size) -> int:
    """Floating-point operations of the network without its auxiliary head, 2 per multiplication.

    Those of the direct form: a form with fewer multiplications may have a rate above the peak.
    """
    network = copy.deepcopy(model).to("meta")
    for attention in network.head.attention.passes:
        attention.backend = "reference"
    images = torch.zeros(1, model.in_channels, *size, device="meta")
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        network(images)
    return counter.get_total_flops()
