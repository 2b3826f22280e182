"""Run folders that `ccnet train --resume` shall go on with: edited, damaged, foreign, hostile."""

import hashlib
import random
import shutil
from typing import Any

import torch
import yaml

from tests.fuzz.case import REFUSED, RIGHT, Box, Case, mutated, no_weights
from tests.fuzz.kinds import pickles
from tests.fuzz.kinds.labels import wrong_training
from tests.fuzz.kinds.outputs import place
from tests.fuzz.kinds.yaml_files import VALUES, bad_value, broken_text, odd_file


def one(rng: random.Random, box: Box) -> Case:
    """A run of four steps with a save of the third."""
    shutil.copytree(box.template / "run", box.work / "out")
    make = rng.choice((config, config, config, save, save, save, log, link, no_run))
    case = make(rng, box)
    case.check = wrong_training
    return case


def resumed(what: str, is_wrong: bool, names: tuple[str, ...] = (), *flags: str) -> Case:
    expect = (REFUSED,) if is_wrong else (RIGHT, REFUSED)
    return Case(what, ["train", "--resume=out", *flags], expect, names)


def config(rng: random.Random, box: Box) -> Case:
    """A config.yaml that somebody edited."""
    path = box.work / "out" / "config.yaml"
    content = yaml.safe_load(path.read_text())
    match rng.choice(("value",) * 4 + ("text", "class", "damage", "file", "missing key")):
        case "value":
            key, value = bad_value(rng, VALUES)
            owner, _, name = key.rpartition(".")
            part: Any = content
            for step in filter(None, owner.split(".")):
                part[step] = part[step] if isinstance(part.get(step), dict) else {}
                part = part[step]
            part[name] = value
            path.write_text(yaml.safe_dump(content))
            return resumed(f"{key}: {value!r:.60}", key == "unknown", ("config.yaml", name))
        case "text":
            data, what = broken_text(rng, path.read_text(), rng.choice(("steps", "data", "freeze")))
            path.write_bytes(data if isinstance(data, bytes) else data.encode())
            is_wrong = what not in ("a key twice", "a comment", "nothing", "null", "two documents")
            if not is_wrong and what != "a key twice":  # the defaults are another network
                is_wrong = True
            return resumed(what, is_wrong, ("config.yaml",))
        case "class":
            module = box.canary_module()
            place_ = rng.choice(("data", "model", "optimizer", "loss", "freeze"))
            name = rng.choice((f"{module}.Thing", "os.system", module))
            value = {"class_path": name}
            if rng.random() < 0.3:
                content["data"]["augment"] = value
            else:
                content[place_] = value
            path.write_text(yaml.safe_dump(content))
            return resumed(f"{place_}: class_path {name}", True, ("config.yaml",))
        case "damage":
            data, what = mutated(rng, path.read_bytes())
            path.write_bytes(data)
            return resumed(what, False, ())
        case "missing key":
            key = rng.choice(list(content))
            del content[key]
            path.write_text(yaml.safe_dump(content))
            return resumed(f"without {key}", False)
        case _:
            return resumed(odd_file(rng, box, "out/config.yaml"), True, ("config.yaml",))


def save(rng: random.Random, box: Box) -> Case:
    """A save that is damaged, or a foreign one under a name that fits it."""
    is_wrong = True
    (path,) = (box.work / "out" / "checkpoints").glob("step-*.pt")
    kind = rng.choice(
        ("damage", "foreign", "foreign", "foreign", "foreign", "hostile", "name", "file")
    )
    match kind:
        case "damage":
            data, what = mutated(rng, path.read_bytes())
            path.write_bytes(data)
            return resumed(f"save: {what}", True, (path.name,))
        case "name":
            what = rng.choice(("step-00000003.pt", "step-00000009.0123456789abcdef.pt", "x.pt",
                               "step-99999999999999999999.0123456789abcdef.pt"))  # fmt: skip
            path.rename(path.with_name(what))
            return resumed(f"save named {what}", True, (what, "checkpoints"))
        case "file":
            name = f"out/checkpoints/{path.name}"
            return resumed(odd_file(rng, box, name), True, (path.name, "checkpoints"))
        case "hostile":
            data, what = pickles.hostile(rng, box, {"step": 3})
        case _:
            state = torch.load(path, weights_only=True)
            data, what = foreign(rng, state)
            # other numbers are possible; saves of earlier versions have no configuration
            is_wrong = not what.startswith("a number") and what != "without config"
    path.unlink()
    digest = hashlib.sha256(data).hexdigest()[:16]
    path = path.with_name(f"step-00000003.{digest}.pt")
    path.write_bytes(data)
    return resumed(f"save: {what}", is_wrong, (path.name,))


