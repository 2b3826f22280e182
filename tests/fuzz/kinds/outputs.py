"""What is in the way of results: manifests and label maps of others, links, folders, devices."""

import io
import json
import os
import random
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from tests.fuzz.case import REFUSED, RIGHT, Box, Case, mutated, no_weights
from tests.fuzz.kinds.images import wrong_labels

PREDICT = ["predict", "model", "photos", "--output=out", "--device=cpu"]


def prediction(rng: random.Random, box: Box) -> Case:
    """A finished prediction of which one file was changed; the same command goes on."""
    for name in ("model", "photos", "out"):
        box.take(name)
    valid = {
        name: np.asarray(Image.open(box.template / "out" / name)).tobytes()
        for name in ("good.png", "other.png")
    }

    def check(work: Path) -> str | None:
        wrong = wrong_labels(work, list(valid))
        if wrong is None:
            for name, pixels in valid.items():
                with Image.open(work / "out" / name) as picture:
                    if np.asarray(picture).tobytes() != pixels:
                        return f"labels of {name} that the model did not make"
        return wrong

    make = rng.choice((manifest, manifest, label_map, label_map, in_the_way, in_the_way))
    case = make(rng, box)
    case.check = check
    return case


def manifest(rng: random.Random, box: Box) -> Case:
    """Lines in manifest.jsonl that are not ours, or something else at its place."""
    path = box.work / "out" / "manifest.jsonl"
    if rng.random() < 0.35:
        return placed(rng, box, path, "out/manifest.jsonl")
    lines = path.read_bytes().splitlines(keepends=True)
    ours = json.loads(lines[0])
    foreign: dict[str, bytes] = {
        "a foreign line": b'{"image": "x", "caption": "a cat"}\n',
        "a foreign line without end": b'{"image": "x", "caption": "a cat"}',
        "text": b"hello\nworld\n",
        "text without end": b"precious notes",
        "a list": b"[1, 2]\n",
        "a number": b"3\n",
        "null": b"null\n",
        "1,000 levels": b"[" * 1000 + b"]" * 1000 + b"\n",
        "100,000 levels": b"[" * 100_000 + b"\n",
        "binary": box.rng.randbytes(2000).replace(b"\n", b"") + b"\n",
        "a key more": json.dumps({**ours, "x": 1}).encode() + b"\n",
        "a key less": json.dumps({k: v for k, v in ours.items() if k != "labels"}).encode() + b"\n",
        "labels: list": json.dumps({**ours, "labels": [1]}).encode() + b"\n",
        "labels: dict": json.dumps({**ours, "labels": {}}).encode() + b"\n",
        "labels: null": json.dumps({**ours, "labels": None}).encode() + b"\n",
        "labels: number": json.dumps({**ours, "labels": 3}).encode() + b"\n",
        "finished: number": lines[0] + json.dumps({**ours, "finished": 3}).encode() + b"\n",
        "finished: null": lines[0] + json.dumps({**ours, "finished": None}).encode() + b"\n",
        "status": json.dumps({**ours, "status": "fine"}).encode() + b"\n",
        "stamp: list": json.dumps({**ours, "stamp": [1]}).encode() + b"\n",
        "UTF-16": b"".join(lines).decode().encode("utf-16"),
        "HTML": no_weights(rng)[0] or b"x\n",
    }
    what = rng.choice((*foreign, "damage", "damage", "cut", "empty", "other manifest"))
    if what in foreign:
        after = lines if rng.random() < 0.3 and not what.endswith("end") else []
        path.write_bytes(foreign[what] + b"".join(after))
        command = list(PREDICT)
        if rng.random() < 0.5:  # a line is to be added
            box.write("photos/new.png", (box.template / "good.png").read_bytes())
        return Case(f"manifest: {what}", command, (REFUSED,), ("manifest.jsonl",),
                    keep=("out/manifest.jsonl",))  # fmt: skip
    if what == "damage":
        content, what = mutated(rng, path.read_bytes())
        path.write_bytes(content)
        return Case(f"manifest: {what}", PREDICT, (RIGHT, REFUSED), ("manifest.jsonl",))
    if what == "other manifest":
        box.write("out/manifest.0003.jsonl", "[1]\n")
        return Case(what, PREDICT, (REFUSED,), ("manifest.0003.jsonl",),
                    keep=("out/manifest.0003.jsonl",))  # fmt: skip
    path.write_bytes(b"".join(lines)[: -rng.randrange(2, 40)] if what == "cut" else b"")
    return Case(f"manifest: {what}", PREDICT, (RIGHT,))


