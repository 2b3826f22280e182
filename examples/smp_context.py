"""Criss-cross attention before a decoder of segmentation_models.pytorch.

The decoder of a Unet, DeepLabV3+ or FPN gets the feature maps of the encoder, from fine to coarse.
Here the coarsest map passes through the attention first. γ starts at 0, so the model first computes
the same as before. Load its weights before adding the attention, because the names of the decoder's
parameters then start with "decoder.decoder.".

    python examples/smp_context.py

This needs segmentation-models-pytorch.
"""

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from ccnet import RecurrentCrissCrossAttention


class DecoderWithContext(nn.Module):
    """A decoder whose coarsest input has passed through criss-cross attention."""

    def __init__(self, decoder: nn.Module, channels: int, recurrence: int = 2) -> None:
        super().__init__()
        self.context = RecurrentCrissCrossAttention(channels, recurrence)
        self.decoder = decoder

    def forward(self, features: list[Tensor]) -> Tensor:
        *fine, coarsest = features
        return self.decoder([*fine, self.context(coarsest)])


def add_context(model: nn.Module, recurrence: int = 2) -> nn.Module:
    """Put the attention before the decoder of a model, in place, and return the model."""
    channels = model.encoder.out_channels[-1]
    model.decoder = DecoderWithContext(model.decoder, channels, recurrence)
    return model


def main() -> None:
    model = smp.DeepLabV3Plus("resnet18", encoder_weights=None, classes=19).eval()
    image = torch.rand(1, 3, 256, 320)
    with torch.inference_mode():
        before = model(image)
        after = add_context(model)(image)
    print(
        f"logits {tuple(after.shape)}, changed by {(after - before).abs().max():.1e} at the start"
    )


if __name__ == "__main__":
    main()
