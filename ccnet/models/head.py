"""The head of CCNet: attention, fusion, refinement, classifier; and the auxiliary head."""

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ccnet.backbones.layers import conv_norm_activation
from ccnet.models.attention import RecurrentCrissCrossAttention
from ccnet.models.refinement import Refinement


class CCNetHead(nn.Module):
    """From the features X of any encoder to class logits (paper section 3.1).

    H = reduction(X); H'' = R passes of criss-cross attention on H; the classifier gets the fusion
    of [X, smoothing(H'')], refined if asked for. The logits have the size of X; with a refinement,
    which is not in the paper, they have the size of the finest map.

    Args:
        in_channels: number of channels of X, (B, in_channels, H, W).
        num_classes: number of channels of the logits, 2 to 255.
        channels: number of channels of H, on which the attention works.
        recurrence: R, the number of passes. With R = 0 the convolutions before and after the
            attention remain.
        reduction: the attention's query and key have channels // reduction channels.
        shared: whether all passes share one set of weights, as in the paper.
        kernel_size: size of the convolutions of reduction, smoothing and fusion: 3 as in the
            published networks, or 1.
        activation: a name in `ccnet.backbones.layers.ACTIVATIONS`; the authors' network has
            "leaky_relu" (slope 0.01), mmsegmentation's "relu".
        dropout: probability with which a channel is dropped before the classifier.
        backend: the `backend` of `criss_cross_attention`.
        refinement: strides of finer maps of the encoder that refine the fused features, from coarse
            to fine, such as [4, 2]; see `ccnet.models.refinement.Refinement`. None: no refinement.
        finer_channels: number of channels of each of these maps.
        align_corners: how the refinement upsamples, as in `torch.nn.functional.interpolate`.
        embedding_channels: width of the 1×1 convolution of H'' that the category consistent loss
            is applied to; it only helps in training. None: there is none.
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
        refinement: Sequence[int] | None = None,
        finer_channels: Sequence[int] = (),
        align_corners: bool = False,
        embedding_channels: int | None = None,
    ) -> None:
        super().__init__()
        if not 2 <= num_classes <= 255:  # labels are bytes, of which 255 is ignored
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
        self.refinement = None
        if refinement is not None:
            self.refinement = Refinement(
                channels,
                finer_channels,
                refinement,
                activation=activation,
                align_corners=align_corners,
            )
        width = channels if self.refinement is None else self.refinement.out_channels
        self.dropout = nn.Dropout2d(dropout)
        self.classifier = nn.Conv2d(width, num_classes, 1)
        self.embedding = None
        if embedding_channels is not None:
            self.embedding = nn.Conv2d(channels, embedding_channels, 1)

    def forward(
        self,
        features: Float[Tensor, "b x h w"],
        finer: Sequence[Float[Tensor, "b _ _ _"]] = (),
        embedding: bool = False,
    ) -> Float[Tensor, "b classes _ _"] | tuple[Float[Tensor, "b _ _ _"], ...]:
        """Logits; with `embedding` a tuple of the logits and the embedding, at the size of X."""
        reduced = self.reduction(features)  # X → H
        context = self.attention(reduced)  # H → H' → H''
        logits = self.classify(features, context, finer)
        return (logits, require_embedding(self.embedding)(context)) if embedding else logits

    def classify(
        self,
        features: Float[Tensor, "b x h w"],
        context: Float[Tensor, "b c h w"],
        finer: Sequence[Float[Tensor, "b _ _ _"]] = (),
    ) -> Float[Tensor, "b classes _ _"]:
        """Logits of X and H''."""
        fused = self.fusion(torch.cat([features, self.smoothing(context)], dim=1))
        if self.refinement is not None:
            fused = self.refinement(fused, finer)
        return self.classifier(self.dropout(fused))


def require_embedding(embedding: nn.Module | None) -> nn.Module:
    if embedding is None:
        raise ValueError("the network has no embedding; CCNet(embedding_channels=16) has one")
    return embedding


def auxiliary_head(
    in_channels: int,
    num_classes: int,
    channels: int,
    *,
    activation: str,
    dropout: float,
    bias: bool,
) -> nn.Sequential:
    """A head on the third stage of the backbone, whose loss helps in training.

    Convolution, batch normalization, activation, dropout and classifier, at the features' size.
    """
    return nn.Sequential(
        *conv_norm_activation(in_channels, channels, 3, activation, bias=bias),
        nn.Dropout2d(dropout),
        nn.Conv2d(channels, num_classes, 1),
    )