def label_map(rng: random.Random, box: Box) -> Case:
    """A label map that is damaged, changed, or of somebody else."""
    path = box.work / "out" / "good.png"
    kind = rng.choice(("damage", "damage", "pixels", "pixels", "foreign", "text", "stamp"))
    overwrite = ["--overwrite"] * (rng.random() < 0.3)
    with Image.open(path) as picture:
        array, stamp = np.asarray(picture).copy(), picture.info["ccnet"]
    match kind:
        case "damage":
            content, what = mutated(rng, path.read_bytes())
            path.write_bytes(content)
            expect: tuple[str, ...] = (RIGHT, REFUSED)
        case "pixels":
            array[rng.randrange(40), rng.randrange(48)] ^= 1
            save(path, array, stamp)
            what, expect = "changed pixels under our stamp", (RIGHT, REFUSED)
        case "foreign":
            save(path, array, None)
            what, expect = "labels of somebody else", (RIGHT,) if overwrite else (REFUSED,)
        case "text":
            path.write_text("precious notes")
            what, expect = "text in place of labels", (RIGHT,) if overwrite else (REFUSED,)
        case _:
            bad = rng.choice(("x", "model= image=", stamp + " " * 10**5, stamp[:-1], "\n"))
            save(path, array, bad)
            what, expect = f"stamp {bad[:30]!r}", (RIGHT, REFUSED)
    keep = () if RIGHT in expect else ("out/good.png",)
    return Case(what, [*PREDICT, *overwrite], expect, ("good.png",), keep=keep)


def save(path: Path, array: np.ndarray, stamp: str | None) -> None:
    chunks = PngInfo()
    if stamp is not None:
        chunks.add_text("ccnet", stamp)
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG", pnginfo=chunks)
    path.write_bytes(file.getvalue())


def in_the_way(rng: random.Random, box: Box) -> Case:
    """A link, a folder or a device where a label map or its temporary file goes."""
    name = rng.choice(("out/good.png", "out/.good.png.new", "out/good.overlay.png", "out"))
    if name != "out":
        return placed(rng, box, box.work / name, name)
    import shutil

    shutil.rmtree(box.work / "out")
    case = placed(rng, box, box.work / "out", "out", kinds=("loop", "FIFO", "file", "device"))
    case.expect = (REFUSED,)
    return case


def placed(
    rng: random.Random, box: Box, path: Path, name: str, kinds: tuple[str, ...] = ()
) -> Case:
    """Put something at a path that results go to."""
    what = place(rng, box, path, kinds)
    overwrite = ["--overwrite"] * (rng.random() < 0.5)
    is_label = name.endswith((".png",))
    command = [*PREDICT, *overwrite, *["--overlay"] * ("overlay" in name)]
    names = (path.name,)
    expect = (RIGHT, REFUSED)
    if what in ("folder", "FIFO") and (is_label or name.endswith(".jsonl")):
        expect = (REFUSED,)
    return Case(f"{what} at {name}", command, expect, names)


