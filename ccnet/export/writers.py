"""A network as a file that runs without ccnet: ONNX, torch.export or AOTInductor."""

import copy
import json
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

import ccnet
from ccnet.export.agreement import (
    TRACED,
    Agreement,
    as_batch,
    compare,
    noise,
    open_export,
    photographs,
    without_torch_s_own_warnings,
)
from ccnet.export.folding import fold_batch_norm
from ccnet.export.quantization import quantize
from ccnet.images.reading import image_files, read_image
from ccnet.models.attention import CrissCrossAttention
from ccnet.models.ccnet import CCNet
from ccnet.runtime.disk import write_whole

Format = Literal["onnx", "torch-export", "aot"]
Precision = Literal["float32", "float16", "int8"]
SUFFIXES = {"onnx": ".onnx", "torch-export": ".pt2", "aot": ".pt2"}
ONNX_PACKAGES = ("onnx", "onnxscript", "onnxruntime")
LARGEST_DIFFERENCE = 1e-4  # of logits, in float32
SMALLEST_AGREEMENT = {"float32": 0.999, "float16": 0.99, "int8": 0.9}  # of labels
ANY_SIZE = ({0: Dim("batch", min=1), 2: Dim("height", min=32), 3: Dim("width", min=32)},)
MOST_IMAGES = 64  # to calibrate with; a fourth of it to compare on


def export(
    model: CCNet,
    path: str | Path,
    format: Format = "onnx",
    *,
    labels: bool = False,
    normalised: bool = False,
    precision: Precision = "float32",
    images: str | Path | None = None,
    min_agreement: float | None = None,
) -> list[Agreement]:
    """Write a network to a file and compare the file with the network, at two other sizes.

    Input `images` (B, C, H, W), any batch and any sides from 32; output `logits` (B, classes, H, W)
    in float32. The file has standard operators only (`backend="reference"`), batch norms folded in,
    no auxiliary head, and facts: classes, palette, normalisation and what `facts` lists. It is
    written beside `path`, and renamed once it has been compared; the model isn't changed. Names of
    facts: `onnx` metadata, "ccnet.json" in a torch.export file's extra files, and AOTInductor's
    metadata; each value is JSON.

    Args:
        model: the network to write.
        path: the file; an AOTInductor package is for CPUs like this machine's, and reads other
            than contiguous images wrongly, without a word.
        format: "onnx", "torch-export" or "aot" (AOTInductor).
        labels: have a second output `labels`, the most likely classes (B, H, W), uint8.
        normalised: take float32 images that `model.normalize` made, not uint8 ones.
        precision: "float16" stores and computes in it; "int8" is onnxruntime's quantisation of the
            convolutions. Both for ONNX only.
        images: a folder of images of the model's channels, which int8 needs; 16 bits are scaled to
            8. Every second one calibrates; a few of the others take noise's place in the
            comparison, at the first one's size and at half of it.
        min_agreement: share of pixels whose class must be the network's; None takes 0.999, with
            float16 0.99, with int8 0.9. In float32 logits may also differ by 10⁻⁴ at most, in units
            of the largest logit if that is above 1.

    Raises:
        ValueError: what was written differs, arguments don't fit, or the backbone can't be traced
            for any size, as timm's ConvNeXt and ViT. No file is left then.
        ImportError: ONNX is asked for without its packages.
        FileNotFoundError: AOTInductor finds no C++ compiler.
    """
    path = Path(path)
    check_arguments(path, format, precision, images)
    calibration, batches = [], noise(model.in_channels)
    if images is not None:
        calibration, held_out = read_images(Path(images), model.in_channels)
        batches = photographs(held_out)
    network = copy.deepcopy(model).cpu().eval()
    graph = Deployed(network, labels=labels, normalised=normalised, precision=precision)
    described = {k: json.dumps(v) for k, v in graph.facts.items()}

    def as_input(images: Tensor) -> Tensor:
        return network.normalize(images) if normalised else images

    @torch.inference_mode()
    def logits(images: Tensor) -> Tensor:
        return network(network.normalize(images))

    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as folder:
        fresh = Path(folder, path.name)
        WRITERS[format](trace(graph, as_input), graph, described, fresh)
        if precision == "int8":
            floats = fresh.rename(fresh.with_suffix(".float32.onnx"))
            quantize(floats, fresh, (as_input(as_batch(x)).numpy() for x in calibration))
        run = open_export(fresh, format)
        rows = [compare(logits, lambda x: run(as_input(x)), part) for part in batches]
        if min_agreement is None:
            min_agreement = SMALLEST_AGREEMENT[precision]
        require_agreement(rows, min_agreement, exact=precision == "float32")
        write_whole(path, fresh.replace)
    return rows


