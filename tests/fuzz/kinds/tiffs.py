"""TIFFs whose directory lies, of three channels, which Pillow decodes, and of four."""

import random
import struct
import zlib
from pathlib import Path

import numpy as np

from tests.fuzz.case import REPORTED, RIGHT, Box, Case, mutated
from tests.fuzz.kinds.images import Made, deflated_zeros, encoded, wrong_labels

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, STRIPS, SAMPLES, ROWS = (
    *(256, 257, 258, 259, 262, 273, 277, 278),
)
STRIP_BYTES, PLANAR, PREDICTOR, TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES, EXTRA, FORMAT = (
    *(279, 284, 317, 322, 323, 324, 325, 338, 339),
)
NUMBERS = (0, 1, 2, 3, 5, 7, 16, 255, 32_946, 65_535, 10**6, 2**31 - 1, 2**32 - 1)


def one(rng: random.Random, box: Box) -> Case:
    """A bad.tif beside a good one, for a network of three or four channels."""
    channels = rng.choice((3, 4, 4))
    box.take("model" if channels == 3 else "model_4", "model")
    box.write("photos/good.tif", encoded(box.noise(40, 48, channels), ".tif"))
    make = rng.choice((tag_of_pillow, tag_of_ours, tag_of_ours, bomb, damaged))
    content, what, expect = make(rng, box, channels)
    box.write("photos/bad.tif", content)

    def check(work: Path) -> str | None:
        return wrong_labels(work, ["good.tif"], "bad.tif" if RIGHT in expect else None)

    command = ["predict", "model", "photos", "--output=out", "--device=cpu"]
    return Case(f"{channels} channels: {what}", command, expect, ("bad.tif",), check=check)


def tiff(tags: dict[int, list[int]], data: bytes) -> bytes:
    """A little-endian TIFF of these tags, all of 32 bits, whose data begin at byte 8."""
    place = 8 + len(data)
    lists, entries = b"", b""
    start = place + 2 + 12 * len(tags) + 4
    for tag, values in sorted(tags.items()):
        packed = struct.pack(f"<{len(values)}I", *(value % 2**32 for value in values))
        if len(values) != 1:
            packed, lists = struct.pack("<I", start + len(lists)), lists + packed
        entries += struct.pack("<HHI", tag, 4, len(values)) + packed.ljust(4, b"\0")
    directory = struct.pack("<H", len(tags)) + entries + bytes(4)
    return b"II*\0" + struct.pack("<I", place) + data + directory + lists


def valid(rng: random.Random, box: Box, channels: int) -> tuple[dict[int, list[int]], bytes]:
    """Tags and data of a picture of 48 × 40, in strips or tiles, as it is or deflated."""
    bits, is_deflated = rng.choice((8, 8, 16)), rng.random() < 0.5
    array = box.noise(40, 48, channels).astype(np.uint8 if bits == 8 else np.uint16)
    tags = {WIDTH: [48], HEIGHT: [40], BITS: [bits] * channels, SAMPLES: [channels]}
    tags |= {COMPRESSION: [8 if is_deflated else 1], PHOTOMETRIC: [2], PLANAR: [1], PREDICTOR: [1]}
    tags |= {FORMAT: [1] * channels, **({EXTRA: [0] * (channels - 3)} if channels > 3 else {})}
    is_tiled = rng.random() < 0.4
    if is_tiled:
        padded = np.zeros((48, 48, channels), array.dtype)
        padded[:40] = array
        parts = [padded[top : top + 16, left : left + 16].tobytes()
                 for top in (0, 16, 32) for left in (0, 16, 32)]  # fmt: skip
        tags |= {TILE_WIDTH: [16], TILE_HEIGHT: [16]}
    else:
        parts = [array[top : top + 20].tobytes() for top in (0, 20)]
        tags[ROWS] = [20]
    parts = [zlib.compress(part) if is_deflated else part for part in parts]
    offsets = [8 + sum(map(len, parts[:index])) for index in range(len(parts))]
    places = (TILES, TILE_BYTES) if is_tiled else (STRIPS, STRIP_BYTES)
    tags |= dict(zip(places, (offsets, [len(part) for part in parts]), strict=True))
    return tags, b"".join(parts)


