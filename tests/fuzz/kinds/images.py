"""Images that are damaged, lie about their size, or are no images or no files."""

import io
import os
import random
import struct
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from tests.fuzz.case import REFUSED, REPORTED, RIGHT, Box, Case, mutated, no_weights

FORMATS = {".png": "PNG", ".jpg": "JPEG", ".bmp": "BMP", ".webp": "WEBP", ".tif": "TIFF"}
SAME = "a second name of the good image"
Made = tuple[bytes, str, tuple[str, ...]]
"""The content of a file, what is wrong with it, and what may come of it."""


def one(rng: random.Random, box: Box) -> Case:
    """A picture beside a good one, predicted from the folder, or alone by its name."""
    suffix = rng.choice(list(FORMATS))
    name = "bad" + suffix
    names: tuple[str, ...] = ()
    makers: list[Callable[[random.Random, Box, str], Made]] = [
        damaged, damaged, truncated, huge_header, foreign, foreign, numpy_file,
        odd_mode, odd_size, jpeg_size,
    ]  # fmt: skip
    box.take("model")
    box.take("good.png", "photos/good.png")
    if rng.random() < 0.25:
        what, expect, name = odd_file(rng, box)
        names = (Path(name).name[:40].split("\n")[0],)
    else:
        maker = rng.choice(makers)
        if maker is numpy_file:
            suffix = ".npy"
        elif maker is jpeg_size:
            suffix = ".jpg"
        elif maker is huge_header:
            suffix = rng.choice((".png", ".bmp", ".jpg"))
        name = "bad" + suffix
        content, what, expect = maker(rng, box, suffix)
        box.write(f"photos/{name}", content)
    names = names or (name,)
    alone = rng.random() < 0.2 and (box.work / "photos" / name).is_file()
    alone &= name == f"bad{Path(name).suffix}"
    source = f"photos/{name}" if alone else "photos"
    extra = rng.choice(([], [], ["--overlay"], ["--color", "--num-workers=2"]))
    if what == "long name":  # NAME.overlay.png would be too long, and the image is skipped
        extra = []

    must = [] if alone else ["good.png"]
    must += [name] if expect == (RIGHT,) or what == SAME else []

    def check(work: Path) -> str | None:
        return wrong_labels(work, must, name if RIGHT in expect else None)

    return Case(
        f"{name!r}: {what}",
        ["predict", "model", source, "--output=out", "--device=cpu", *extra],
        expect,
        names,
        check=check,
    )


def wrong_labels(work: Path, must: list[str], may: str | None = None) -> str | None:
    """What is wrong with the label maps in `out`: one that lacks, another size, unknown values."""
    for name in must:
        if not (work / "out" / name).with_suffix(".png").is_file():
            return f"no labels of {name}"
    for name in [*must, *([may] if may else [])]:
        labels = (work / "out" / name).with_suffix(".png")
        if not labels.is_file():
            continue
        with Image.open(labels, formats=["PNG"]) as picture:
            if picture.mode != "L" or np.asarray(picture).max() > 2:
                return f"labels of {name} of mode {picture.mode}, or beyond the classes"
            size = size_of(work / "photos" / name)
            if size is not None and sorted(picture.size) != sorted(size):
                return f"labels of {name} of {picture.size} for an image of {size}"
    return None


def size_of(path: Path) -> tuple[int, int] | None:
    if path.suffix == ".npy":
        height, width = np.load(path).shape[:2]
        return width, height
    quiet = warnings.catch_warnings(action="ignore")  # of odd metadata
    try:
        with quiet, Image.open(path, formats=list(FORMATS.values())) as picture:
            return picture.size
    except Exception:  # a damaged header, of which the command made sense
        return None


