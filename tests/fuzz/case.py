"""One bad input: the folder that it lies in, the command that gets it, and what may come of it."""

import hashlib
import os
import random
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

RIGHT, REPORTED, REFUSED = "right", "reported", "refused"
"""What a command may do: succeed with a right result (status 0), do its work and report what is bad
(status 1), refuse with one line (status 2)."""


@dataclass
class Case:
    """A command line and what may come of it."""

    what: str
    """The input in a few words."""
    command: list[str]
    expect: tuple[str, ...]
    """Which of RIGHT, REPORTED and REFUSED may happen."""
    names: tuple[str, ...] = ()
    """The line about the fault must hold one of them, such as the name of the file; none: any."""
    writes: tuple[str, ...] = ("out",)
    """Files and folders below the working folder that the command may write."""
    keep: tuple[str, ...] = ()
    """Files among them that must stay as they are."""
    check: Callable[[Path], str | None] = lambda work: None
    """Of a result with status 0 or 1, in the working folder: what is wrong with it."""


class Box:
    """A new folder for one input: a working folder, and what lies outside of it.

    Args:
        folder: is made; nothing may be there.
        template: the folder with valid ingredients.
        rng: chooses all that is random.
    """

    def __init__(self, folder: Path, template: Path, rng: random.Random) -> None:
        self.folder, self.template, self.rng = folder, template, rng
        self.work, self.outside = folder / "work", folder / "outside"
        self.canary = folder / "canary"
        for path in (self.work, self.outside, folder / "tmp", folder / "log"):
            path.mkdir(parents=True)
        (folder / "bin").mkdir()
        (folder / "bin" / "gs").write_text(f"#!/bin/sh\ntouch '{self.canary}'\n")
        (folder / "bin" / "gs").chmod(0o755)
        (self.outside / "precious.txt").write_text("precious")
        shutil.copy(template / "good.png", self.outside / "precious.png")
        (self.outside / "precious").mkdir()
        (self.outside / "precious" / "manifest.jsonl").write_text('{"mine": 1}')

    def take(self, name: str, to: str | None = None) -> Path:
        """A copy of a valid ingredient in the working folder."""
        source, target = self.template / name, self.work / (to or name)
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            return shutil.copytree(source, target)
        return Path(shutil.copy2(source, target))

    def write(self, name: str, content: bytes | str) -> Path:
        path = self.work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode("utf-8", "surrogateescape") if isinstance(content, str) else content
        path.write_bytes(data)
        return path

    def canary_module(self, name: str = "canary_module") -> str:
        """The name of a module in the working folder that leaves a trace when it is imported."""
        source = f"open({str(self.canary)!r}, 'w').write('imported')\nclass Thing: pass\n"
        self.write(f"{name}.py", source)
        return name

    def noise(self, height: int, width: int, channels: int = 3, high: int = 256) -> np.ndarray:
        """Random pixels (height, width, channels) or, for no channels, (height, width); uint8."""
        shape = (height, width, channels) if channels else (height, width)
        return np.random.default_rng(self.rng.getrandbits(32)).integers(0, high, shape, np.uint8)


def mutated(rng: random.Random, data: bytes) -> tuple[bytes, str]:
    """The content of a file after damage of one kind, and its name."""
    start = rng.randrange(len(data))
    end = min(len(data), start + rng.choice((1, 4, 16, 256)))
    kind = rng.choice(("truncated", "flipped", "zeroed", "removed", "inserted", "random", "twice"))
    match kind:
        case "truncated":
            return data[:start], f"truncated to {start} of {len(data)} bytes"
        case "flipped":
            flipped = bytearray(data)
            for _ in range(rng.choice((1, 3, 10))):
                flipped[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
            return bytes(flipped), "flipped bits"
        case "zeroed":
            return data[:start] + bytes(end - start) + data[end:], f"zeros in {start}:{end}"
        case "removed":
            return data[:start] + data[end:], f"without bytes {start}:{end}"
        case "inserted":
            return data[:start] + rng.randbytes(16) + data[start:], f"16 bytes more at {start}"
        case "random":
            replaced = data[:start] + rng.randbytes(end - start) + data[end:]
            return replaced, f"random bytes in {start}:{end}"
        case _:
            return data + data, "content twice"


def no_weights(rng: random.Random) -> tuple[bytes, str]:
    """The content of a download that failed, and its name."""
    lfs = b"version https://git-lfs.github.com/spec/v1\noid sha256:" + b"a" * 64 + b"\nsize 9999\n"
    html = b"<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body>no</body></html>\n"
    contents = {
        "an HTML page": html,
        "a Git LFS pointer": lfs,
        "an empty file": b"",
        "text": b"hello, this is text\n" * 20,
        "zeros": bytes(5000),
        "random bytes": rng.randbytes(3000),
        "an empty zip": b"PK\5\6" + bytes(18),
        "JSON": b'{"message": "Not Found"}',
        "a shell script": b"#!/bin/sh\ntouch canary\n",
    }
    what = rng.choice(list(contents))
    return contents[what], what


Snapshot = dict[str, tuple[object, ...]]


def snapshot(folder: Path) -> Snapshot:
    """What every file, link and folder below a folder is, by its relative path."""
    return {os.path.relpath(path, folder): facts(path) for path in below(folder)}


def below(folder: Path) -> Iterator[str]:
    """All paths below a folder, as text; links are not followed."""
    for parent, folders, files in os.walk(folder):
        yield from (os.path.join(parent, name) for name in (*folders, *files))  # noqa: PTH118


def facts(path: str) -> tuple[object, ...]:
    found = os.lstat(path)
    kind = stat.S_IFMT(found.st_mode)
    if stat.S_ISLNK(found.st_mode):
        return kind, os.readlink(path)  # noqa: PTH115
    if not stat.S_ISREG(found.st_mode):
        return (kind,)
    if found.st_size > 1 << 26:
        return kind, found.st_size, found.st_mtime_ns
    with open(path, "rb") as file:  # noqa: PTH123
        return kind, found.st_size, found.st_mtime_ns, hashlib.sha256(file.read()).hexdigest()


def changes(before: Snapshot, after: Snapshot, case: Case) -> list[str]:
    """Paths that a command changed although it may not, and temporary files that it left."""
    allowed = [os.path.join("work", name) for name in case.writes]  # noqa: PTH118
    kept = {os.path.join("work", name) for name in case.keep}  # noqa: PTH118
    found = []
    for path in sorted(before.keys() | after.keys()):
        is_own = any(path == own or path.startswith(own + "/") for own in allowed)
        if path.startswith("log/") or before.get(path) == after.get(path):
            continue
        name = os.path.basename(path)  # noqa: PTH119
        if not is_own or path in kept:
            fate = "made" if path not in before else "gone" if path not in after else "changed"
            found.append(f"{fate}: {path!r}")
        elif path not in before and name.startswith(".") and name.endswith((".new", ".old")):
            found.append(f"left behind: {path!r}")
    return found
