"""The head of CCNet: recurrent attention, fusion, classifier; and the auxiliary head."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ccnet.models.attention import RecurrentCrissCrossAttention, conv_norm_activation


class CCNetHead(nn.Module):
    """From the features X of any encoder to class logits at their size (paper section 3.1).

    H = reduction(X); H'' = R passes of criss-cross attention on H; the classifier sees the fusion
    of [X, smoothing(H'')].

    Args:
        in_channels: channels of X, (B, in_channels, H, W).
        num_classes: channels of the logits.
        channels: channels of H, which the attention works on.
        recurrence: R, the number of passes; with 0 the convolutions around them stay.
        reduction: how many times fewer channels query and key have.
        shared: whether all passes share one set of weights.
        kernel_size: 3 as in the published networks, or 1 as in the article's text, of the
            reduction, the smoothing and the fusion.
        activation: "relu" or "leaky_relu" (slope 0.01, the authors').
        dropout: probability that a channel is left out before the classifier.
        backend: handed to `criss_cross_attention`.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        channels: int = 512,
        recurrence: int = 2,
        *,
        reduction: int = 8,
        shared: bool = True,
        kernel_size: int = 3,
        activation: str = "relu",
        dropout: float = 0.1,
        backend: str | None = None,
    ) -> None:
        super().__init__()
        if not 2 <= num_classes <= 255:  # labels are bytes, and 255 is no class
            raise ValueError(f"num_classes must be 2 to 255, got {num_classes}")
        if kernel_size not in (1, 3):
            raise ValueError(f"kernel_size must be 1 or 3, got {kernel_size}")
        self.reduction = conv_norm_activation(in_channels, channels, kernel_size, activation)
        self.attention = RecurrentCrissCrossAttention(
            channels, recurrence, reduction, shared=shared, backend=backend
        )
        self.smoothing = conv_norm_activation(channels, channels, kernel_size, activation)
        self.fusion = conv_norm_activation(
            in_channels + channels, channels, kernel_size, activation
        )
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(channels, num_classes, 1)

    def forward(self, features: Float[Tensor, "b x h w"]) -> Float[Tensor, "b classes h w"]:
        reduced = self.reduction(features)  # X → H
        context = self.attention(reduced)  # H → H' → H''
        fused = self.fusion(torch.cat([features, self.smoothing(context)], dim=1))
        return self.classifier(self.dropout(fused))


def auxiliary_head(
    in_channels: int,
    num_classes: int,
    channels: int,
    *,
    activation: str,
    dropout: float,
    bias: bool,
) -> nn.Sequential:
    """From the third stage's features to class logits at their size, for training only."""
    return nn.Sequential(
        *conv_norm_activation(in_channels, channels, 3, activation, bias=bias),
        nn.Dropout2d(dropout),
        nn.Conv2d(channels, num_classes, 1),
    )
