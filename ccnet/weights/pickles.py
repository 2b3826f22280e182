"""Pickles that hold tensors: those are rebuilt, and nothing else of a pickle is run or kept."""

import io
import pickle
import pickletools
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, BinaryIO, ClassVar

import torch
from torch import Tensor
from torch.serialization import MAGIC_NUMBER

from ccnet.runtime.files import shown
from ccnet.weights.checks import named

MAX_OPCODES = 500_000
"""Instructions of a pickle; one of 700 tensors has 23,000."""
MAX_CLASSES = 1_000
"""Different foreign classes in a pickle."""
MAX_EXPANSION = 2.0
"""Bytes of all tensors, per byte of the file; above 1 only where tensors share what is stored."""
MAX_DIMENSIONS = 16

# Plain data that is often stored besides weights; it is replaced by placeholders
PLAIN_DATA = {
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
    "torch": {"Tensor", "device", "per_channel_affine", "per_tensor_affine"},
    "torch.nn.parameter": {"Parameter"},
    "torch.serialization": {"_get_layout"},
    "torch.torch_version": {"TorchVersion"},
    "types": {"SimpleNamespace"},
}
# Tensors that are no plain arrays of numbers, by the function that would rebuild them
ODD_TENSORS = {
    "_rebuild_sparse_tensor": "sparse",
    "_rebuild_qtensor": "quantized",
    "_rebuild_meta_tensor_no_storage": "meta",
    "_rebuild_nested_tensor": "nested",
    "_rebuild_wrapper_subclass": "wrapped",
    "_rebuild_device_tensor_from_cpu_tensor": "foreign",
    "_rebuild_device_tensor_from_numpy": "foreign",
}
STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexDoubleStorage": torch.complex128,
    "ComplexFloatStorage": torch.complex64,
    "QInt8Storage": torch.int8,  # the last three are read, and the tensors on them refused
    "QUInt8Storage": torch.uint8,
    "QInt32Storage": torch.int32,
}
# Private, but that in C allocates what a pickle says, and lets no one look at the keys of a dict
_PYTHON_UNPICKLER: Any = pickle._Unpickler  # pyright: ignore[reportAttributeAccessIssue]
_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
# Code that every machine has, which a hostile file would call
_AT_HAND = {*sys.stdlib_module_names, "ccnet", "commands", "torch"}


class RefusedError(pickle.UnpicklingError):
    """A file asks for what weights do not need, or is broken; the message says what it is."""


class Placeholder:
    """Stands for an object of a foreign class; accepts any content and stores none of it."""

    what = "an object of a foreign class"

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


class _ForeignAttribute(Placeholder):
    is_foreign = True


class _Dict(dict[Any, Any]):
    """In place of an OrderedDict, whose attributes a pickle could set and so hide its methods."""

    __slots__ = ()

    def __init__(self, *content: Any) -> None:
        super().__init__()
        pairs = (*content, [])[0]  # Python 2 wrote its pairs as an argument
        if not isinstance(pairs, list | tuple):
            raise RefusedError("it has an OrderedDict that is not one of pairs")
        for key, value in pairs:
            _require_content(self, [key])
            self[key] = value

    def __setstate__(self, state: Any) -> None: ...


# Types that a pickle may make, and what stands for the dtypes of storages
_TYPES: dict[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): _Dict,
    ("torch.storage", "UntypedStorage"): torch.uint8,
    **{("torch", name): dtype for name, dtype in STORAGES.items()},
}


@dataclass(frozen=True, slots=True)
class Storage:
    """The bytes of tensors, and their dtype."""

    untyped: torch.UntypedStorage
    dtype: torch.dtype


def next_pickle(file: BinaryIO) -> io.BytesIO:
    """The pickle at this place of a file, up to its end.

    Raises RefusedError for one that costs much more time or memory than its length tells.
    """
    start = file.tell()
    for number, (_, argument, _) in enumerate(pickletools.genops(file)):
        if number > MAX_OPCODES:
            raise RefusedError(f"its pickle has more than {MAX_OPCODES:,} steps")
        is_long = isinstance(argument, int) and argument.bit_length() > 64
        if is_long and argument != MAGIC_NUMBER:  # a dict with many of one hash takes for ever
            raise RefusedError("its pickle has an integer of more than 64 bits")
    end = file.tell()
    file.seek(start)
    return io.BytesIO(file.read(end - start))


