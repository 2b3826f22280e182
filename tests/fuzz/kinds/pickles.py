"""Weights as pickles: hostile ones, bombs, tensors of odd kinds, and files that are no pickles."""

import io
import os
import pickle
import random
import warnings
import zipfile
from typing import Any

import torch

from tests.fuzz.case import REFUSED, RIGHT, Box, Case, mutated, no_weights
from tests.fuzz.kinds.labels import FLAGS, wrong_training


class Calls:
    """Pickles as a call of a function."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def one(rng: random.Random, box: Box) -> Case:
    """A .pth that is converted, or that a backbone starts from."""
    name = "bad" + rng.choice((".pth", ".pth", ".pt"))
    path = box.work / name
    is_backbone = rng.random() < 0.75
    source = "backbone.pth" if is_backbone else "published.pth"
    is_wrong = True
    kind = rng.choice(
        ("hostile",) * 6 + ("tensor",) * 4 + ("record",) * 2 + ("damage", "damage", "no weights",
        "values", "values", "dict", "dict", "file", "legacy")
    )  # fmt: skip
    match kind:
        case "hostile":
            data, what = hostile(rng, box, state_of(box, "backbone.pth"))
        case "tensor":
            data, what = odd_tensor(rng, state_of(box, source))
            is_wrong = not what.endswith("is expanded")
        case "record":
            data, what = odd_archive(rng, saved(state_of(box, "backbone.pth")))
            is_wrong, is_backbone = what != "archive: deflated", True
        case "damage":
            data, what = mutated(rng, (box.template / "backbone.pth").read_bytes())
            is_wrong, is_backbone = False, True
        case "no weights":
            data, what = no_weights(rng)
        case "values":
            data, what = bad_values(rng, state_of(box, source))
        case "dict":
            data, what = odd_dict(rng, state_of(box, "backbone.pth"))
        case "legacy":
            state = state_of(box, "backbone.pth")
            data, what = mutated(rng, saved(state, _use_new_zipfile_serialization=False))
            is_wrong, is_backbone = False, True
        case _:
            from tests.fuzz.kinds.yaml_files import odd_file

            data, what = b"", odd_file(rng, box, name)
    if not os.path.lexists(path) and kind != "file":
        path.write_bytes(data)
    expect = (REFUSED,) if is_wrong else (RIGHT, REFUSED)
    if is_backbone:
        box.take("data")
        box.take("config.yaml")
        command = ["train", *FLAGS, f"--model.pretrained={name}", "--steps=1"]
        told = (name, "the network is not finite")  # of statistics that are too large in a step
        return Case(what, command, expect, told, check=wrong_training)
    return Case(what, ["convert", name, "out"], expect, (name,))


def state_of(box: Box, name: str) -> dict[str, Any]:
    state = torch.load(box.template / name, weights_only=True)
    return state.get("state_dict", state)


def saved(content: Any, **options: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **options)
    return file.getvalue()


def archive(content: bytes, others: dict[str, bytes] | None = None, method: int = 0) -> bytes:
    """A file as torch.save makes it, with this pickle."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        made.writestr("archive/data.pkl", content)
        made.writestr("archive/version", b"3\n")
        made.writestr("archive/byteorder", b"little")
        for name, data in (others or {}).items():
            made.writestr(f"archive/{name}", data)
    return file.getvalue()


def hostile(rng: random.Random, box: Box, state: dict[str, Any]) -> tuple[bytes, str]:
    """A pickle that would touch the canary."""
    touch, module = f"touch '{box.canary}'", box.canary_module()
    write = f"open({str(box.canary)!r}, 'w').write('x')"
    calls: dict[str, Any] = {
        "os.system": Calls(os.system, touch),
        "eval": Calls(eval, write),
        "exec": Calls(exec, write),
        "open": Calls(open, str(box.canary), "w"),
        "__import__": Calls(__import__, module),
        "getattr": Calls(getattr, Calls(__import__, "os"), "system"),
        "torch.load": Calls(torch.load, str(box.canary)),
        "apply": Calls(torch.hub.load, "a/b", "c"),
    }
    protocol_0 = {
        "GLOBAL posix.system": f"cposix\nsystem\n(V{touch}\ntR.",
        "GLOBAL subprocess": f"csubprocess\ngetoutput\n(V{touch}\ntR.",
        "INST": f"(V{touch}\nios\nsystem\n.",
        "OBJ": f"(cos\nsystem\nV{touch}\no.",
        "import of a module": f"c{module}\nThing\n(tR.",
        "builtins.exec": f"cbuiltins\nexec\n(V{write}\ntR.",
        "Python 2": f"c__builtin__\neval\n(V{write}\ntR.",
        "runpy": f"crunpy\nrun_path\n(V{module}.py\ntR.",
        "pty": f"cpty\nspawn\n(V{touch}\ntR.",
        "torch attribute": f"ctorch.serialization\nos.system\n(V{touch}\ntR.",
        "numpy": f"cnumpy.testing._private.utils\nrunstring\n(V{write}\n(dtR.",
        "lightning": f"clightning_fabric.utilities.imports\nos.system\n(V{touch}\ntR.",
    }
    what = rng.choice((*calls, *protocol_0))
    if what in calls:
        content = {**state, "x": calls[what]} if rng.random() < 0.7 else calls[what]
        protocol = rng.choice((2, 3, 4, 5))
        if rng.random() < 0.5:
            try:
                return saved(content, pickle_protocol=protocol), f"hostile: {what}"
            except Exception:  # torch looks at what it saves
                pass
        pickled = pickle.dumps(calls[what], protocol)
    else:
        pickled = protocol_0[what].encode()
    if rng.random() < 0.4:
        return pickled, f"hostile: {what}, a bare pickle"
    return archive(pickled), f"hostile: {what}, in an archive"