def foreign(rng: random.Random, state: dict[str, Any]) -> tuple[bytes, str]:
    """The content of a save of another make."""
    what = rng.choice(("value", "value", "key", "tensor", "tensor", "content", "text", "shape"))
    key = rng.choice(list(state))
    match what:
        case "value":
            value = rng.choice((None, 3, -1, "x", [], {}, [1], torch.zeros(3), True, float("nan")))
            value = value if not isinstance(value, type(state[key])) else ["x"]
            numbers = [isinstance(x, int | float) for x in (value, state[key])]
            kind = "a number: " if all(numbers) else ""
            return pickles.saved({**state, key: value}), f"{kind}{key} is {value!r:.40}"
        case "key":
            less = {name: value for name, value in state.items() if name != key}
            return pickles.saved(less), f"without {key}"
        case "tensor" | "shape":
            model = dict(state["model"])
            names = [name for name, value in model.items() if value.is_floating_point()]
            name = rng.choice(names)
            if what == "shape":
                model[name] = torch.zeros(2, 2)
                return pickles.saved({**state, "model": model}), f"{name} of another shape"
            number = rng.choice((float("nan"), float("inf")))
            model[name] = torch.full_like(model[name], number)
            return pickles.saved({**state, "model": model}), f"{number} in {name}"
        case "content":
            content = rng.choice(([], None, 3, "x", {}, {"step": 3}, {"step": "3"}, {"step": 3.0},
                                  {"step": True}, {"step": 10**30}, torch.zeros(2)))  # fmt: skip
            return pickles.saved(content), f"content {content!r:.40}"
        case _:
            return no_weights(rng)


def log(rng: random.Random, box: Box) -> Case:
    """A log.csv that is damaged or is no file."""
    path = box.work / "out" / "log.csv"
    if rng.random() < 0.5:
        what = place(rng, box, path)
        return resumed(f"{what} at log.csv", what == "folder", ("log.csv",))
    data, what = mutated(rng, path.read_bytes())
    others = (b"", b"\0" * 1000, path.read_bytes()[:-5], b"a,b\n1,2\n", b"\xff" * 99)
    data = rng.choice((data, *others))
    path.write_bytes(data)
    return resumed(f"log.csv: {what}", False, ("log.csv",))


def link(rng: random.Random, box: Box) -> Case:
    """Links and other things at the names that a resumed run writes."""
    name = rng.choice(
        ("model", "last", ".model.new", ".last.new", ".last.old", ".log.csv.new", "curves.png",
         ".curves.png.new", "checkpoints/.step-00000004.new", "run.json", "last/config.json")
    )  # fmt: skip
    path = box.work / "out" / name
    if path.is_dir():
        shutil.rmtree(path)
    kinds = ("link", "link to nothing", "FIFO", "loop", "folder")
    what = place(rng, box, path, kinds)
    if what == "link" and rng.random() < 0.5:
        path.unlink()
        path.symlink_to(box.outside / "precious")
        what = "link to a folder"
    return resumed(f"{what} at {name}", False, ())


def no_run(rng: random.Random, box: Box) -> Case:
    """A folder without a run, or no folder."""
    what = rng.choice(("empty", "no saves", "no config", "file", "loop", "missing", "FIFO", "flag"))
    path = box.work / "out"
    match what:
        case "no saves":
            shutil.rmtree(path / "checkpoints")
        case "no config":
            (path / "config.yaml").unlink()
        case "flag":
            flag = rng.choice(("--steps=9", "--run=x", "--init=x", "--seed=3", "--optimizer.lr=nan",
                               "--device=cpu:7", "--save_seconds=nan", "--save_every=0",
                               "--num_workers=-1", "--config=x.yaml"))  # fmt: skip
            return resumed(f"with {flag}", flag not in ("--save_seconds=nan",), (), flag)
        case _:
            shutil.rmtree(path)
    match what:
        case "empty":
            path.mkdir()
        case "file" | "loop" | "FIFO":
            place(rng, box, path, (what,))
    return resumed(f"run: {what}", True, ("out",))
