"""Weights for a backbone: from a file, from a URL, or published ImageNet weights."""

import hashlib
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlparse

import torch
from torch import Tensor

from ccnet.backbones.backbone import Backbone
from ccnet.backbones.layers import adapt_input
from ccnet.weights import BGR_MEAN, DEEP_STEM, differences, read_weights

TORCHVISION = "https://download.pytorch.org/models/"
OPENMMLAB = "https://download.openmmlab.com/pretrain/third_party/"
MIT = "http://sceneparsing.csail.mit.edu/model/pretrained_resnet/resnet101-imagenet.pth"
IMAGENET = {  # the file name ends with the first eight digits of its SHA-256
    ("resnet18", "plain"): TORCHVISION + "resnet18-f37072fd.pth",
    ("resnet34", "plain"): TORCHVISION + "resnet34-b627a593.pth",
    ("resnet50", "plain"): TORCHVISION + "resnet50-0676ba61.pth",
    ("resnet101", "plain"): TORCHVISION + "resnet101-63fe2227.pth",
    ("resnet152", "plain"): TORCHVISION + "resnet152-394f9c45.pth",
    ("mobilenet_v2", "plain"): TORCHVISION + "mobilenet_v2-b0353104.pth",
    ("resnet50", "deep_32"): OPENMMLAB + "resnet50_v1c-2cccc1ad.pth",
    ("resnet101", "deep_32"): OPENMMLAB + "resnet101_v1c-e67eebb6.pth",
}
# Classifiers of ImageNet, and MobileNetV2's last 1×1 convolution, which serves only its classifier
CLASSIFIER_KEYS = ("fc.", "classifier.", "features.18.")
TIMM_NETWORK = "network."
"""Start of the keys of a network of timm."""


def imagenet_url(name: str, stem: str = "plain") -> str:
    """The URL of a backbone's ImageNet weights, whose hash is part of the file name.

    Raises ValueError, which lists the known ones, for a backbone without such weights.
    """
    if (name, stem) in IMAGENET:
        return IMAGENET[name, stem]
    known = ", ".join(f"{name} with stem {stem}" for name, stem in IMAGENET)
    hint = ""
    if (name, stem) == ("resnet101", "deep_64"):
        hint = f"; for MIT's weights, whose hash is not known, give pretrained={MIT} or the file"
    raise ValueError(
        f"no ImageNet weights are known for {name} with stem {stem}{hint}; for {known}"
    )


def fetch(url: str) -> Path:
    """Download a weight file into torch.hub's cache, if it is not there yet, and return its path.

    If the file name ends with a hash, as torchvision's do, the file is compared with it, also when
    it comes from the cache. Otherwise the file's name in the cache contains a hash of the URL. Only
    files that can be read as weights are kept.

    Raises:
        OSError: the file cannot be downloaded.
        ValueError: the file does not have its hash, or is incomplete.
    """
    name = Path(urlparse(url).path).name
    digest = re.search(r"-([0-9a-f]{8,})\.\w+$", name)
    if digest is None:  # other URLs may have the same file name
        name = f"{hashlib.sha256(url.encode()).hexdigest()[:12]}-{name}"
    target = Path(torch.hub.get_dir(), "checkpoints", name)
    if target.is_file():
        if digest is not None and not sha256(target).startswith(digest[1]):
            raise ValueError(f"{target} is not the file that its name says; remove it")
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    print(f"downloading {url} to {target}", file=sys.stderr, flush=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{name}.") as folder:
        fresh = Path(folder, name)
        try:
            torch.hub.download_url_to_file(url, str(fresh), digest and digest[1])
        except RuntimeError as error:
            raise ValueError(f"{url} is not the file that its name says: {error}") from error
        except OSError as error:
            raise OSError(
                f"{url} cannot be downloaded ({error}); without a network, put the file at "
                f"{target} or give its path as pretrained"
            ) from error
        try:
            read_weights(fresh)
        except ValueError as error:  # an interrupted download may end without an error
            raise ValueError(f"{url} gave no whole weight file: {error}") from error
        fresh.replace(target)
    return target


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def load_pretrained(backbone: Backbone, path: str | Path) -> None:
    """Load weights into a backbone, in place; no code in the file is run.

    All weights have to match, with these exceptions. Keys may start with "backbone.". The
    classifier of ImageNet is left out. If the file is for images with other channels, the first
    convolution is adapted (`layers.adapt_input`). MIT's ResNets with a deep stem are recognized by
    their keys; they were trained on BGR images, so their first convolution is changed to RGB, and
    `backbone.mean` and `backbone.std` are set to theirs. For a network of timm the file is a
    backbone that was saved by this package, or a file of timm's own where its names do not change
    with the maps that are taken (EfficientNet, ResNet); what the maps do not need is left out.

    Args:
        backbone: the network to fill.
        path: a .safetensors, .pth or .pt file, as for `ccnet.weights.read_weights`, or its URL.

    Raises:
        FileNotFoundError: there is no such file.
        OSError: the URL cannot be reached.
        ValueError: the file is broken or does not fit.
    """
    if str(path).startswith(("http://", "https://")):
        path = fetch(str(path))
    wanted = backbone.state_dict()
    state = read_weights(path).tensors
    state = _renamed(state, {key: key.removeprefix("backbone.") for key in state}, path)
    is_timm = all(key.startswith(TIMM_NETWORK) for key in wanted)
    is_timms_own = is_timm and not any(key.startswith(TIMM_NETWORK) for key in state)
    if is_timms_own:
        named = {TIMM_NETWORK + key: value for key, value in state.items()}
        state = {key: value for key, value in named.items() if key in wanted}
    is_mit = "conv3.weight" in state and "stem.6.weight" in wanted
    if is_mit:
        state = _from_mit(state, path)
    given = {
        key: value
        for key, value in state.items()
        if key in wanted or not key.startswith(CLASSIFIER_KEYS)
    }
    first = backbone.first_convolution
    in_channels = wanted[first].shape[1]
    shape = given[first].shape if first in given else ()
    if len(shape) == 4 and shape[1] not in (0, in_channels):
        given[first] = adapt_input(given[first], in_channels)
    if problems := differences(given, wanted):
        if is_timms_own:
            problems += (
                "; is it a file of timm's own, whose keys change with the maps that are taken? "
                'Then give "imagenet", with which timm itself loads its weights'
            )
        raise ValueError(f"{path} does not fit {type(backbone).__name__}: {problems}")
    backbone.load_state_dict(given, strict=False)
    if is_mit:
        backbone.mean, backbone.std = BGR_MEAN[::-1], (1.0, 1.0, 1.0)


def _from_mit(state: Mapping[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    starts = {key: key.partition(".")[0] + "." for key in state}
    names = {
        key: DEEP_STEM.get(start, start) + key.removeprefix(start) for key, start in starts.items()
    }
    renamed = _renamed(state, names, path)
    first = renamed.get("stem.0.weight")
    if first is not None and first.ndim == 4:  # BGR → RGB
        renamed["stem.0.weight"] = first.flip(1)
    return renamed


def _renamed(
    state: Mapping[str, Tensor], names: Mapping[str, str], path: str | Path
) -> dict[str, Tensor]:
    renamed = {names[key]: value for key, value in state.items()}
    if len(renamed) < len(state):
        raise ValueError(f"{path} has two tensors for one weight of the backbone")
    return renamed
