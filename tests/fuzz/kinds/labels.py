"""Labels of a data set whose values, form or size are wrong, and damaged ones."""

import io
import json
import random
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from tests.fuzz.case import REFUSED, REPORTED, RIGHT, Box, Case, mutated, no_weights

FLAGS = ["--config=config.yaml", "--run=out"]


def one(rng: random.Random, box: Box) -> Case:
    """One of the five labels is wrong; the data are checked, scored or learned from."""
    box.take("data")
    split, index = rng.choice((("train", 0), ("train", 2), ("val", 1)))
    label = box.work / "data" / split / "labels" / f"{index}.png"
    make = rng.choice((wrong_values, wrong_values, wrong_form, wrong_form, wrong_size, damaged,
                       paired, paired))  # fmt: skip
    what, is_wrong, names = make(rng, box, label)
    names = names or (label.name,)
    if split == "val" and rng.random() < 0.5:
        box.take("model")
        command = ["evaluate", "model", "--root=data", "--device=cpu", "--output=out/scores.json"]
        allowed = (REFUSED,) if is_wrong else (RIGHT, REFUSED)
        return Case(what, command, allowed, names, check=wrong_scores)
    if rng.random() < 0.3:
        box.take("config.yaml")
        allowed = (REFUSED,) if is_wrong else (RIGHT, REFUSED)
        return Case(what, ["train", *FLAGS], allowed, names, check=wrong_training)
    command = ["check-data", "data", f"--split={split}", "--output=out/report.json"]
    allowed = (REPORTED, REFUSED) if is_wrong else (RIGHT, REPORTED, REFUSED)
    return Case(what, command, allowed, names)


def wrong_scores(work: Path) -> str | None:
    scores = json.loads((work / "out" / "scores.json").read_text())
    return None if 0 <= scores["miou"] <= 1 else f"mIoU {scores['miou']}"


def wrong_training(work: Path) -> str | None:
    """A run that ended with weights or losses that are not finite."""
    from safetensors.numpy import load_file

    for folder in ("model", "last"):
        file = work / "out" / folder / "model.safetensors"
        weights = load_file(file) if file.is_file() else {}
        bad = [name for name, value in weights.items() if not np.isfinite(value).all()]
        if bad:
            return f"{folder}: {bad[0]} is not finite"
    log = (work / "out" / "log.csv").read_text()
    return "log.csv holds nan" if "nan" in log or "inf" in log else None


def save(path: Path, picture: Image.Image, kind: str | None = None) -> None:
    file = io.BytesIO()
    picture.save(file, kind or "PNG")
    path.write_bytes(file.getvalue())


def describe(box: Box, **keys: object) -> None:
    path = box.work / "data" / "dataset.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | keys, sort_keys=False))


Made = tuple[str, bool, tuple[str, ...]]
"""What is wrong, whether it must be noticed, and the names of the files at fault."""


def wrong_values(rng: random.Random, box: Box, label: Path) -> Made:
    """Integers and floats that stand for no class, in one pixel."""
    kind = rng.choice(("uint8", "uint16", "int32", "float32"))
    array = box.noise(40, 48, 0, high=3).astype(kind)
    place = rng.randrange(40), rng.randrange(48)
    values = {
        "uint8": (3, 4, 200, 254),
        "uint16": (3, 256, 300, 257, 65_535, 512),
        "int32": (3, -1, -5, 256, 2**31 - 1, -(2**31), 65_536, 2**24),
        "float32": (300.0, -5.0, float("nan"), float("inf"), 0.5, 1e30, -0.7, 255.5, 2.999),
    }
    value = rng.choice(values[kind])
    array[place] = value
    if rng.random() < 0.5:
        describe(box, labels="index", classes=["road", "tree", "sky"])
    save(label, Image.fromarray(array), "TIFF" if kind in ("int32", "float32") else "PNG")
    return f"label of {kind} with {value}", True, ()


def wrong_form(rng: random.Random, box: Box, label: Path) -> Made:
    """Another mode than the description says, or colors that are of no class."""
    form = rng.choice((None, "index", "palette", "rgb"))
    if form is not None:
        describe(box, labels=form)
    mode = rng.choice(("1", "L", "LA", "P", "RGB", "RGBA", "I;16", "I", "F", "CMYK"))
    array = box.noise(40, 48, 0, high=2)
    if mode in ("RGB", "RGBA", "CMYK"):
        colors = np.array([[128, 64, 128], [0, 128, rng.choice((0, 1))]], np.uint8)
        picture = Image.fromarray(colors[array]).convert(mode)
    elif mode == "P":
        picture = Image.fromarray(array)
        picture.putpalette([0, 128, 0, 128, 64, 128] + [0] * 762)
    elif mode == "1":
        picture = Image.fromarray(array * 255).convert("1")
    elif mode == "I;16":
        picture = Image.fromarray(array.astype(np.uint16))
    else:
        picture = Image.fromarray(array).convert(mode)
    save(label, picture, "PNG" if mode not in ("I", "F", "CMYK") else "TIFF")
    return f"mode {mode} for labels: {form}", False, (".png",)  # others may be at fault


def wrong_size(rng: random.Random, box: Box, label: Path) -> Made:
    height, width = rng.choice(((48, 40), (39, 48), (1, 1), (80, 96), (40, 47), (2000, 2000)))
    save(label, Image.fromarray(box.noise(height, width, 0, high=3)))
    return f"label of {width} × {height} for 48 × 40", True, ()


def damaged(rng: random.Random, box: Box, label: Path) -> Made:
    if rng.random() < 0.4:
        content, what = no_weights(rng)
        label.write_bytes(content)
        return f"label is {what}", True, ()
    content, what = mutated(rng, label.read_bytes())
    label.write_bytes(content)
    return f"label: {what}", False, ()


def paired(rng: random.Random, box: Box, label: Path) -> Made:
    """A label or an image without its partner, or which is no file."""
    import os

    image = label.parents[1] / "images" / label.name
    kind = rng.choice(("missing", "FIFO", "dangling", "loop", "folder", "two", "spare", "device",
                       "image missing", "unreadable"))  # fmt: skip
    match kind:
        case "two":
            image.with_suffix(".jpg").write_bytes(image.read_bytes())
            return "two images for one label", True, (image.name, image.with_suffix(".jpg").name)
        case "spare":
            spare = label.with_name("spare.png")
            spare.write_bytes(label.read_bytes())
            return "a label without an image", True, (spare.name,)
        case "image missing":
            image.unlink()
            return kind, True, (image.name,)
        case "unreadable":
            label.chmod(0)
            return kind, True, ()
    label.unlink()
    match kind:
        case "FIFO":
            os.mkfifo(label)
        case "dangling":
            label.symlink_to("gone.png")
        case "loop":
            label.symlink_to(label.name)
        case "folder":
            label.mkdir()
        case "device":
            label.symlink_to("/dev/zero")
    return f"label is {kind}", True, ()