class Deployed(nn.Module):
    """What a file computes: a network made of standard operators, and what goes around it."""

    def __init__(
        self, network: CCNet, *, labels: bool, normalised: bool, precision: Precision
    ) -> None:
        super().__init__()
        network, folded = prepare(network)
        self.labels = labels
        self.normalised = normalised
        self.dtype = torch.float16 if precision == "float16" else torch.float32
        self.mean, self.std = network.mean.clone(), network.std.clone()
        self.network = network.to(self.dtype)
        self.facts = {
            "classes": network.classes,
            "palette": network.palette,
            "mean": [float(str(x)) for x in self.mean.flatten().numpy()],  # 123.675, as in float32
            "std": [float(str(x)) for x in self.std.flatten().numpy()],
            "normalised": normalised,
            "precision": precision,
            "backend": "reference",
            "batch_norm": "folded" if folded else "kept",
            "ccnet": ccnet.__version__,
        }

    def forward(
        self, images: UInt8[Tensor, "b c h w"] | Float[Tensor, "b c h w"]
    ) -> tuple[Tensor, ...]:
        if not self.normalised:
            images = (images - self.mean) / self.std
        logits = self.network(images.to(self.dtype)).float()
        return (logits, logits.argmax(1).to(torch.uint8)) if self.labels else (logits,)

    @property
    def outputs(self) -> list[str]:
        return ["logits", "labels"] if self.labels else ["logits"]


def prepare(model: CCNet) -> tuple[CCNet, bool]:
    """A copy of standard operators for any size, and whether its batch norms could be folded."""
    network = copy.deepcopy(model).eval()
    network.auxiliary_head = None
    for module in network.head.attention.passes:
        cast(CrissCrossAttention, module).backend = "reference"
    try:
        network, folded = fold_batch_norm(network), True
    except ValueError:  # a backbone that torch.fx can't trace
        folded = False
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.MaxPool2d) and module.ceil_mode:
            network.set_submodule(name, without_ceil_mode(module))
    return network, folded


def without_ceil_mode(pool: nn.MaxPool2d) -> nn.Module:
    """The same pooling, whose size torch.export can reason about: padded at the right and below.

    Rounding up is one more stride less one pixel. A window that would then begin outside the image
    is no window of the original, so stride and padding together mustn't exceed the kernel.
    """
    kernel, stride, padding = pool.kernel_size, pool.stride, pool.padding
    assert isinstance(kernel, int)
    assert isinstance(stride, int)
    assert isinstance(padding, int)
    assert stride + padding <= kernel
    more = nn.ConstantPad2d((0, stride - 1, 0, stride - 1), float("-inf"))
    return nn.Sequential(more, nn.MaxPool2d(kernel, stride, padding, pool.dilation))


def trace(graph: Deployed, as_input: Callable[[Tensor], Tensor]) -> ExportedProgram:
    """The graph for any batch and any sides from 32; the example's size is in nothing of it."""
    from torch._dynamo.exc import UserError

    generator = torch.Generator().manual_seed(0)
    batch, *sides = TRACED
    shape = (batch, graph.network.in_channels, *sides)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    try:
        return torch.export.export(graph.eval(), (as_input(images),), dynamic_shapes=ANY_SIZE)
    except UserError as error:
        reason = str(error).partition("\n")[0]
        raise ValueError(
            f"this backbone can't be written for any size: {reason}; ResNets can, and MobileNetV2"
        ) from error