class InertUnpickler(_PYTHON_UNPICKLER):
    """Rebuilds tensors; any other name gives a placeholder or is refused."""

    dispatch: ClassVar[dict[int, Any]] = dict(_PYTHON_UNPICKLER.dispatch)

    def __init__(
        self, file: io.BytesIO, size: int, load: Callable[..., Storage] | None = None
    ) -> None:
        super().__init__(file, encoding="utf-8")
        self.load_storage = load
        self.bytes_left = MAX_EXPANSION * size
        self.classes: dict[tuple[str, str], type] = {}
        self.rebuilders = {  # with OrderedDict all that a pickle may really call
            ("torch", "Size"): _size,
            ("torch._utils", "_rebuild_tensor_v2"): self.rebuild,
            ("torch._utils", "_rebuild_tensor_v3"): self.rebuild_typed,
            ("torch._utils", "_rebuild_parameter"): _parameter,
            ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
            ("torch._tensor", "_rebuild_from_type_v2"): self.rebuild_from_type,
            ("builtins", "getattr"): _attribute,
        }

    def find_class(self, module: str, name: str, /) -> Any:
        module = _PYTHON_2.get(module, module)
        if (module, name) in self.rebuilders:
            return self.rebuilders[module, name]
        if (module, name) in _TYPES:
            return _TYPES[module, name]
        if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        if (module, name) not in self.classes:
            if len(self.classes) >= MAX_CLASSES:
                raise RefusedError(f"it asks for more than {MAX_CLASSES:,} classes")
            self.classes[module, name] = _placeholder(module, name)
        return self.classes[module, name]

    def persistent_load(self, pid: Any, /) -> Storage:
        if self.load_storage is None or not isinstance(pid, tuple) or pid[:1] != ("storage",):
            raise RefusedError("it holds a part that is no tensor; is it a whole network?")
        _, kind, key, _, count, *view = pid
        is_known = isinstance(kind, torch.dtype) and isinstance(key, str)
        if not (is_known and isinstance(count, int) and count >= 0):
            raise RefusedError("it has a record without a name, a type or a length")
        return self.load_storage(kind, key, count, *view)

    def rebuild(
        self, storage: Any, offset: int, shape: Any, strides: Any, *more: Any, dtype: Any = None
    ) -> Tensor:
        sides = (shape, strides)
        is_plain = all(isinstance(x, tuple) and len(x) <= MAX_DIMENSIONS for x in sides)
        if not isinstance(storage, Storage) or not is_plain or any(more[2:]):  # negated, conjugated
            raise RefusedError("it has a tensor that is no plain array of numbers")
        dtype = storage.dtype if dtype is None else dtype
        steps = [stride * (side - 1) for side, stride in zip(shape, strides, strict=True)]
        end = offset + 1 + sum(steps) if all(shape) else offset
        # set_ itself would allocate what is missing
        if min(offset, *shape, *strides, 0) < 0 or end > storage.untyped.nbytes() // dtype.itemsize:
            raise RefusedError("it has a tensor that is larger than what is stored of it")
        tensor = torch.empty(0, dtype=dtype, device="cpu").set_(
            storage.untyped, offset, shape, strides
        )
        self.bytes_left -= tensor.nbytes
        if self.bytes_left < 0:
            raise RefusedError("its tensors have more elements than the file stores")
        return tensor

    def rebuild_typed(self, *arguments: Any) -> Tensor:
        return self.rebuild(*arguments[:6], *arguments[7:], dtype=arguments[6])

    def rebuild_from_type(self, rebuild: Any, kind: Any, arguments: Any, _: Any) -> Any:
        """A tensor without its attributes; one of another class is no plain tensor."""
        is_ours = any(rebuild is own for own in self.rebuilders.values())
        if not is_ours or getattr(kind, "__name__", None) not in ("Tensor", "Parameter"):
            raise RefusedError("it has a tensor of a foreign class; save plain tensors")
        return rebuild(*arguments)

    def load_build(self) -> None:
        if not isinstance(self.stack[-2], Placeholder | _Dict):
            raise RefusedError("it changes a function of the reader; nothing of it was run")
        super().load_build()

    def load_setitem(self) -> None:
        _require_content(self.stack[-3], self.stack[-2:-1])
        super().load_setitem()

    def load_setitems(self) -> None:
        _require_content(self.metastack[-1][-1], self.stack[::2])
        super().load_setitems()

    def load_dict(self) -> None:
        _require_content({}, self.stack[::2])
        super().load_dict()

    def load_additems(self) -> None:
        _require_content(self.metastack[-1][-1], self.stack)
        super().load_additems()

    def load_frozenset(self) -> None:
        _require_content(set(), self.stack)
        super().load_frozenset()

    dispatch |= {
        pickle.BUILD[0]: load_build,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
        pickle.DICT[0]: load_dict,
        pickle.ADDITEMS[0]: load_additems,
        pickle.FROZENSET[0]: load_frozenset,
    }


def _require_content(owner: Any, keys: Iterable[Any]) -> None:
    """Only containers get content, under keys of no more than a flat tuple.

    The hash of a tuple goes through all tuples in it, also where they are the same: for ever.
    """
    if not isinstance(owner, dict | set | Placeholder):
        raise RefusedError("it changes an object of the reader; nothing of it was run")
    for key in keys:
        parts = key if type(key) is tuple else (key,)
        if any(isinstance(part, tuple | frozenset) for part in parts):
            raise RefusedError("it has a nested tuple as a key")


def _placeholder(module: str, name: str) -> type:
    if module == "torch._utils" and name in ODD_TENSORS:
        return type(name, (Placeholder,), {"what": f"a {ODD_TENSORS[name]} tensor"})
    is_at_hand = module.partition(".")[0] in _AT_HAND
    if is_at_hand and name not in PLAIN_DATA.get(module, ()):
        is_network = module[:9] == "torch.nn."
        hint = "; is it a whole network? Save its state_dict()" if is_network else ""
        raise RefusedError(
            f"it asks for {named(module)}.{named(name)}, which weights have no need of; "
            f"nothing of it was run{hint}"
        )
    return type(name, (Placeholder,), {"__module__": module, "is_foreign": not is_at_hand})


def _size(sides: Any = ()) -> torch.Size:
    return torch.Size(sides if isinstance(sides, tuple | list) else ())


def _parameter(data: Any, *_: Any) -> Any:
    return data


def _attribute(owner: Any, name: Any) -> Any:
    """`getattr` in a pickle, which the log buffers of mmengine need for names of methods."""
    if getattr(owner, "is_foreign", False) is not True:
        raise RefusedError(
            f"it asks for {shown(name)} of {shown(owner)}, which weights have no need of; "
            "nothing of it was run"
        )
    return _ForeignAttribute
