"""Batch normalization folded into the convolution before it: fewer layers, the same function."""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import TypeVar, cast

from torch import fx, nn
from torch.fx.proxy import TraceError
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ccnet.models.attention import RecurrentCrissCrossAttention
from ccnet.models.ccnet import CCNet

Network = TypeVar("Network", bound=nn.Module)


def fold_batch_norm(network: Network) -> Network:
    """A copy in evaluation mode whose convolutions include the batch norms that follow them.

    A batch norm becomes the identity if nothing else reads the output of the convolution before it;
    other batch norms stay. The result is the same except for rounding.

    Raises:
        ValueError: torch.fx cannot trace the network.
    """
    folded = copy.deepcopy(network).eval()
    for convolution, norm in list(foldable_pairs(folded)):
        layers = folded.get_submodule(convolution), folded.get_submodule(norm)
        fused = fuse_conv_bn_eval(cast(nn.Conv2d, layers[0]), cast(nn.BatchNorm2d, layers[1]))
        folded.set_submodule(convolution, fused)
        folded.set_submodule(norm, nn.Identity())
    return folded


def foldable_pairs(network: nn.Module) -> Iterator[tuple[str, str]]:
    """Names of each convolution and the batch norm that alone reads its output."""
    heads = {"auxiliary": True} if isinstance(network, CCNet) else None
    try:  # with the auxiliary head, so that its layers are found too
        graph = Tracer().trace(network, heads)
    except TraceError as error:
        raise ValueError(f"torch.fx cannot trace the network: {error}") from error
    calls = [node for node in graph.nodes if node.op == "call_module"]
    times = Counter(node.target for node in calls)
    for node in calls:
        before = node.args[0]
        if before.op != "call_module" or len(before.users) > 1:
            continue
        layers = network.get_submodule(before.target), network.get_submodule(node.target)
        fits = isinstance(layers[0], nn.Conv2d) and isinstance(layers[1], nn.BatchNorm2d)
        if fits and times[before.target] == times[node.target] == 1:
            yield before.target, node.target


class Tracer(fx.Tracer):
    """Traces convolutions, subclasses included, and the attention as single steps."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        is_step = isinstance(m, nn.Conv2d | RecurrentCrissCrossAttention)
        return is_step or super().is_leaf_module(m, module_qualified_name)
