"""The head of CCNet with one convolution for all that reads the backbone's features."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ccnet.inference.folding import empty_convolution, is_plain, is_plain_convolution
from ccnet.models.head import CCNetHead


class JoinedHead(nn.Module):
    """A `CCNetHead` without concatenation: fusion([X, S]) is the sum of a part of X and one of S.

    The part of X and the reduction are one convolution. The result is the same except for rounding.

    Args:
        head: one for which `is_joinable` holds. Its other layers are shared.
    """

    def __init__(self, head: CCNetHead) -> None:
        super().__init__()
        reduction, fusion = head.reduction[0], head.fusion[0]
        assert isinstance(reduction, nn.Conv2d)
        assert isinstance(fusion, nn.Conv2d)
        of_features, of_context = fusion.weight.split(
            [reduction.in_channels, fusion.in_channels - reduction.in_channels], 1
        )
        self.channels = [reduction.out_channels, fusion.out_channels]
        self.reduction_and_fusion = empty_convolution(reduction, out_channels=sum(self.channels))
        weight = torch.cat([reduction.weight, of_features])
        self.reduction_and_fusion.weight = nn.Parameter(weight, requires_grad=False)
        biases = [bias_of(convolution) for convolution in (reduction, fusion)]
        self.reduction_and_fusion.bias = nn.Parameter(torch.cat(biases), requires_grad=False)
        self.fusion = empty_convolution(fusion, in_channels=of_context.shape[1])
        self.fusion.weight = nn.Parameter(of_context, requires_grad=False)
        self.fusion.bias = None
        self.reduction_activation, self.fusion_activation = head.reduction[2], head.fusion[2]
        self.attention, self.smoothing = head.attention, head.smoothing
        self.refinement = head.refinement
        self.dropout, self.classifier = head.dropout, head.classifier

    def forward(
        self, features: Float[Tensor, "b x h w"], finer: Sequence[Float[Tensor, "b _ _ _"]] = ()
    ) -> Float[Tensor, "b classes _ _"]:
        reduced, fused = self.reduction_and_fusion(features).split(self.channels, 1)
        context = self.attention(self.reduction_activation(reduced))
        fused = self.fusion_activation(self.fusion(self.smoothing(context)) + fused)
        if self.refinement is not None:
            fused = self.refinement(fused, finer)
        return self.classifier(self.dropout(fused))


def is_joinable(head: nn.Module) -> bool:
    """Whether the head is CCNet's own, its batch norms are folded, and no hook reads the parts."""
    return (
        type(head) is CCNetHead
        and is_plain(head)
        and all(
            type(part) is nn.Sequential
            and is_plain(part)
            and is_plain_convolution(part[0])
            and type(part[1]) is nn.Identity
            and is_plain(part[1])
            for part in (head.reduction, head.fusion)
        )
    )


def bias_of(convolution: nn.Conv2d) -> Tensor:
    if convolution.bias is None:
        return convolution.weight.new_zeros(convolution.out_channels)
    return convolution.bias
