"""Model folders: config.json with wrong values, and weights that are damaged or wrong."""

import copy
import json
import random
import struct
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.case import REFUSED, RIGHT, Box, Case, mutated, no_weights
from tests.fuzz.kinds.images import wrong_labels
from tests.fuzz.kinds.labels import wrong_scores

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 255, 256, 10**5, 10**9, 10**30, 0.5, 1e300, -0.5, 3.0),
    *("", "tiny", "resnet18", "timm/x", "a" * 3000, "\0", "nan", [], [[]], {}, {"a": {}}, [1, 2]),
    *(["a", "a", "a"], [0, 0, 0], [1e-300] * 3, [[300, 0, 0]] * 3, [[0, 0, 0]] * 3, [None] * 3),
    *(["", "", ""], ["a\nb", "\x1b[31m", "c"], [1e300] * 3, [-1.0] * 3, list(range(1000))),
)


SIZED = (
    *("num_classes", "channels", "in_channels", "recurrence", "auxiliary_channels", "reduction"),
    *("kernel_size", "output_stride"),
)
"""Keys whose values decide how much memory or time the network takes."""


def command_for(rng: random.Random, box: Box) -> tuple[list[str], Any]:
    """A command that reads the model in `model`, and the check of its result."""
    kind = rng.choice(("predict", "predict", "predict", "evaluate", "train", "export"))
    match kind:
        case "predict":
            box.take("good.png", "photos/good.png")
            command = ["predict", "model", "photos", "--output=out", "--device=cpu"]
            return command, predicted
        case "evaluate":
            box.take("data")
            return (
                ["evaluate", "model", "--root=data", "--device=cpu", "--output=out/scores.json"],
                wrong_scores,
            )
        case "train":
            from tests.fuzz.kinds.labels import FLAGS, wrong_training

            box.take("data")
            box.take("config.yaml")
            return ["train", *FLAGS, "--init=model"], wrong_training
        case _:
            command = ["export", "model", "--format=torch-export", "--output=out/model.pt2"]
            return command, lambda work: None


def predicted(work: Path) -> str | None:
    """Labels that differ from those of the valid model are right only if the weights are others."""
    return wrong_labels(work, ["good.png"])


def config(rng: random.Random, box: Box) -> Case:
    """A config.json with a wrong value, a key more or less, or a text that is no JSON."""
    box.take("model")
    path = box.work / "model" / "config.json"
    content = json.loads(path.read_text())
    is_wrong, names = False, ("model",)
    kind = rng.choice(
        ("value",) * 5 + ("size", "size", "nested", "missing", "text", "text", "damage", "file")
    )
    key = rng.choice(list(content))
    match kind:
        case "value":
            value = rng.choice(VALUES)
            what = f"{key}: {value!r:.60}"
            path.write_text(json.dumps({**content, key: value}))
            is_wrong = is_impossible(key, value)
        case "size":
            key = rng.choice(SIZED)
            value = rng.choice((10**9, 10**5, 50_000, 2**31, 10**30, 20_000, -1, 0, 257))
            what, is_wrong = f"{key}: {value}", key in ("num_classes", "channels", "in_channels")
            path.write_text(json.dumps({**content, key: value}))
        case "nested":
            key = rng.choice(("mean", "std", "classes", "palette"))
            bad = rng.choice((*VALUES, float("nan"), float("inf"), 0))
            changed = copy.deepcopy(content)
            changed[key][rng.randrange(len(changed[key]))] = bad
            what = f"an item of {key}: {bad!r:.60}"
            path.write_text(json.dumps(changed))
            is_wrong = key in ("mean", "std") and not (
                isinstance(bad, int | float) and not isinstance(bad, bool) and np.isfinite(bad)
            )
            is_wrong |= key == "std" and not isinstance(bad, str | list | dict) and not bad
        case "missing":
            what, is_wrong = f"without {key}", key in ("num_classes", "backbone")
            del content[key]
            path.write_text(json.dumps(content))
        case "text":
            data, what = broken_json(rng, content)
            path.write_bytes(data)
            is_wrong = True
        case "damage":
            data, what = mutated(rng, path.read_bytes())
            path.write_bytes(data)
        case _:
            from tests.fuzz.kinds.yaml_files import odd_file

            what, is_wrong = odd_file(rng, box, "model/config.json"), True
    command, check = command_for(rng, box)
    return Case(what, command, (REFUSED,) if is_wrong else (RIGHT, REFUSED), names, check=check)