def encoded(array: np.ndarray, suffix: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(array).save(file, FORMATS[suffix], **options)
    return file.getvalue()


def damaged(rng: random.Random, box: Box, suffix: str) -> Made:
    content, what = mutated(rng, encoded(box.noise(40, 48), suffix))
    return content, what, (RIGHT, REPORTED)


def truncated(rng: random.Random, box: Box, suffix: str) -> Made:
    whole = encoded(box.noise(40, 48), suffix)
    share = rng.choice((0.0, 0.01, 0.1, 0.3, 0.6, 0.8))
    return whole[: int(len(whole) * share)], f"{share:.0%} of its bytes", (REPORTED,)


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + checksum


def deflated_zeros(number: int) -> bytes:
    """So many zeros in zlib's format, a thousandth as long."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    block = packer.compress(bytes(1 << 20)) + packer.flush(zlib.Z_FULL_FLUSH)
    end = zlib.compress(bytes(number % (1 << 20)), 9)[2:-4]
    checksum = struct.pack(">I", (number % 65_521) << 16 | 1)
    return b"\x78\xda" + block * (number >> 20) + end + checksum


def huge_header(rng: random.Random, box: Box, suffix: str) -> Made:
    """A small file that says that it has very many pixels; a PNG also holds them, deflated."""
    width, height = rng.choice(
        ((30_000, 30_000), (65_000, 65_000), (2**31 - 1, 1), (12_000, 14_000), (0, 10), (1, 2**30))
    )
    what = f"header of {width} × {height}"
    if suffix == ".png":
        packed = deflated_zeros(min(width * height, 2 * 10**9))
        content = b"\x89PNG\r\n\x1a\n" + chunk(
            b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        )
        return content + chunk(b"IDAT", packed) + chunk(b"IEND", b""), what, (REPORTED,)
    if suffix == ".bmp":
        content = bytearray(encoded(box.noise(40, 48), ".bmp"))
        content[18:26] = struct.pack("<ii", width, height)
        return bytes(content), what, (REPORTED,)
    return jpeg_size(rng, box, suffix)


def jpeg_size(rng: random.Random, box: Box, suffix: str) -> Made:
    """A JPEG whose header was changed; decoders fill what is missing with gray."""
    content = bytearray(encoded(box.noise(40, 48), ".jpg"))
    place = content.index(b"\xff\xc0") + 5
    height, width = rng.choice(((0, 48), (40, 0), (65_500, 65_500), (12_000, 12_000), (1, 65_500)))
    content[place : place + 4] = struct.pack(">HH", height, width)
    expect = (RIGHT, REPORTED) if 0 < width * height < 10**6 else (REPORTED,)
    return bytes(content), f"JPEG header of {width} × {height}", expect


def foreign(rng: random.Random, box: Box, suffix: str) -> Made:
    """Another content under the name of an image. For PostScript Pillow would start `gs`."""
    postscript = (
        f"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 40 40\n%%EndComments\n"
        f"({box.canary}) (w) file closefile\nshowpage\n%%EOF\n"
    ).encode()
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"></svg>'
    others = {"PostScript": postscript, "SVG": svg}
    for kind in ("PPM", "GIF", "PCX", "TGA", "ICO", "SGI", "MSP", "XBM", "PDF", "EPS", "JPEG2000"):
        file = io.BytesIO()
        array = box.noise(40, 48)
        try:
            Image.fromarray(array).convert("1" if kind in ("MSP", "XBM") else "RGB").save(
                file, kind
            )
        except (OSError, KeyError, ValueError):
            continue
        others[kind] = file.getvalue()
    if rng.random() < 0.25:
        content, what = no_weights(rng)
        return content, what, (REPORTED,)
    what = rng.choice([*["PostScript", "EPS"] * 4, *others])
    return others[what], what, (REPORTED,)


def numpy_file(rng: random.Random, box: Box, suffix: str) -> Made:
    headers = (
        "{'descr': '|u1', 'fortran_order': False, 'shape': (100000, 100000, 3), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (40, 48, 3, 10000000000), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (-40, 48, 3), }",
        "{'descr': '|O', 'fortran_order': False, 'shape': (40, 48, 3), }",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (4, 4, 3), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (0, 48, 3), }",
        "{'descr': '|u1', 'fortran_order': False, 'shape': (), }",
        "{'descr': [('a', '|u1')], 'fortran_order': False, 'shape': (40, 48), }",
        "__import__('os').system('touch canary')",
        "{'descr': " + "[" * 500 + "]" * 500 + "}",
    )
    if rng.random() < 0.4:
        file = io.BytesIO()
        np.save(file, box.noise(40, 48))
        content, what = mutated(rng, file.getvalue())
        return content, what, (RIGHT, REPORTED)
    header = rng.choice(headers)
    head = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    content = b"\x93NUMPY\1\0" + struct.pack("<H", len(head)) + head + box.rng.randbytes(5760)
    return content, f"header {header[:60]}", (REPORTED,)


def odd_mode(rng: random.Random, box: Box, suffix: str) -> Made:
    """A picture of another mode; right if it can be seen as colors of a known range."""
    mode = rng.choice(("1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "I", "F", "LAB"))
    file = io.BytesIO()
    picture = Image.fromarray(box.noise(40, 48))
    try:
        kind = "TIFF" if mode == "I" else FORMATS[suffix]  # Pillow will give up such PNGs
        picture.convert("L").convert(mode).save(file, kind)
    except (OSError, ValueError):
        mode = "RGB"
        picture.save(file, FORMATS[suffix])
    return file.getvalue(), f"mode {mode}", (RIGHT, REPORTED)


def odd_size(rng: random.Random, box: Box, suffix: str) -> Made:
    height, width = rng.choice(((1, 1), (1, 2000), (2000, 1), (2, 3), (31, 31), (33, 7)))
    return encoded(box.noise(height, width), suffix), f"{width} × {height}", (RIGHT, REPORTED)


def odd_file(rng: random.Random, box: Box) -> tuple[str, tuple[str, ...], str]:
    """Something with the name of an image that is no file, or a file with an odd name."""
    photos, told = box.work / "photos", (REPORTED, REFUSED)
    path = photos / "bad.png"
    kind = rng.choice(
        ("FIFO", "socket", "dangling", "loop", "itself", "folder", "device", "unreadable file",
         "unreadable folder", "same file", "long name", "newline", "not UTF-8", "escape", "parent",
         "twice")
    )  # fmt: skip
    match kind:
        case "FIFO":
            os.mkfifo(path)
        case "socket":
            import socket

            here = Path.cwd()
            os.chdir(photos)  # the path of a socket is short
            try:
                with socket.socket(socket.AF_UNIX) as made:
                    made.bind("bad.png")
            finally:
                os.chdir(here)
        case "dangling":
            path.symlink_to("gone.png")
        case "loop":
            path.symlink_to("bad.png")
        case "itself":
            (photos / "bad").symlink_to(photos)
            return "a link to its own folder", (RIGHT, *told), "bad"
        case "folder":
            path.mkdir()
            return "a folder", (RIGHT, *told), "bad.png"
        case "device":
            path.symlink_to("/dev/zero")
        case "unreadable file":
            box.take("good.png", "photos/bad.png").chmod(0)
        case "unreadable folder":
            box.take("good.png", "photos/bad/x.png")
            (photos / "bad").chmod(0)
            return kind, told, "bad"
        case "same file":
            path.symlink_to("good.png")
            return SAME, (RIGHT, REFUSED), "bad.png"
        case "parent":
            path.symlink_to(box.outside / "precious.png")
            return "a link to an image elsewhere", (RIGHT,), "bad.png"
        case "twice":
            box.take("good.png", "photos/good.jpg")
            return "two images of one stem", (REFUSED,), "good.jpg"
        case _:
            length = rng.choice((251, 252, 255))
            name = {
                "long name": "b" * (length - 4) + ".png",
                "newline": "bad\n2.png",
                "not UTF-8": os.fsdecode(b"bad\xff\xfe.png"),
                "escape": "bad\x1b[31m.png",
            }[kind]
            box.take("good.png", f"photos/{name}")
            return kind, (RIGHT,), name
    return kind, told, "bad.png"
