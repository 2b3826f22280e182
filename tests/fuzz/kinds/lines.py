"""Command lines: flags, paths and numbers that are wrong; lists of pairs; options of export."""

import os
import random

from tests.fuzz.case import REFUSED, REPORTED, RIGHT, Box, Case
from tests.fuzz.kinds.labels import wrong_training

NUMBERS = ("nan", "-1", "abc", "", "1.5", "1e300", "inf", "-inf", "[]", "null", "0x1", "1,2")
DEVICES = (
    *("xla", "cpu:7", "cuda:99", "", "meta", "gpu", "cpu:", "mps", "cuda", "cuda:-1", "hpu", "CPU"),
    *("cpu:0x", "vulkan", "privateuseone"),
)
PATHS = (
    *("", "missing", ".", "/", "good.png/x", "a" * 300, "a/" * 3000, "x\udcff", "~", "*", "[", " "),
    *("-", "\n", "../../..", "/dev/zero", "/dev/null", "/proc/self/mem"),
)
MODELS = ("missing/model", "owner/name", "https://example.com/model", "model/config.json", "a/b/c")
TEXTS = ("", "x", "../..", "a" * 5000, "\n", "x\udcff", "{split}", "%s", "/")

COMMANDS: dict[str, tuple[list[str], dict[str, tuple[str, ...]]]] = {
    "predict": (
        ["predict", "model", "photos", "--output=out", "--device=cpu"],
        {
            "--num-workers": NUMBERS,
            "--device": DEVICES,
            "--devices": ("-1", "0", "nan", "abc", "1.5", ""),
            "--precision": TEXTS,
            "--output": ("", "good.png", "good.png/x", "photos", ".", "a" * 300, "model"),
            "model": (*PATHS, *MODELS),
            "photos": PATHS,
        },
    ),
    "evaluate": (
        ["evaluate", "model", "--root=data", "--device=cpu"],
        {
            "--num-workers": NUMBERS,
            "--device": DEVICES,
            "--precision": TEXTS,
            "--split": TEXTS,
            "--root": PATHS,
            "--data": TEXTS,
            "--output": ("", ".", "good.png/x", "a" * 300, "/proc/x", "data", "/"),
            "model": (*PATHS, *MODELS),
        },
    ),
    "check-data": (
        ["check-data", "data", "--split=train"],
        {
            "--split": TEXTS,
            "--output": ("", ".", "good.png/x", "a" * 300, "/proc/x", "data"),
            "data": PATHS,
        },
    ),
    "convert": (
        ["convert", "published.pth", "out"],
        {
            "--recurrence": (*NUMBERS, "1000000000"),
            "--align-corners": ("", "maybe", "1"),
            "--num-classes": (*NUMBERS, "1", "0", "256", "1000000000"),
            "out": ("", "good.png", "good.png/x", "a" * 300, "/proc/x"),
            "published.pth": PATHS,
        },
    ),
    "export": (
        ["export", "model", "--format=torch-export", "--output=out/x.pt2"],
        {
            "--format": TEXTS,
            "--precision": (*TEXTS, "int8", "float16"),
            "--size": ("[0, 0]", "[1, 1]", "[-5, 64]", "[64]", "64", "nan", "[1e9, 1e9]",
                       "[64, 64, 64]",
                       "[1000000000, 1000000000]", ""),
            "--images": PATHS,
            "--min-agreement": ("nan", "2", "-1", "inf", "abc", ""),
            "--output": ("", ".", "good.png/x", "a" * 300, "model"),
            "model": (*PATHS, *MODELS),
        },
    ),
    "train": (
        ["train", "--config=config.yaml", "--run=out"],
        {
            "--run": ("", "good.png", "good.png/x", "a" * 300, "/proc/x", "data", "."),
            "--init": (*PATHS, *MODELS),
            "--resume": PATHS,
            "--config": PATHS,
            "--device": DEVICES,
            "--data.root": PATHS,
            "--data.train_split": TEXTS,
            "--model.pretrained": (*PATHS, "https://127.0.0.1:9/x.pth", "imagenet"),
            "--model.backbone": (*TEXTS, "timm/", "timm/missing", "timm/../x"),
        },
    ),
}  # fmt: skip
HARMLESS = {
    ("--device", "CPU"), ("--output", "photos"), ("--images", "*"), ("--images", "."),
    ("--output", "a" * 300), ("--data.root", "~"), ("--run", "."), ("--init", ""),
    ("--num-workers", "null"), ("--min-agreement", "-1"), ("photos", "."), ("photos", "*"),
    ("photos", "../../.."), ("photos", "/"), ("--align-corners", "1"), ("--num-classes", "null"),
}  # fmt: skip
"""Values that may work, or that another check refuses."""