def odd_tensor(rng: random.Random, state: dict[str, Any]) -> tuple[bytes, str]:
    """A tensor of another layout, device, type or size than weights have."""
    key = rng.choice([name for name, value in state.items() if value.is_floating_point()])
    value = state[key]
    flat = value.reshape(-1)
    makers: dict[str, Any] = {
        "sparse": lambda: value.to_sparse(),
        "meta": lambda: value.to("meta"),
        "quantized": lambda: quantized(value),
        "complex": lambda: value.to(torch.complex64),
        "int": lambda: value.to(torch.int32),
        "bool": lambda: value.to(torch.bool),
        "uint8": lambda: value.to(torch.uint8),
        "expanded to 10¹² elements": lambda: torch.zeros(1).expand(10**6, 10**6),
        "expanded": lambda: torch.zeros(1).expand(value.shape),
        "no tensor": lambda: value.tolist(),
        "nested": lambda: {"a": value},
        "None": lambda: None,
        "shape": lambda: flat[None],
        "empty": lambda: flat[:0],
    }
    what = rng.choice(list(makers))
    return saved({"state_dict": {**state, key: makers[what]()}}), f"{key} is {what}"


def quantized(value: torch.Tensor) -> torch.Tensor:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated, but files with such tensors are there
        return torch.quantize_per_tensor(value, 0.1, 0, torch.qint8)


def bad_values(rng: random.Random, state: dict[str, Any]) -> tuple[bytes, str]:
    key = rng.choice([name for name, value in state.items() if value.is_floating_point()])
    number = rng.choice((float("nan"), float("inf"), float("-inf")))
    changed = state[key].clone()
    changed.view(-1)[rng.randrange(changed.numel())] = number
    return saved({"state_dict": {**state, key: changed}}), f"{number} in {key}"


def odd_dict(rng: random.Random, state: dict[str, Any]) -> tuple[bytes, str]:
    """Other contents than a state dict, or one with keys that lead astray."""
    recursive: dict[str, Any] = {}
    recursive["state_dict"] = recursive
    deep: Any = state
    for _ in range(200):
        deep = {"state_dict": deep}
    ordered = dict(state)
    contents: dict[str, Any] = {
        "a list": [1, 2],
        "a tensor": torch.zeros(3),
        "None": None,
        "empty": {},
        "itself": recursive,
        "keys of numbers": {3: torch.zeros(2), 4: torch.zeros(2)},
        "keys of tuples": {(1, 2): torch.zeros(2)},
        "keys of lines": {f"a\nb{i}" * 50: torch.zeros(1) for i in range(30)},
        "one key twice": {**state, **{f"module.{key}": value for key, value in state.items()}},
        "an optimizer": {"optimizer": {"lr": 1}, "epoch": 3},
        "another network": {f"layer{i}.weight": torch.zeros(3, 3) for i in range(400)},
        "one key less": dict(list(ordered.items())[1:]),
        "200 wrappers": deep,
        "text": "x" * 100_000,
    }
    what = rng.choice((*contents, "methods"))
    if what == "methods":  # an OrderedDict whose attributes replace its methods
        pickled = (
            b"\x80\x02ccollections\nOrderedDict\n)R}(X\x05\0\0\0itemsK\1X\3\0\0\0getK\2"
            b"X\4\0\0\0keysK\3ub."
        )
        return archive(pickled), "a dict with overwritten methods"
    return saved(contents[what]), f"content: {what}"


def odd_archive(rng: random.Random, whole: bytes) -> tuple[bytes, str]:
    """The records of a file of torch.save: deflated, a bomb, views beyond them, or missing."""
    with zipfile.ZipFile(io.BytesIO(whole)) as archive_:
        records = {name: archive_.read(name) for name in archive_.namelist()}
    data = next(name for name in records if name.endswith("/data/0"))
    what = rng.choice(
        ("deflated", "bomb", "short", "missing", "no pickle", "order", "names", "links")
    )
    method = zipfile.ZIP_STORED
    match what:
        case "deflated":
            method = zipfile.ZIP_DEFLATED
        case "bomb":
            method = zipfile.ZIP_DEFLATED
            records[data] = bytes(2 * 10**8)
        case "short":
            records[data] = records[data][:4]
        case "missing":
            del records[data]
        case "no pickle":
            del records[next(name for name in records if name.endswith("data.pkl"))]
        case "order":
            for name in records:
                if name.endswith("byteorder"):
                    records[name] = b"middle"
        case "names":
            records = {f"../../{name}": content for name, content in records.items()}
        case _:
            records = {"a.txt": b"hello", "b.txt": b"hello"}
            what = "an ordinary zip"
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as made:
        for name, content in records.items():
            made.writestr(name, content)
    return file.getvalue(), f"archive: {what}"