def is_impossible(key: str, value: Any) -> bool:
    """Whether no network with these weights and labels has this value."""
    counts = {"num_classes": 3, "channels": 8, "in_channels": 3}
    if key in counts:
        return value != counts[key] or isinstance(value, bool)
    if key == "backbone":
        return value != "tiny"
    return key == "recurrence" and (value not in (0, 1, 2) and value not in (255, 256, 10**5))


def broken_json(rng: random.Random, content: dict[str, Any]) -> tuple[bytes, str]:
    text = json.dumps(content)
    texts = {
        "no JSON": b"{",
        "100,000 levels": b"[" * 100_000,
        "1,000 levels": text[:-1].encode() + b', "x": ' + b"[" * 1000 + b"]" * 1000 + b"}",
        "a list": b"[]",
        "a text": b'"x"',
        "null": b"null",
        "nan": text.replace("0.1", "NaN").encode()[:-1] + b', "dropout": NaN}',
        "UTF-16": text.encode("utf-16"),
        "Latin-1": text[:-1].encode() + b', "x": "\xe9"}',
        "an unknown key": json.dumps({**content, "unknown": 1}).encode(),
        "5 MB": json.dumps({**content, "classes": ["x" * 1000] * 5000}).encode(),
        "a key twice": text[:-1].encode() + b', "num_classes": 4}',
        "another library": json.dumps({"model_type": "segformer", "hidden": [1, 2]}).encode(),
        "a long number": text[:-1].encode() + b', "dropout": ' + b"9" * 10_000 + b"}",
    }
    kind = rng.choice((*texts, "no text"))
    return (texts[kind], kind) if kind in texts else no_weights(rng)


def parts_of(data: bytes) -> tuple[dict[str, Any], bytes]:
    """The header and the numbers of a .safetensors file."""
    length = struct.unpack("<Q", data[:8])[0]
    return json.loads(data[8 : 8 + length]), data[8 + length :]


def joined(header: Any, numbers: bytes) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + numbers


