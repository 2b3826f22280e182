"""Batch normalization folded into the convolution before it: fewer layers, the same function."""

import copy
import inspect
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar, cast

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from ccnet.backbones.depthwise import DilatedDepthwiseConv2d
from ccnet.models.attention import RecurrentCrissCrossAttention, has_hooks
from ccnet.models.ccnet import CCNet

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norm(network: Network) -> Network:
    """A copy in evaluation mode whose convolutions include the batch norms that follow them.

    A batch norm becomes the identity if nothing else reads the output of the convolution before it;
    other batch norms stay. So do those of layers that do more than PyTorch's own: subclasses,
    parametrized layers, and layers with hooks or inside a module with hooks. The result is the same
    except for rounding. Other tensors are shared with the network.

    Raises:
        ValueError: torch.fx cannot trace the network.
    """
    folded = sharing_copy(network).eval()
    for convolution, norm in list(foldable_pairs(folded)):
        layers = folded.get_submodule(convolution), folded.get_submodule(norm)
        folded.set_submodule(convolution, fused(*cast(tuple[nn.Conv2d, nn.BatchNorm2d], layers)))
        folded.set_submodule(norm, nn.Identity().eval())
    return folded


def sharing_copy(network: Network) -> Network:
    """A copy whose modules may be exchanged; tensors and hooks are those of the network."""
    shared: list[object] = [*network.parameters(), *network.buffers()]
    for module in network.modules():
        # tensors that are plain attributes may have a graph, which deepcopy refuses
        values = vars(module).items()
        shared += [x for name, x in values if "_hooks" in name or isinstance(x, Tensor)]
    return copy.deepcopy(network, {id(x): x for x in shared})


def foldable_pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of each convolution and the batch norm that alone reads its output."""
    parameters = inspect.signature(network.forward).parameters.values()
    switches = {p.name: p.default for p in parameters if isinstance(p.default, bool)}
    if isinstance(network, CCNet):  # with the auxiliary head, so that its layers are found too
        switches["auxiliary"] = True
    try:
        graph = Tracer().trace(network, switches)
    except Exception as error:  # any code that fails for a proxy instead of a tensor
        raise ValueError(f"torch.fx cannot trace the network: {error}") from error
    calls = [node for node in graph.nodes if node.op == "call_module"]
    times = Counter(node.target for node in calls)
    # layers whose weights are read elsewhere, too
    read = {node.target.rpartition(".")[0] for node in graph.nodes if node.op == "get_attr"}
    for node in calls:
        before = node.args[0] if node.args else None
        if not isinstance(before, fx.Node) or before.op != "call_module" or len(before.users) > 1:
            continue
        names = str(before.target), str(node.target)
        layers = [network.get_submodule(name) for name in names]
        if is_foldable(*layers) and all(times[x] == 1 and x not in read for x in names):
            yield names


class Tracer(fx.Tracer):
    """Traces convolutions and the attention as single steps, and modules with hooks."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_step = isinstance(m, nn.Conv2d | RecurrentCrissCrossAttention) or has_hooks(m)
        return is_step or super().is_leaf_module(m, module_qualified_name)


def is_foldable(convolution: nn.Module, norm: nn.Module) -> bool:
    """Whether both layers compute what their arguments say, accurately enough to be merged."""
    return (
        is_plain_convolution(convolution)
        and convolution.weight.dtype in (torch.float32, torch.float64)
        and type(norm) is nn.BatchNorm2d
        and norm.running_mean is not None
        and is_plain(norm)
    )


def is_plain_convolution(module: nn.Module) -> bool:
    """Whether calling the module convolves with its weight, adds its bias and does nothing else."""
    # a parametrization changes the type
    return type(module) in (nn.Conv2d, DilatedDepthwiseConv2d) and is_plain(module)


def is_plain(module: nn.Module) -> bool:
    """Whether a call of the module is a call of its class's forward."""
    return "forward" not in vars(module) and not has_hooks(module)


def fused(convolution: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution instead of two layers."""
    assert norm.running_mean is not None
    assert norm.running_var is not None
    one = empty_convolution(convolution)
    one.weight, one.bias = fuse_conv_bn_weights(
        convolution.weight,
        convolution.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    return one


def empty_convolution(like: nn.Conv2d, **changes: Any) -> nn.Conv2d:
    """A convolution with the arguments of another one, in evaluation mode, without weights."""
    names = ("in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation")
    names += ("groups", "padding_mode")
    arguments = {name: getattr(like, name) for name in names} | changes
    return nn.Conv2d(**arguments, device="meta").eval()
