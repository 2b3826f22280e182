"""What an exported file computes, and its graph."""

import copy
import json
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float, UInt8, UInt16
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

import ccnet
from ccnet.export.names import FilePrecision
from ccnet.inference.folding import fold_batch_norm
from ccnet.models.attention import CrissCrossAttention
from ccnet.models.ccnet import CCNet

TRACED = (2, 64, 96)
"""Images, height and width of the example that a graph for any size is traced with."""
ANY_BATCH = {0: Dim("batch", min=1)}
ANY_SIZE = {**ANY_BATCH, 2: Dim("height", min=32), 3: Dim("width", min=32)}


class Deployed(nn.Module):
    """A copy of a network of standard operators only, with what goes around it.

    It has the reference form of the attention (`backend="reference"`), no auxiliary head, and batch
    norms folded into the convolutions. A file also carries its `facts`, as JSON: in the metadata of
    ONNX and of AOTInductor, and in the extra file "ccnet.json" of torch.export.

    Args:
        network: the network, in float32.
        labels: return the most likely classes as well.
        normalized: take normalized images instead of uint8 ones. A network of chosen bands takes
            float32 images of these bands, with the values of its files, instead of uint8 ones; it
            cuts off and scales them itself. Bands that are taken as 8 bits are uint8.
        precision: of the file. The int8 form is made from this network in float32.
        size: height and width of the images; None for any size.
    """

    def __init__(
        self,
        network: CCNet,
        labels: bool,
        normalized: bool,
        precision: FilePrecision,
        size: tuple[int, int] | None = None,
    ) -> None:
        super().__init__()
        mean, std = network.arguments["mean"], network.arguments["std"]
        self.mean, self.std = (torch.tensor(values).view(-1, 1, 1) for values in (mean, std))
        prepared, is_folded = prepare(network)
        self.dtype = torch.float16 if precision == "float16" else torch.float32
        self.network = prepared.to(self.dtype)
        self.labels, self.normalized = labels, normalized
        self.takes_values = network.bands is not None and network.bands.result_dtype == np.uint16
        bounds = network.bands.ranges if network.bands is not None else [(0.0, 255.0)]
        self.low, self.high = (
            torch.tensor(ends).view(-1, 1, 1) for ends in zip(*bounds, strict=True)
        )
        self.precision, self.size = precision, size
        self.facts: dict[str, Any] = {
            "classes": network.classes,
            "palette": network.palette,
            "mean": mean,
            "std": std,
            "normalized": normalized,
            "normalised": normalized,  # the former spelling, for programs that read it
            "size": size,
            "precision": precision,
            "backend": "reference",
            "batch_norm": "folded" if is_folded else "kept",
            "ccnet": ccnet.__version__,
        }
        if network.bands is not None:
            self.facts["bands"] = network.bands.to_dict()

    def forward(
        self, images: UInt8[Tensor, "b c h w"] | Float[Tensor, "b c h w"]
    ) -> tuple[Tensor, ...]:
        if not self.normalized:
            images = self.normalize(images)
        logits = self.network(images.to(self.dtype)).float()
        return (logits, logits.argmax(1).to(torch.uint8)) if self.labels else (logits,)

    def normalize(
        self, images: UInt8[Tensor, "b c h w"] | Float[Tensor, "b c h w"]
    ) -> Float[Tensor, "b c h w"]:
        """Images as the network takes them, of uint8 ones or of the values of bands."""
        if self.takes_values:
            shares = (images.clamp(self.low, self.high) - self.low) / (self.high - self.low)
            images = (shares * 65535).round() / 257
        return (images - self.mean) / self.std

    def as_input(
        self, images: UInt8[Tensor, "b c h w"] | UInt16[Tensor, "b c h w"]
    ) -> UInt8[Tensor, "b c h w"] | Float[Tensor, "b c h w"]:
        """Images of 8 bits, or of 16 where bands are scaled, as `forward` takes them."""
        if self.takes_values:
            shares = images.float() / (65535 if images.dtype == torch.uint16 else 255)
            images = self.low + shares * (self.high - self.low)
        return self.normalize(images) if self.normalized else images

    @property
    def outputs(self) -> list[str]:
        """The names of what `forward` returns."""
        return ["logits", "labels"] if self.labels else ["logits"]

    @property
    def dynamic_shapes(self) -> tuple[dict[int, Dim]]:
        """The axes of the images whose size is left open, as torch.export takes them."""
        return (ANY_SIZE if self.size is None else ANY_BATCH,)

    @property
    def json_facts(self) -> dict[str, str]:
        """The facts as a file's metadata holds them: each value as JSON."""
        return {name: json.dumps(value) for name, value in self.facts.items()}


def prepare(model: CCNet) -> tuple[CCNet, bool]:
    """A copy of standard operators for any size, and whether its batch norms could be folded."""
    network = copy.deepcopy(model).eval()
    network.auxiliary_head = network.head.embedding = None
    for module in network.head.attention.passes:
        cast(CrissCrossAttention, module).backend = "reference"
    try:
        network, is_folded = fold_batch_norm(network), True
    except ValueError:  # torch.fx cannot trace the backbone
        is_folded = False
    for name, module in list(network.named_modules()):
        if isinstance(module, nn.MaxPool2d) and module.ceil_mode:
            network.set_submodule(name, without_ceil_mode(module))
    return network, is_folded


def without_ceil_mode(pool: nn.MaxPool2d) -> nn.Module:
    """The same pooling with padding at the right and below, whose size torch.export can derive.

    Rounding up is the same as padding by the stride less one. A window that would then begin
    outside the image is no window of the original, so stride and padding together must not exceed
    the kernel.
    """
    kernel, stride, padding = pool.kernel_size, pool.stride, pool.padding
    assert isinstance(kernel, int)
    assert isinstance(stride, int)
    assert isinstance(padding, int)
    assert stride + padding <= kernel
    more = nn.ConstantPad2d((0, stride - 1, 0, stride - 1), float("-inf"))
    return nn.Sequential(more, nn.MaxPool2d(kernel, stride, padding, pool.dilation))


def trace(deployed: Deployed) -> ExportedProgram:
    """The graph of a network, for the sizes that it leaves open.

    The graph has no assertions if PyTorch can prove that it is right for all sizes. It cannot for a
    ConvNeXt or a ViT, for instance that 1 modulo a product of sides is not 0, and would refuse; in
    a second attempt the graph asserts what is not proved, so that another size raises an error.

    Raises:
        RuntimeError: PyTorch cannot trace the network for these sizes.
    """
    generator = torch.Generator().manual_seed(0)
    batch, *sides = TRACED if deployed.size is None else (TRACED[0], *deployed.size)
    shape = (batch, deployed.network.in_channels, *sides)
    images = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)

    def attempt(*, with_assertions: bool) -> ExportedProgram:
        return torch.export.export(
            deployed.eval(),
            (deployed.as_input(images),),
            dynamic_shapes=deployed.dynamic_shapes,
            prefer_deferred_runtime_asserts_over_guards=with_assertions,
        )

    try:
        return attempt(with_assertions=False)
    except RuntimeError:
        return attempt(with_assertions=True)