def write_onnx(
    program: ExportedProgram, graph: Deployed, facts: dict[str, str], path: Path
) -> None:
    with without_torch_s_own_warnings():
        written = torch.onnx.export(
            program,
            input_names=["images"],
            output_names=graph.outputs,
            dynamic_shapes=ANY_SIZE,
            dynamo=True,
            verbose=False,
        )
    assert written is not None
    written.model.metadata_props.update(facts)
    for node in written.model.graph:
        node.metadata_props.clear()  # stack traces, with the paths of this machine
    written.save(path)


def write_torch_export(
    program: ExportedProgram, graph: Deployed, facts: dict[str, str], path: Path
) -> None:
    content = {name: json.loads(value) for name, value in facts.items()}
    extra = {"ccnet.json": json.dumps(content, indent=2, ensure_ascii=False)}
    torch.export.save(program, path, extra_files=extra)


def write_aot(program: ExportedProgram, graph: Deployed, facts: dict[str, str], path: Path) -> None:
    options: dict[str, Any] = {
        "aot_inductor.metadata": facts,
        # it would order the strides of attention weights by sizes that aren't known, and fails
        "layout_optimization": False,
    }
    try:
        with without_torch_s_own_warnings():
            torch._inductor.aoti_compile_and_package(
                program, package_path=str(path), inductor_configs=options
            )
    except RuntimeError as error:  # the compiler's own error is wrapped in others
        if "InvalidCxxCompiler" not in str(error):
            raise
        raise FileNotFoundError("aot needs a C++ compiler, such as g++; none was found") from error


WRITERS = {"onnx": write_onnx, "torch-export": write_torch_export, "aot": write_aot}


def check_arguments(path: Path, format: str, precision: str, images: str | Path | None) -> None:
    if format not in WRITERS:
        raise ValueError(f"format must be {', '.join(WRITERS)}, got {format!r}")
    if path.suffix != SUFFIXES[format]:
        raise ValueError(f"a {format} file must end in {SUFFIXES[format]}, got {path}")
    if precision not in SMALLEST_AGREEMENT:
        known = ", ".join(SMALLEST_AGREEMENT)
        raise ValueError(f"precision must be {known}, got {precision!r}")
    if format != "onnx" and precision != "float32":
        raise ValueError(f"{precision} is for format onnx; {format} is written in float32")
    if precision == "int8" and images is None:
        raise ValueError("int8 needs a folder of images to calibrate with")
    missing = [name for name in ONNX_PACKAGES if find_spec(name) is None]
    if format == "onnx" and missing:
        raise ImportError(
            f"ONNX needs {', '.join(missing)}, not installed here: pip install 'criss-cross[onnx]'"
        )


def read_images(folder: Path, channels: int) -> tuple[list[np.ndarray], list[np.ndarray]]:
    """Images to calibrate with, every second file, and others to compare on."""
    files = list(image_files(folder))
    if len(files) < 2:
        raise ValueError(f"{folder} has {len(files)} images; at least two are needed")
    return tuple(
        [in_8_bits(read_image(file, channels)) for file in spread(half, most)]
        for half, most in ((files[::2], MOST_IMAGES), (files[1::2], MOST_IMAGES // 4))
    )  # pyright: ignore[reportReturnType]


def in_8_bits(image: np.ndarray) -> np.ndarray:
    return image if image.dtype == np.uint8 else np.rint(image / 257).astype(np.uint8)


def spread(files: list[Path], most: int) -> list[Path]:
    step = -(-len(files) // most)
    return files[::step]


def require_agreement(rows: list[Agreement], smallest: float, *, exact: bool) -> None:
    for row in rows:
        batch, height, width = row.size
        where = f"on {batch} images of {height}×{width}"
        if not row.labels >= smallest:  # a nan is no agreement
            raise ValueError(
                f"{100 * row.labels:.3f} % of the labels {where} are the network's, "
                f"{100 * smallest:g} % are wanted; nothing was written"
            )
        if exact and not row.difference <= LARGEST_DIFFERENCE:
            raise ValueError(
                f"logits {where} differ from the network's by {row.difference:.2g}, "
                f"{LARGEST_DIFFERENCE} is allowed; nothing was written"
            )
