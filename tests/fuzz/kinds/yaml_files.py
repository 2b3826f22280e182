"""Descriptions of data sets and configurations of training: values, structure, encoding, bombs."""

import random
from typing import Any

import yaml

from tests.fuzz.case import REFUSED, REPORTED, RIGHT, Box, Case, mutated, no_weights
from tests.fuzz.kinds.labels import FLAGS, wrong_training
from tests.fuzz.template import CONFIG

VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 3, 10**30, 0.5, -0.5, 1e300, float("nan"), float("inf"), -1e-9),
    *("", "x", "road", "a" * 5000, "\0", "é", "../..", "/", [], [[]], {}, {"a": 1}, [1, 2, 3]),
    *([-1, 0, 256], ["#12345"], ["a", "a"], "[", "!!bool maybe", "2026-13-45", "1_0", "0x", "nan"),
)
NUMBERS = (
    *("nan", ".nan", ".inf", "-.inf", "-1", "0", "1e300", "-0.5", "1e-300", "10000000000000000000"),
    *("1.5", "abc", "", "[]", "true", "1e", "0x10", "--1"),
)


def bomb(levels: int = 9) -> str:
    """A small text that stands for 9 to the power of `levels` items."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, levels)]
    return "\n".join(lines) + "\n"


def broken_text(rng: random.Random, text: str, key: str) -> tuple[str | bytes, str]:
    """A YAML text that cannot be used, and what is wrong with it; `key` is one of its keys."""
    texts: dict[str, str | bytes] = {
        "an alias bomb": bomb() + text,
        "an alias bomb as a value": bomb() + f"{key}: *a8\n",
        "an alias of itself": f"{key}: &a [*a]\n",
        "1,000 levels": f"{key}: " + "[" * 1000 + "]" * 1000 + "\n",
        "100,000 levels": f"{key}: " + "[" * 100_000 + "\n",
        "1,000 mappings": f"{key}: " + "{a: " * 1000 + "}" * 1000 + "\n",
        "UTF-16": text.encode("utf-16"),
        "Latin-1": text.encode() + b"# caf\xe9\n",
        "a zero byte": text + "\0",
        "a tab": f"{key}:\n\t- x\n",
        "a Python object": text + "x: !!python/object/apply:os.system ['touch ../canary']\n",
        "a tag": f"{key}: !!bool maybe\n",
        "a date": f"{key}: 2026-13-45\n",
        "a float tag": f"{key}: !!float x\n",
        "binary": f"{key}: !!binary '*'\n",
        "a set": f"{key}: !!set {{a, b}}\n",
        "an unknown tag": f"{key}: !thing 3\n",
        "a merge": f"{key}: {{<<: 3}}\n",
        "a key twice": text + f"{key}: 1\n{key}: 2\n",
        "an unclosed list": f"{key}: [a, b\n",
        "two documents": text + "---\n" + text,
        "a list": "- a\n- b\n",
        "a number": "3\n",
        "nothing": "",
        "a comment": "# nothing\n",
        "null": "null\n",
        "a list as a key": "? [a, b]\n: 3\n",
        "a long line": f"{key}: {'x' * 2_000_000}\n",
        "HTML": no_weights(rng)[0],
    }
    what = rng.choice(list(texts))
    return texts[what], what


def description(rng: random.Random, box: Box) -> Case:
    """A dataset.yaml that is wrong; the labels would fit the right one."""
    box.take("data")
    path = box.work / "data" / "dataset.yaml"
    text = path.read_text()
    names: tuple[str, ...] = ("dataset.yaml",)
    is_wrong = True
    match rng.choice(("text", "value", "value", "value", "damage", "file")):
        case "text":
            key = rng.choice(("classes", "ignore", "mapping", "palette", "labels"))
            content, what = broken_text(rng, text, key)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            is_wrong = what not in ("a set", "a comment") or key == "classes"
            is_wrong &= what not in ("two documents", "a tab")
        case "value":
            keys = ("classes", "palette", "ignore", "mapping", "labels", "unknown", "classes.road")
            key, value = rng.choice(keys), rng.choice(VALUES)
            content = yaml.safe_load(text)
            if key == "classes.road":
                content["classes"]["road"] = value
            else:
                content[key] = value
            path.write_text(yaml.safe_dump(content, sort_keys=False))
            what = f"{key}: {value!r:.60}"
            is_wrong = key == "unknown"
            names = ()
        case "damage":
            content, what = mutated(rng, text.encode())
            path.write_bytes(content)
            is_wrong, names = False, ()
        case _:
            what = odd_file(rng, box, "data/dataset.yaml")
    command = rng.choice((["check-data", "data", "--split=train"], ["train"]))
    if command == ["train"]:
        box.take("config.yaml")
        command = ["train", *FLAGS]
        return Case(what, command, refused(is_wrong), names, check=wrong_training)
    expect = (REFUSED,) if is_wrong else (RIGHT, REPORTED, REFUSED)
    return Case(what, [*command, "--output=out/report.json"], expect, names)


def refused(is_wrong: bool) -> tuple[str, ...]:
    return (REFUSED,) if is_wrong else (RIGHT, REFUSED)


def odd_file(rng: random.Random, box: Box, name: str) -> str:
    """Put something at the place of a file that is none."""
    import os

    path = box.work / name
    path.unlink(missing_ok=True)
    what = rng.choice(("FIFO", "folder", "loop", "dangling", "device", "missing", "unreadable"))
    match what:
        case "FIFO":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "loop":
            path.symlink_to(path.name)
        case "dangling":
            path.symlink_to("gone")
        case "device":
            path.symlink_to("/dev/zero")
        case "unreadable":
            path.write_text("classes: [a, b]\n")
            path.chmod(0)
    return f"{what} for {path.name}"


FIELDS = (
    *("steps", "batch_size", "accumulate", "validate_every", "save_every", "save_seconds"),
    *("log_every", "num_workers", "device", "devices", "num_nodes", "strategy", "precision"),
    *("compile", "recompute", "freeze", "ema_decay", "non_finite", "seed", "data", "model"),
    *("optimizer", "loss", "unknown", "data.name", "data.root", "data.train_split"),
    *("data.augment", "data.augment.crop_size", "data.augment.scale", "model.backbone"),
    *(
        "model.recurrence",
        "model.channels",
        "model.reduction",
        "model.dropout",
        "model.kernel_size",
    ),
    *("model.activation", "model.auxiliary_channels", "model.output_stride", "model.pretrained"),
    *("optimizer.name", "optimizer.lr", "optimizer.head_lr_factor", "optimizer.momentum"),
    *("optimizer.weight_decay", "optimizer.power", "optimizer.final_lr", "optimizer.clip_norm"),
    *("optimizer.warmup_steps", "loss.class_weights", "loss.ohem_threshold", "loss.ohem_min_kept"),
    "loss.auxiliary_weight",
)


def is_a_demand(key: str, value: Any) -> bool:
    """Whether a value is no fault but asks for very many steps or for other processes."""
    many = {"steps": 100, "devices": 2, "num_nodes": 2, "num_workers": 2}
    try:
        return key in many and not isinstance(value, bool) and float(value) >= many[key]
    except (TypeError, ValueError):
        return False


def bad_value(rng: random.Random, values: tuple[Any, ...]) -> tuple[str, Any]:
    """A key of a configuration, and a value for it."""
    while True:
        key, value = rng.choice(FIELDS), rng.choice(values)
        if not is_a_demand(key, value):
            return key, value


def with_value(key: str, value: Any) -> dict[str, Any]:
    """The configuration with one value changed."""
    content = yaml.safe_load(yaml.safe_dump(CONFIG))
    owner, *inner = key.split(".")
    part = content
    for name in inner:
        part[owner] = part[owner] if isinstance(part.get(owner), dict) else {}
        part, owner = part[owner], name
    part[owner] = value
    return content


def training(rng: random.Random, box: Box) -> Case:
    """A configuration of training that is wrong: its text, one value, or a flag."""
    box.take("data")
    box.take("config.yaml")
    path = box.work / "config.yaml"
    names: tuple[str, ...] = ()
    flags, is_wrong = list(FLAGS), False
    text = path.read_text()
    match rng.choice(
        ("text", "value", "value", "flag", "flag", "class", "class", "damage", "file")
    ):
        case "text":
            key = rng.choice(("steps", "data", "model", "optimizer", "freeze"))
            content, what = broken_text(rng, text, key)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
            is_wrong = what not in ("nothing", "a comment", "null", "a key twice", "two documents")
            if not is_wrong:  # without the configuration, the defaults are a large network
                flags += ["--steps=1", "--model.backbone=tiny", "--model.channels=8",
                          "--data.num_images=4", "--batch_size=1", "--num_workers=0"]  # fmt: skip
        case "value":
            key, value = bad_value(rng, VALUES)
            path.write_text(yaml.safe_dump(with_value(key, value)))
            what = f"{key}: {value!r:.60}"
            is_wrong = key == "unknown"
            names = ("config.yaml", key.rpartition(".")[2])
            names += (value,) if isinstance(value, str) and value else ()
        case "flag":
            key, value = bad_value(rng, NUMBERS)
            names = (key.rpartition(".")[2],)
            flags, what = [*flags, f"--{key}={value}"], f"--{key}={value}"
            is_wrong = key == "unknown"
        case "class":
            what, is_wrong = class_path(rng, box), True
        case "damage":
            content, what = mutated(rng, text.encode())
            path.write_bytes(content)
        case _:
            what, names, is_wrong = odd_file(rng, box, "config.yaml"), ("config.yaml",), True
    return Case(what, ["train", *flags], refused(is_wrong), names, check=wrong_training)


def class_path(rng: random.Random, box: Box) -> str:
    """A configuration that names a class to import, in one of its places."""
    module = box.canary_module()
    place = rng.choice((None, "data", "model", "optimizer", "loss", "data.augment", "freeze"))
    name = rng.choice(
        (f"{module}.Thing", "os.system", "subprocess.Popen", f"tests.{module}.Thing", module)
    )
    value: Any = {"class_path": name}
    if rng.random() < 0.5:
        value["init_args"] = rng.choice(({}, {"command": "touch ../canary"}, ["touch ../canary"]))
    if rng.random() < 0.2:
        value = name
    content = {**CONFIG, **value} if place is None and isinstance(value, dict) else None
    content = with_value(place or "data.augment", value) if content is None else content
    (box.work / "config.yaml").write_text(yaml.safe_dump(content))
    return f"{place}: {value}"
