"""The copy of a network with which images are predicted."""

import contextlib
import platform
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ccnet.inference.folding import fold_batch_norm, is_plain_convolution, sharing_copy
from ccnet.inference.head import JoinedHead, is_joinable
from ccnet.inference.winograd import WinogradConv2d, is_winograd
from ccnet.models.attention import CrissCrossAttention, has_hooks
from ccnet.models.ccnet import CCNet
from ccnet.runtime.device import cpu_has


class Prepared:
    """A CCNet in its form for inference; it follows changes of the model.

    The first call prepares the model. When weights have been changed in place or loaded, or modules
    or hooks exchanged, the next call prepares it again. Only values that are written through
    `Tensor.data` are not seen. Many threads may call it at once. A copy, also one by pickle,
    prepares the model anew.

    Args:
        model: the network, on the device on which it is to run.
        dtype: torch.float32 for the type of the model's own weights; torch.bfloat16 or
            torch.float16 for autocast.
        compile: compile the network with torch.compile, for each new size of the images.
    """

    def __init__(self, model: CCNet, dtype: torch.dtype, *, compile: bool = False) -> None:
        self.model = model
        self.dtype = dtype
        self.compile = compile
        self.lock = threading.Lock()
        self.state: list[object] = []
        self.kept: list[object] = []
        self.network: Callable[[Tensor], Tensor] = model

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(Prepared, compile=self.compile), (self.model, self.dtype)

    @torch.inference_mode()
    def __call__(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes h w"]:
        """Logits, in float32, of normalized images."""
        network = self.up_to_date()
        images = images.contiguous(memory_format=torch.channels_last)
        is_mixed = self.dtype != torch.float32
        with torch.autocast(images.device.type, self.dtype if is_mixed else None, is_mixed):
            return network(images).float()

    def up_to_date(self) -> Callable[[Tensor], Tensor]:
        """The prepared form of the model as it is now."""
        with self.lock:
            if self.state != (state := state_of(self.model)):
                # other objects cannot get the addresses of those that are kept
                self.kept = [(m, [t.detach() for t in own]) for m, own in parts_of(self.model)]
                network = prepare(self.model, self.dtype)
                self.network = torch.compile(network) if self.compile else network
                self.state = state
            return self.network


def state_of(model: nn.Module) -> list[object]:
    """What changes when a model may compute something else.

    Every image needs it, and `modules()` and `parameters()` take three times as long as this.
    """
    state: list[object] = []
    for module, tensors in parts_of(model):
        state += (id(module), module.training, has_hooks(module))
        for tensor in tensors:
            state += (tensor.data_ptr(), 0 if tensor.is_inference() else tensor._version)
    return state


def parts_of(model: nn.Module) -> Iterator[tuple[nn.Module, list[Tensor]]]:
    """Each module of a model, with its own parameters and buffers."""
    modules = [model]
    for module in modules:
        modules += (child for child in module._modules.values() if child is not None)
        tensors = (*module._parameters.values(), *module._buffers.values())
        yield module, [tensor for tensor in tensors if tensor is not None]


@torch.inference_mode()
def prepare(model: CCNet, dtype: torch.dtype) -> CCNet:
    """A copy in evaluation mode that computes the same, except for rounding, in less time.

    It has no auxiliary head, batch norms are folded into convolutions, the head is joined, weights
    of convolutions are channels-last and, with autocast, in its dtype. On x86 processors wide 3×3
    convolutions are computed with fewer multiplications. Layers that do more than PyTorch's own
    stay as they are. Tensors that need no change are shared with the model.
    """
    network = sharing_copy(model)
    is_own = type(model).forward is CCNet.forward and "forward" not in vars(model)
    if is_own:
        network.auxiliary_head = None
    with contextlib.suppress(ValueError):  # torch.fx cannot trace the network
        network = fold_batch_norm(network)
    if is_own and is_joinable(network.head):
        network.set_submodule("head", JoinedHead(network.head))
    tile, fewest_channels = winograd_tile(model.device, dtype)
    in_attention = {
        convolution
        for module in network.modules()
        if isinstance(module, CrissCrossAttention)
        for convolution in module.modules()
    }
    for name, module in list(network.named_modules()):
        if not isinstance(module, nn.Conv2d) or not is_plain_convolution(module):
            continue
        if module in in_attention:  # which joins them, and scales by γ in float32
            continue
        store(module, dtype)
        fits = module.weight.dtype == dtype
        if tile is not None and fits and is_winograd(module, fewest_channels):
            network.set_submodule(name, WinogradConv2d(module, tile))
    return network.eval()


def winograd_tile(device: torch.device, dtype: torch.dtype) -> tuple[int | None, int]:
    """The side of a tile, None for direct convolutions, and the fewest channels that gain.

    Measured on x86 processors only. Where AMX multiplies bfloat16, everything else takes longer
    than the multiplications.
    """
    if device.type == "cpu" and platform.machine() in ("x86_64", "AMD64"):
        if dtype == torch.float32:
            return 4, 128
        if dtype == torch.bfloat16 and cpu_has("avx512_bf16") and not cpu_has("amx_bf16"):
            return 2, 256
    return None, 0


def store(convolution: nn.Conv2d, dtype: torch.dtype) -> None:
    """Give a convolution weights in channels-last layout and in the dtype of autocast."""
    target = convolution.weight.dtype if dtype == torch.float32 else dtype
    weight = convolution.weight.to(target).contiguous(memory_format=torch.channels_last)
    convolution.weight = nn.Parameter(weight, requires_grad=False)
    if convolution.bias is not None:
        convolution.bias = nn.Parameter(convolution.bias.to(target), requires_grad=False)
