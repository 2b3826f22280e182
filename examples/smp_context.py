"""Criss-cross attention as the context of a segmentation_models.pytorch decoder.

The decoder of an Unet, DeepLabV3+, FPN, ... gets the encoder's maps, fine to coarse; here the
coarsest passes through the attention first. γ starts at 0, so the model first computes what it did
before. Load its weights before: the decoder's then start with "decoder.decoder.".

    python examples/smp_context.py          needs segmentation-models-pytorch
"""

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from ccnet import RecurrentCrissCrossAttention


class DecoderWithContext(nn.Module):
    """A decoder whose coarsest map has seen the whole image."""

    def __init__(self, decoder: nn.Module, channels: int, recurrence: int = 2) -> None:
        super().__init__()
        self.context = RecurrentCrissCrossAttention(channels, recurrence)
        self.decoder = decoder

    def forward(self, features: list[Tensor]) -> Tensor:
        *fine, coarsest = features
        return self.decoder([*fine, self.context(coarsest)])


def add_context(model: nn.Module, recurrence: int = 2) -> nn.Module:
    """Give a model's decoder the attention, in place; returns the model."""
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