def place(rng: random.Random, box: Box, path: Path, kinds: tuple[str, ...] = ()) -> str:
    """Replace a path by a link, a folder, a FIFO or the like; returns which."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    what = rng.choice(
        kinds or ("link", "link", "link to nothing", "FIFO", "folder", "loop", "device")
    )
    match what:
        case "link":
            target = "precious.png" if path.suffix == ".png" else "precious.txt"
            if path.suffix == ".jsonl":
                target = "precious/manifest.jsonl"
            path.symlink_to(box.outside / target)
        case "link to nothing":
            path.symlink_to(box.outside / "new")
        case "FIFO":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
            (path / "precious.txt").write_text("precious")
        case "loop":
            path.symlink_to(path.name)
        case "device":
            path.symlink_to(rng.choice(("/dev/full", "/dev/null", "/dev/zero")))
        case "file":
            path.write_text("precious")
    return what


def other_results(rng: random.Random, box: Box) -> Case:
    """Something in the way of what evaluate, check-data, export, convert and train write."""
    makers = [json_file] * 4 + [run] * 3 + [export_file, converted]  # the last two take seconds
    return rng.choice(makers)(rng, box)


def json_file(rng: random.Random, box: Box) -> Case:
    box.take("data")
    name = rng.choice(("out/x.json", "out/.x.json.new"))
    what = place(rng, box, box.work / name)
    if rng.random() < 0.5:
        command = ["check-data", "data", "--split=train", "--output=out/x.json"]
    else:
        box.take("model")
        command = ["evaluate", "model", "--root=data", "--device=cpu", "--output=out/x.json"]
    expect = (RIGHT, REFUSED) if what != "folder" or ".new" in name else (REFUSED,)
    return Case(f"{what} at {name}", command, expect, ("x.json",))


def export_file(rng: random.Random, box: Box) -> Case:
    box.take("model")
    name = rng.choice(("out/x.pt2", "out/.x.pt2.new", "out/x.pt2"))
    what = place(rng, box, box.work / name, ("link", "FIFO", "folder", "loop", "file", "device"))
    overwrite = ["--overwrite"] * (rng.random() < 0.5)
    command = ["export", "model", "--format=torch-export", "--output=out/x.pt2", *overwrite]
    is_refused = ".new" not in name and (what in ("folder", "FIFO") or not overwrite)
    is_refused &= what != "loop"  # which holds nothing
    keep = ("out/x.pt2",) if is_refused else ()
    expect = (REFUSED,) if is_refused else (RIGHT, REFUSED)
    return Case(f"{what} at {name} {overwrite}", command, expect, ("x.pt2",), keep=keep)


def converted(rng: random.Random, box: Box) -> Case:
    """A folder that is not empty, with links at the names of a model folder."""
    box.take("published.pth")
    overwrite = ["--overwrite"] * (rng.random() < 0.7)
    name = rng.choice(
        ("config.json", "model.safetensors", "README.md", "conversion.csv", "mine.txt")
    )
    what = place(rng, box, box.work / "out" / name, ("link", "FIFO", "folder", "loop", "file"))
    if rng.random() < 0.15:
        import shutil

        shutil.rmtree(box.work / "out")
        what, name = place(rng, box, box.work / "out", ("loop", "FIFO", "file")), "out"
    expect = (REFUSED,) if not overwrite or name == "out" else (RIGHT, REFUSED)
    keep = (f"out/{name}",) if not overwrite or name == "mine.txt" else ()
    return Case(f"{what} at {name} {overwrite}", ["convert", "published.pth", "out", *overwrite],
                expect, (name, "out"), keep=keep)  # fmt: skip


def run(rng: random.Random, box: Box) -> Case:
    """A run folder that is not empty, or is none."""
    box.take("data")
    box.take("config.yaml")
    name = rng.choice(("out", "out/config.yaml", "out/checkpoints", "out/run.json", "out/mine.txt"))
    kinds: tuple[str, ...] = ("link", "FIFO", "loop", "file") if name == "out" else ()
    what = place(rng, box, box.work / name, kinds)
    command: list[Any] = ["train", "--config=config.yaml", "--run=out"]
    if name == "out/run.json":  # such a run was killed before its first save
        return Case(f"{what} at {name}", command, (RIGHT, REFUSED), ("out",))
    return Case(f"{what} at {name}", command, (REFUSED,), ("out",), keep=(name,))