def command_line(rng: random.Random, box: Box) -> Case:
    """A valid command line of which one word is wrong."""
    box.take("good.png")
    name = rng.choice(list(COMMANDS))
    words, bad = COMMANDS[name]
    words = list(words)
    for ingredient in ("model", "data", "photos", "config.yaml", "published.pth"):
        if any(ingredient in word for word in (*words, *(["data"] if name == "train" else []))):
            box.take(ingredient)
    if rng.random() < 0.15:
        return odd_words(rng, name, words)
    flag = rng.choice(list(bad))
    values = tuple(
        value for value in bad[flag] if not (flag == "photos" and value in ("/", "../../.."))
    )
    value = rng.choice(values)
    if flag.startswith("--"):
        words = [word for word in words if not word.startswith(f"{flag}=")] + [f"{flag}={value}"]
    else:
        words[words.index(flag)] = value
    is_harmless = (flag, value) in HARMLESS or value in ("null",)
    expect = (RIGHT, REPORTED, REFUSED) if is_harmless else (REFUSED,)
    what = f"{name} {flag} {value[:60]!r}"
    return Case(what, words, expect, check=wrong_training if name == "train" else lambda _: None)


def odd_words(rng: random.Random, name: str, words: list[str]) -> Case:
    """An unknown flag or command, a word too many, or one that is missing."""
    what = rng.choice(
        ("unknown flag", "no value", "too many", "missing", "unknown command", "none")
    )
    match what:
        case "unknown flag":
            words = [
                *words,
                rng.choice(("--no-such-flag", "--no-such=3", "-x", "--", "--é=1", "--=1")),
            ]
        case "no value":
            words = [*words, "--output" if name not in ("convert", "train") else "--num-classes"]
        case "too many":
            words = [words[0], *words[1:], "extra", "extra"]
            if name == "predict":
                return Case(f"{name}: {what}", words, (REFUSED,), ("extra",))
        case "missing":
            words = [words[0]] if name != "train" else [words[0], "--run"]
        case "unknown command":
            words = [rng.choice(("tarin", "", "--", "é", "predict-all", "x\udcff")), *words[1:]]
        case _:
            words = []
    expect = (REFUSED,) if words and "--" not in words else (RIGHT, REPORTED, REFUSED)
    return Case(f"{name}: {what} {words[-1:]!r:.40}", words, expect)


def list_file(rng: random.Random, box: Box) -> Case:
    """Pairs that train.txt lists, one of which is wrong."""
    box.take("data")
    data = box.work / "data"
    (data / "train").rename(data / "pool")
    lines = [f"pool/images/{i}.png, pool/labels/{i}.png" for i in range(3)]
    is_wrong, names = True, ("train.txt",)
    others: dict[str, str | bytes] = {
        "one path": "pool/images/0.png",
        "three paths": "a, b, c",
        "missing file": "pool/images/9.png, pool/labels/9.png",
        "empty paths": ", ",
        "a path of 5,000": "a" * 5000 + ", b",
        "a zero byte": "pool/images/\0.png, pool/labels/0.png",
        "not UTF-8": b"pool/images/\xff.png, pool/labels/0.png",
        "folders": "pool/images, pool/labels",
        "UTF-16": "\n".join(lines).encode("utf-16"),
        "image as label": "pool/images/0.png, pool/images/0.png",
        "FIFO": "fifo.png, fifo.png",
        "device": "/dev/zero, /dev/zero",
        "loop": "loop.png, loop.png",
        "5 MB": "x " * 2_500_000,
        "binary": box.rng.randbytes(3000),
        "one pair twice": lines[0],
        "outside": f"{box.outside}/precious.png, pool/labels/0.png",
        "text": "hello world, this is text",
    }
    os.mkfifo(data / "fifo.png")
    (data / "loop.png").symlink_to("loop.png")
    what = rng.choice((*others, "nothing", "a comment", "file"))
    if what == "file":
        from tests.fuzz.kinds.yaml_files import odd_file

        what = odd_file(rng, box, "data/train.txt")
    else:
        extra = others.get(what, "")
        content = extra if isinstance(extra, bytes) else extra.encode()
        before = [] if what in ("nothing", "a comment", "UTF-16") else lines
        box.write("data/train.txt", "\n".join([*before, ""]).encode() + content + b"\n")
    is_wrong = what not in ("outside", "one pair twice")
    told = {"missing file": "9.png", "folders": "images", "image as label": "0.png",
            "FIFO": "fifo.png", "device": "zero", "loop": "loop.png"}  # fmt: skip
    if what in told:
        names = (told[what], "train.txt")
    if "for train.txt" in what:
        names = ("train.txt", "train")
    elif what in ("nothing", "outside", "binary", "text", "not UTF-8", "a zero byte", "5 MB"):
        names = ()
    if rng.random() < 0.5:
        box.take("config.yaml")
        command = ["train", "--config=config.yaml", "--run=out"]
        allowed = (REFUSED,) if is_wrong else (RIGHT, REFUSED)
        return Case(f"list: {what}", command, allowed, names, check=wrong_training)
    command = ["check-data", "data", "--split=train", "--output=out/report.json"]
    allowed = (REPORTED, REFUSED) if is_wrong else (RIGHT, REPORTED, REFUSED)
    return Case(f"list: {what}", command, allowed, names)
