"""Entry points of torch.hub: `torch.hub.load("OWNER/REPOSITORY", "ccnet", MODEL)`.

Beside `ccnet` they are the classes `CCNet` (an untrained network), `Predictor` (from images to
labels) and `RecurrentCrissCrossAttention` (the module for a network of your own).

torch.hub runs this file, so it asks before it takes a repository from the network for the first
time. Nothing in a model's files is run: weights are safetensors, and settings are JSON.
"""

from ccnet import CCNet, Predictor, RecurrentCrissCrossAttention

__all__ = ["CCNet", "Predictor", "RecurrentCrissCrossAttention", "ccnet"]
dependencies = ["torch", "numpy", "PIL", "yaml", "jaxtyping", "safetensors", "huggingface_hub"]


def ccnet(model: str, **options: object) -> CCNet:
    """A trained network in evaluation mode: normalized images (B, 3, H, W) to logits.

    Args:
        model: the folder of a model or of a training run, or an id on the Hugging Face hub.
        options: those of `CCNet.from_pretrained`, such as `revision`, or `num_classes` for a
            network whose classifier starts anew.

    Raises:
        FileNotFoundError: there is no such model.
        ValueError: its files are damaged or do not fit each other.
    """
    return CCNet.from_pretrained(model, **options)