def tag_of_ours(rng: random.Random, box: Box, channels: int) -> Made:
    """One value, or the number of values, of one tag is wrong."""
    tags, data = valid(rng, box, channels)
    tag, value = rng.choice(list(tags)), rng.choice((*NUMBERS, rng.getrandbits(32)))
    change = rng.choice(("value", "value", "all values", "fewer", "more", "none"))
    match change:
        case "value":
            tags[tag][rng.randrange(len(tags[tag]))] = value
        case "all values":
            tags[tag] = [value] * len(tags[tag])
        case "fewer":
            tags[tag] = tags[tag][:-1]
        case "more":
            tags[tag] = tags[tag] + [value] * rng.choice((1, 1000))
        case _:
            del tags[tag]
    return tiff(tags, data), f"{change} of tag {tag}: {value}", (RIGHT, REPORTED)


def bomb(rng: random.Random, box: Box, channels: int) -> Made:
    """Few bytes that stand for very many pixels, tiles, strips or deflated zeros."""
    tags, data = valid(rng, box, channels)
    what = rng.choice(("size", "tiles", "strips", "deflated", "samples"))
    side = rng.choice((30_000, 60_000, 2**31 - 1))
    expect: tuple[str, ...] = (REPORTED,)
    match what:
        case "size":
            tags |= {WIDTH: [side], HEIGHT: [side]}
        case "tiles":
            tags |= {WIDTH: [side], HEIGHT: [side], TILE_WIDTH: [1], TILE_HEIGHT: [1]}
            tags |= {TILES: [8], TILE_BYTES: [1]}
        case "strips":
            tags = {k: v for k, v in tags.items() if k not in (TILE_WIDTH, TILE_HEIGHT, TILES)}
            tags |= {HEIGHT: [side], ROWS: [1], STRIPS: [8], STRIP_BYTES: [48 * channels]}
        case "samples":
            tags |= {SAMPLES: [2**31], BITS: [8]}
        case _:
            data, expect = deflated_zeros(2 * 10**9), (RIGHT, REPORTED)
            tags = {k: v for k, v in tags.items() if k not in (TILE_WIDTH, TILE_HEIGHT, TILES)}
            tags |= {COMPRESSION: [8], ROWS: [40], STRIPS: [8], STRIP_BYTES: [len(data)]}
            tags.pop(TILE_BYTES, None)
    return tiff(tags, data), f"bomb: {what} of {side}", expect


def damaged(rng: random.Random, box: Box, channels: int) -> Made:
    content, what = mutated(rng, tiff(*valid(rng, box, channels)))
    return content, what, (RIGHT, REPORTED)


def tag_of_pillow(rng: random.Random, box: Box, channels: int) -> Made:
    """A TIFF with one value in its directory changed."""
    bits = rng.choice((8, 16))
    compression = rng.choice((None, "tiff_adobe_deflate", "tiff_lzw", "packbits"))
    array = box.noise(40, 48, 0 if bits == 16 else channels)
    array = array.astype(np.uint16) * 257 if bits == 16 else array
    options = {} if compression is None else {"compression": compression}
    content = bytearray(encoded(array, ".tif", **options))
    start = struct.unpack("<I", content[4:8])[0]
    number = struct.unpack("<H", content[start : start + 2])[0]
    entry = start + 2 + 12 * rng.randrange(number)
    tag = struct.unpack("<H", content[entry : entry + 2])[0]
    part = rng.choice(("value", "value", "value", "count", "type", "tag"))
    values = (0, 1, 2, 3, 7, 255, 65_535, 2**31 - 1, 2**32 - 1, rng.getrandbits(32))
    value = rng.choice(values)
    match part:
        case "value":
            content[entry + 8 : entry + 12] = struct.pack("<I", value)
        case "count":
            content[entry + 4 : entry + 8] = struct.pack("<I", value)
        case "type":
            content[entry + 2 : entry + 4] = struct.pack("<H", value & 0xFFFF)
        case _:
            content[entry : entry + 2] = struct.pack("<H", value & 0xFFFF)
    return bytes(content), f"{part} of TIFF tag {tag} is {value}", (RIGHT, REPORTED)
