"""Weights for a backbone, from a file."""

from pathlib import Path

from ccnet.backbones.backbone import Backbone
from ccnet.backbones.layers import adapt_input
from ccnet.weights import read_weights

# ImageNet's classifiers, and MobileNetV2's last 1×1 convolution, which feeds only its classifier
CLASSIFIER_KEYS = ("fc.", "classifier.", "features.18.")


def load_pretrained(backbone: Backbone, path: str | Path) -> None:
    """Fill the backbone in place with the weights of a .safetensors, .pth or .pt file.

    The state dict may be bare or under "state_dict" or "model", its keys may start with "module."
    or "backbone."; an ImageNet classifier is left out. Everything else has to match. Nothing in the
    file is run. Other input channels than the file's are adapted to (`layers.adapt_input`).
    Raises FileNotFoundError, or ValueError for a file that is broken or doesn't fit.
    """
    wanted = backbone.state_dict()
    state = read_weights(path).tensors
    state = {key.removeprefix("backbone."): value for key, value in state.items()}
    given = {
        key: value
        for key, value in state.items()
        if key in wanted or not key.startswith(CLASSIFIER_KEYS)
    }
    first = backbone.first_convolution
    in_channels = wanted[first].shape[1]
    if first in given and given[first].ndim == 4 and given[first].shape[1] != in_channels:
        given[first] = adapt_input(given[first], in_channels)
    problems = {
        "missing": [
            key for key in wanted if key not in given and not key.endswith("num_batches_tracked")
        ],
        "unexpected": [key for key in given if key not in wanted],
        "of another shape": [
            f"{key} {tuple(value.shape)} for {tuple(wanted[key].shape)}"
            for key, value in given.items()
            if key in wanted and value.shape != wanted[key].shape
        ],
    }
    counts = [
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in problems.items()
        if keys
    ]
    if counts:
        raise ValueError(f"{path} doesn't fit {type(backbone).__name__}: {'; '.join(counts)}")
    backbone.load_state_dict(given, strict=False)