def weights(rng: random.Random, box: Box) -> Case:
    """A model.safetensors whose header lies, or whose numbers are no weights."""
    box.take("model")
    path = box.work / "model" / "model.safetensors"
    header, numbers = parts_of(path.read_bytes())
    is_wrong = True
    kind = rng.choice(
        ("values",) * 5 + ("dtype",) * 3 + ("header",) * 5
        + ("shape", "name", "damage", "no weights", "file")
    )  # fmt: skip
    names: tuple[str, ...] = ("model",)
    tensors = [key for key in header if key != "__metadata__"]
    floats = [key for key in tensors if header[key]["dtype"] == "F32"]
    match kind:
        case "values":
            key = rng.choice(floats)
            start, end = header[key]["data_offsets"]
            value = rng.choice((float("nan"), float("inf"), float("-inf")))
            value = -1.0 if key.endswith("running_var") and rng.random() < 0.5 else value
            number = rng.randrange((end - start) // 4) * 4 + start
            numbers = numbers[:number] + struct.pack("<f", value) + numbers[number + 4 :]
            path.write_bytes(joined(header, numbers))
            what, names = f"{value} in {key}", (key,)
        case "dtype":
            key = rng.choice(floats)
            dtype = rng.choice(("I32", "U32", "F8_E4M3", "C64", "BOOL", "I64", "U8", "X9", "F64"))
            content, used = with_dtype(header, numbers, key, dtype)
            path.write_bytes(joined(content, used))
            what, names = f"{key} as {dtype}", (key, "model.safetensors")
            is_wrong = dtype != "F64"
        case "header":
            data, what = broken_header(rng, header, numbers, tensors)
            path.write_bytes(data)
        case "shape":
            key = rng.choice(tensors)
            shape = header[key]["shape"]
            header[key]["shape"] = [1, *shape] if rng.random() < 0.5 else [int(np.prod(shape)), 1]
            path.write_bytes(joined(header, numbers))
            what = f"{key} of shape {header[key]['shape']}"
        case "name":
            key = rng.choice(floats)
            new = rng.choice(("x", "", "\n", "é" * 3000, "__proto__", key.upper()))
            header[new] = header.pop(key)
            path.write_bytes(joined(header, numbers))
            what = f"{key} renamed to {new!r:.30}"
        case "damage":
            data, what = mutated(rng, path.read_bytes())
            path.write_bytes(data)
            is_wrong = False
        case "no weights":
            data, what = no_weights(rng)
            path.write_bytes(data)
        case _:
            from tests.fuzz.kinds.yaml_files import odd_file

            what = odd_file(rng, box, "model/model.safetensors")
    command, check = command_for(rng, box)
    return Case(what, command, (REFUSED,) if is_wrong else (RIGHT, REFUSED), names, check=check)


SIZES = {
    "I32": 4,
    "U32": 4,
    "F8_E4M3": 1,
    "C64": 8,
    "BOOL": 1,
    "I64": 8,
    "U8": 1,
    "X9": 4,
    "F64": 8,
}


def with_dtype(
    header: dict[str, Any], numbers: bytes, key: str, dtype: str
) -> tuple[dict[str, Any], bytes]:
    """The same tensors, of which one has another data type, with zeros as its content."""
    changed, content = {}, b""
    for name, entry in header.items():
        if name == "__metadata__":
            changed[name] = entry
            continue
        start, end = entry["data_offsets"]
        data = numbers[start:end]
        if name == key:
            data = bytes((end - start) // 4 * SIZES[dtype])
            entry = entry | {"dtype": dtype}
        changed[name] = entry | {"data_offsets": [len(content), len(content) + len(data)]}
        content += data
    return changed, content


def broken_header(
    rng: random.Random, header: dict[str, Any], numbers: bytes, tensors: list[str]
) -> tuple[bytes, str]:
    key = rng.choice(tensors)
    kind = rng.choice(("offsets", "huge shape", "negative", "no JSON", "length", "levels", "types",
                       "overlap", "metadata", "missing", "thousand", "empty"))  # fmt: skip
    entry = dict(header[key])
    match kind:
        case "offsets":
            entry["data_offsets"] = rng.choice(([0, 10**12], [5, 3], [2**63, 2**64], [0, 1]))
        case "huge shape":
            entry["shape"] = rng.choice(([10**6, 10**6], [2**63], [2**40, 0], [2**32, 2**32]))
        case "negative":
            entry["shape"] = [-1]
        case "no JSON":
            return joined(b"{" * 50, numbers), kind
        case "length":
            length = rng.choice((2**64 - 1, 2**40, 0, 100_000_000))
            return struct.pack("<Q", length) + json.dumps(header).encode() + numbers, kind
        case "levels":
            return joined(b'{"a":' * 50_000, b""), kind
        case "types":
            entry = rng.choice((None, [], "x", 3, {}))
        case "overlap":
            entry["data_offsets"] = header[tensors[0]]["data_offsets"]
            entry["shape"] = header[tensors[0]]["shape"]
            if key == tensors[0]:
                entry["data_offsets"] = [1, 2]
        case "metadata":
            return joined(
                {**header, "__metadata__": rng.choice(([], {"a": 1}, "x"))}, numbers
            ), kind
        case "missing":
            return joined({k: v for k, v in header.items() if k != key}, numbers), f"without {key}"
        case "thousand":
            size = {"dtype": "F32", "shape": [0], "data_offsets": [len(numbers)] * 2}
            return joined(
                header | {f"x{i}": size for i in range(3000)}, numbers
            ), "3,000 tensors more"
        case _:
            return joined({}, b""), "no tensors"
    return joined({**header, key: entry}, numbers), f"{kind}: {entry!r:.80}"
