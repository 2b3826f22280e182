"""The state dict of a weight file, by the names of the network's own parameters."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors.torch import load_file
from torch import Tensor

from ccnet.runtime.files import DataError, cause_of, open_regular, shown
from ccnet.weights.archives import read_pickled
from ccnet.weights.checks import named, require_readable, require_sound
from ccnet.weights.pickles import Placeholder, RefusedError

SUFFIXES = (".safetensors", ".pth", ".pt")
WRAPPERS = ("state_dict", "model")  # keys under which training programs store a state dict
# Names that wrapper modules put into the keys: compiled, sharded or recomputed parts, anywhere
WRAPPER_MODULES = {"_orig_mod", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"}

# Names in a deep stem: those of MIT's ResNet, which the CCNet authors took over, and ours
DEEP_STEM = {
    "conv1.": "stem.0.",
    "bn1.": "stem.1.",
    "conv2.": "stem.3.",
    "bn2.": "stem.4.",
    "conv3.": "stem.6.",
    "bn3.": "stem.7.",
}
# What these networks subtract from BGR images of 0 to 255; they divide by nothing
BGR_MEAN = (104.00698793, 116.66876762, 122.67891434)


@dataclass(frozen=True)
class Weights:
    """The content of a weight file."""

    tensors: dict[str, Tensor]
    """The state dict, its keys without what wrapper modules add (see `parameter_name`)."""
    metadata: dict[str, Any]
    """What was stored besides the state dict; objects of foreign classes are `Placeholder`s."""


def read_weights(path: str | Path) -> Weights:
    """Read the state dict of a file; no code in the file is run.

    Args:
        path: a .safetensors file, or a .pth or .pt file of either serialization of `torch.save`,
            with the state dict itself or with it under "state_dict" or "model". Foreign objects
            besides the tensors become placeholders. The tensors of a .safetensors file are mapped,
            and take memory when they are used.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is broken, holds no state dict, has values that are no weights (nan,
            infinity, numbers of other types than float16 to float64), needs much more memory than
            it has bytes, asks for code to be run, or is no regular file.
    """
    if not str(path):
        raise ValueError("the path of the weight file is empty")
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: weights are read from .safetensors, .pth or .pt files")
    content = _read(path)
    state, metadata = content, {}
    for wrapper in WRAPPERS:
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            metadata |= {key: value for key, value in state.items() if key != wrapper}
            state = state[wrapper]
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, other than a state dict")
    strangers = [
        f"{named(key) if isinstance(key, str) else shown(key)}{_kind(value)}"
        for key, value in state.items()
        if not isinstance(value, Tensor) or not isinstance(key, str)
    ]
    if strangers or not state:
        found = ", ".join(strangers[:5]) or "nothing"
        raise ValueError(f"{path} holds something other than a state dict of tensors: {found}")
    tensors: dict[str, Tensor] = {}
    keys: dict[str, str] = {}
    for key, value in state.items():
        name = parameter_name(key)
        if name == "n_averaged":  # the counter of torch.optim.swa_utils.AveragedModel
            metadata[name] = value.detach()
            continue
        if name in tensors:
            raise ValueError(
                f"{path} has two tensors for {named(name)}: {named(keys[name])} and {named(key)}"
            )
        tensors[name], keys[name] = value.detach(), key
    require_sound(tensors, path)
    return Weights(tensors, metadata)


def _read(path: Path) -> Any:
    try:
        with open_regular(path) as file:
            require_readable(file, path)
        return load_file(path) if path.suffix == ".safetensors" else read_pickled(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no weight file at {path}") from error
    except DataError:
        raise
    except OSError as error:
        raise DataError(f"{path}: {cause_of(error)}.", path=path) from error
    except RefusedError as error:
        raise ValueError(f"{path} cannot be read as weights: {error}") from error
    except Exception as error:  # a broken file can raise anything
        reason = f"{type(error).__name__}: {named(' '.join(str(error).split()), 150)}"
        raise ValueError(
            f"{path} cannot be read as weights: cut off, damaged or of another kind ({reason})"
        ) from error


def _kind(value: Any) -> str:
    return f" ({value.what})" if isinstance(value, Placeholder) else ""


def parameter_name(key: str) -> str:
    """A key of a state dict without the names that wrapper modules add to it.

    `torch.compile` adds "_orig_mod." before any part of it, DataParallel, DistributedDataParallel
    and AveragedModel add "module." at its start, also several times.
    """
    parts = [part for part in key.split(".") if part not in WRAPPER_MODULES]
    while len(parts) > 1 and parts[0] == "module":
        parts = parts[1:]
    return ".".join(parts)
