"""An exported file beside the network it came from: logits, labels and time."""

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

REPEATS = 5
TRACED = (2, 64, 96)  # images, height and width of the example that a file is written from
SIZES = ((1, 161, 97), (3, 96, 129))  # of noise; neither side nor batch is that of an export


@dataclass(frozen=True)
class Agreement:
    """How alike a file and the network are on images of one size."""

    size: tuple[int, int, int]
    """Images, height and width."""
    difference: float
    """Largest difference of two logits, in units of the largest logit if that is above 1."""
    labels: float
    """Share of the pixels that get the same class, 0 to 1."""
    torch_ms: float
    """Milliseconds an image by PyTorch."""
    export_ms: float
    """The same by the file."""


def compare(
    network: Callable[[Tensor], Float[Tensor, "b classes h w"]],
    exported: Callable[[Tensor], Sequence[Tensor]],
    batches: Sequence[UInt8[Tensor, "b c h w"]],
) -> Agreement:
    """Run both on batches of one size; `exported` gives logits and, if it makes them, labels.

    Times are the first batch's.
    """
    differences, alike = [], []
    for images in batches:
        expected = network(images)
        logits, *rest = exported(images)
        labels = rest[0] if rest else logits.argmax(1)
        scale = expected.abs().max().clamp(min=1)
        differences.append(((logits - expected).abs().max() / scale).item())
        alike.append((labels == expected.argmax(1)).double().mean().item())
    batch, _, height, width = batches[0].shape
    torch_ms, export_ms = (milliseconds(run, batches[0]) / batch for run in (network, exported))
    # max() passes over a nan that isn't its first
    difference = float(np.max(differences))
    return Agreement(
        (batch, height, width), difference, sum(alike) / len(alike), torch_ms, export_ms
    )


def milliseconds(run: Callable[[Tensor], object], images: Tensor) -> float:
    """Median of several runs after one to warm up."""
    seconds = []
    for _ in range(1 + REPEATS):
        start = time.perf_counter()
        run(images)
        seconds.append(time.perf_counter() - start)
    return 1000 * median(seconds[1:])


def noise(channels: int = 3) -> list[list[UInt8[Tensor, "b c h w"]]]:
    """Random images of two sizes, the same each time."""
    generator = torch.Generator().manual_seed(0)
    return [
        [torch.randint(0, 256, (b, channels, h, w), dtype=torch.uint8, generator=generator)]
        for b, h, w in SIZES
    ]


def photographs(
    images: Sequence[UInt8[np.ndarray, "_ _ c"]],
) -> list[list[UInt8[Tensor, "1 c h w"]]]:
    """All at the first one's size, and all at half of it, but no side under 32.

    A size that is the traced example's gets a pixel more.
    """
    sizes = [[max(side // part, 32) for side in images[0].shape[:2]] for part in (1, 2)]
    others = [[h + 1, w + 1] if (h, w) == TRACED[1:] else [h, w] for h, w in sizes]
    return [[as_batch(resize(image, h, w)) for image in images] for h, w in others]


def resize(
    image: UInt8[np.ndarray, "_ _ c"], height: int, width: int
) -> UInt8[np.ndarray, "h w c"]:
    channels = [Image.fromarray(channel) for channel in np.moveaxis(image, -1, 0)]
    return np.stack([np.asarray(x.resize((width, height))) for x in channels], axis=-1)


def as_batch(image: UInt8[np.ndarray, "h w c"]) -> UInt8[Tensor, "1 c h w"]:
    return torch.from_numpy(image).movedim(-1, 0).unsqueeze(0).contiguous()


def open_export(path: Path, format: str) -> Callable[[Tensor], list[Tensor]]:
    """A function from images to the outputs of an exported file, on the CPU."""
    if format == "onnx":
        return open_onnx(path)
    with without_torch_s_own_warnings(), torch.no_grad():
        if format == "aot":
            module = torch._inductor.aoti_load_package(str(path))
        else:
            module = torch.export.load(path).module()

    @torch.no_grad()
    def run(images: Tensor) -> list[Tensor]:
        return list(module(images.contiguous()))  # compiled code takes no other strides

    return run


def open_onnx(path: Path) -> Callable[[Tensor], list[Tensor]]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()  # times are compared with PyTorch's
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    def run(images: Tensor) -> list[Tensor]:
        return [torch.from_numpy(x) for x in session.run(None, {"images": images.numpy()})]

    return run


@contextmanager
def without_torch_s_own_warnings() -> Iterator[None]:
    """Its exporters call what torch itself has deprecated."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        warnings.filterwarnings("ignore", r"`torch\.jit", DeprecationWarning)
        yield
