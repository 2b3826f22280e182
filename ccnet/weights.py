"""Weight files: their tensors and what is stored besides, read without running any code in them."""

import collections
import pickle
import sys
import types
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch._utils  # private, but a pickled tensor names its functions: see _REBUILDERS
from safetensors.torch import load_file
from torch import Tensor

from ccnet.runtime.files import require_regular

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

# Plain data that is often stored besides weights; it is replaced by placeholders
_PLAIN_DATA = {
    "argparse": {"Namespace"},
    "builtins": {
        *("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list"),
        *("object", "range", "set", "slice", "str", "tuple"),
        *("basestring", "long", "unicode", "xrange"),  # names of Python 2
    },
    "_codecs": {"encode"},
    "collections": {"Counter", "defaultdict", "deque"},
    "copyreg": {"_reconstructor"},
    "datetime": {"date", "datetime", "time", "timedelta", "timezone"},
    "pathlib": {"Path", "PosixPath", "PurePosixPath", "PureWindowsPath", "WindowsPath"},
    "types": {"SimpleNamespace"},
}
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
# Code that every machine has, which a hostile file would call
_AT_HAND = {*sys.stdlib_module_names, "ccnet", "commands", "torch"}


@dataclass(frozen=True)
class Weights:
    """The content of a weight file."""

    tensors: dict[str, Tensor]
    """The state dict, its keys without what wrapper modules add (see `parameter_name`)."""
    metadata: dict[str, Any]
    """What was stored besides the state dict; objects of foreign classes are `Placeholder`s."""


class Placeholder:
    """Stands for an object of a foreign class; accepts any content and stores none of it."""

    def __new__(cls, *_: Any, **__: Any) -> "Placeholder":
        return object.__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None: ...
    def __setstate__(self, state: Any) -> None: ...
    def __setitem__(self, key: Any, value: Any) -> None: ...
    def add(self, item: Any) -> None: ...
    def append(self, item: Any) -> None: ...
    def extend(self, items: Any) -> None: ...
    def __call__(self, *_: Any, **__: Any) -> "Placeholder":
        return Placeholder()


class HostilePickleError(pickle.UnpicklingError):
    """A pickle asks for a function that weights do not need, or tries to change one."""


class _Sealed:
    """A function that a pickle may call, but not change, as its opcode BUILD would."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise HostilePickleError("it changes a function of the reader; nothing of it was run")


# All that a pickle may really call: classes that refuse new attributes, and sealed functions
_REBUILDERS: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch", "Size"): torch.Size,
    **{
        ("torch._utils", name): _Sealed(getattr(torch._utils, name))
        for name in ("_rebuild_tensor_v2", "_rebuild_tensor_v3", "_rebuild_parameter")
    },
}


def read_weights(path: str | Path) -> Weights:
    """Read the state dict of a file; no code in the file is run.

    Args:
        path: a .safetensors file, or a .pth or .pt file of either serialization of `torch.save`,
            with the state dict itself or with it under "state_dict" or "model". Foreign objects
            besides the tensors become placeholders.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is broken, holds no state dict, or asks for code to be run.
    """
    path = Path(path)
    if path.suffix not in SUFFIXES:
        raise ValueError(f"{path}: weights are read from .safetensors, .pth or .pt files")
    if not path.exists():
        raise FileNotFoundError(f"no weight file at {path}")
    require_regular(path)
    try:
        content = load_file(path) if path.suffix == ".safetensors" else _unpickle(path)
    except HostilePickleError as error:
        raise ValueError(f"{path} cannot be read as weights: {error}") from error
    except Exception as error:  # a broken file can raise anything
        raise ValueError(f"{path} cannot be read as weights ({type(error).__name__})") from error
    state, metadata = content, {}
    for wrapper in WRAPPERS:  # dict.get(x), since a file may replace x.get
        if isinstance(state, dict) and isinstance(dict.get(state, wrapper), dict):
            metadata |= {key: value for key, value in dict.items(state) if key != wrapper}
            state = dict.get(state, wrapper)
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, other than a state dict")
    strangers = [key for key, value in dict.items(state) if not isinstance(value, Tensor)]
    if strangers or not state:
        found = ", ".join(map(str, strangers[:5])) or "nothing"
        raise ValueError(f"{path} holds something other than a state dict of tensors: {found}")
    tensors: dict[str, Tensor] = {}
    keys: dict[str, str] = {}
    for key, value in dict.items(state):
        name = parameter_name(str(key))
        if name == "n_averaged":  # the counter of torch.optim.swa_utils.AveragedModel
            metadata[name] = value.detach()
            continue
        if name in tensors:
            raise ValueError(f"{path} has two tensors for {name}: {keys[name]} and {key}")
        tensors[name], keys[name] = value.detach(), str(key)
    return Weights(tensors, metadata)


def parameter_name(key: str) -> str:
    """A key of a state dict without the names that wrapper modules add to it.

    `torch.compile` adds "_orig_mod." before any part of it, DataParallel, DistributedDataParallel
    and AveragedModel add "module." at its start, also several times.
    """
    parts = [part for part in key.split(".") if part not in WRAPPER_MODULES]
    while len(parts) > 1 and parts[0] == "module":
        parts = parts[1:]
    return ".".join(parts)


def differences(given: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> str:
    """Why a state dict cannot be loaded into a network, in words; empty if it can be.

    Keys that are missing, unexpected or of another shape are counted, and some of them named. The
    batch counters of normalization may be missing.
    """
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
    return "; ".join(
        f"{len(keys)} {kind} ({', '.join(keys[:3])}{', ...' if len(keys) > 3 else ''})"
        for kind, keys in problems.items()
        if keys
    )


def _unpickle(path: Path) -> Any:
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings(
                "ignore", "Detected pickle protocol"
            )  # any protocol can be read
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:  # foreign classes; TorchScript raises another error
        inert: Any = types.SimpleNamespace(
            __name__="inert", Unpickler=_InertUnpickler, load=_load_inert
        )
        return torch.load(path, map_location="cpu", weights_only=False, pickle_module=inert)


class _InertUnpickler(pickle.Unpickler):
    """Rebuilds tensors; any other name gives a placeholder or is refused."""

    def find_class(self, module: str, name: str, /) -> Any:
        module = _PYTHON_2.get(module, module)
        if (module, name) in _REBUILDERS:
            return _REBUILDERS[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) == ("builtins", "getattr"):
            return _Sealed(_attribute)
        is_at_hand = module.partition(".")[0] in _AT_HAND
        if is_at_hand and name not in _PLAIN_DATA.get(module, ()):
            hint = (
                "; is it a whole network? Save its state_dict()"
                if module[:9] == "torch.nn."
                else ""
            )
            raise HostilePickleError(
                f"it asks for {module}.{name}, which weights have no need of; "
                f"nothing of it was run{hint}"
            )
        return type(name, (Placeholder,), {"__module__": module, "is_foreign": not is_at_hand})


def _load_inert(file: Any, **options: Any) -> Any:
    return _InertUnpickler(file, **options).load()


def _attribute(owner: Any, name: str) -> Any:
    """`getattr` in a pickle, which the log buffers of mmengine need for names of methods."""
    if getattr(owner, "is_foreign", False) is not True:
        raise HostilePickleError(
            f"it asks for {name!r} of {owner!r}, which weights have no need of; "
            "nothing of it was run"
        )
    return type(str(name), (Placeholder,), {"is_foreign": True})
