"""TIFFs of many channels, written here by the specification, and by Pillow where it can."""

import os
import struct
import tracemalloc
import zlib
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.images.reading import read_image
from ccnet.images.tiff import read_tiff
from ccnet.runtime.files import DataError

SIZES = {1: "B", 2: "B", 3: "H", 4: "I"}


def write_tiff(
    path: Path,
    image: np.ndarray,
    *,
    order: str = "<",
    planar: bool = False,
    block: tuple[int, int] | None = None,
    rows: int = 8,
    deflate: bool = False,
    predict: bool = False,
    **changes: tuple[int, list[int]],
) -> Path:
    """A TIFF in strips of `rows`, or in tiles of `block`."""
    height, width, channels = image.shape
    planes = [image[:, :, c : c + 1] for c in range(channels)] if planar else [image]
    high, wide = block or (rows, width)
    parts = []
    for plane, top, left in product(planes, range(0, height, high), range(0, width, wide)):
        part = plane[top : top + high, left : left + wide]
        if block is not None:
            rest = (high - part.shape[0], wide - part.shape[1])
            part = np.pad(part, ((0, rest[0]), (0, rest[1]), (0, 0)))
        if predict:
            part = np.concatenate([part[:, :1], np.diff(part, axis=1)], axis=1)
        content = part.astype(part.dtype.newbyteorder(order)).tobytes()
        parts.append(zlib.compress(content) if deflate else content)
    offsets = [8 + sum(map(len, parts[:index])) for index in range(len(parts))]
    tags = {
        256: (4, [width]),
        257: (4, [height]),
        258: (3, [8 * image.itemsize] * channels),
        259: (3, [8 if deflate else 1]),
        262: (3, [1]),
        277: (3, [channels]),
        284: (3, [2 if planar else 1]),
        317: (3, [2 if predict else 1]),
    }
    lengths = list(map(len, parts))
    if block is None:
        tags |= {273: (4, offsets), 278: (4, [rows]), 279: (4, lengths)}
    else:
        tags |= {322: (4, [wide]), 323: (4, [high]), 324: (4, offsets), 325: (4, lengths)}
    tags |= {int(tag.removeprefix("tag")): value for tag, value in changes.items()}
    start = 8 + sum(lengths)
    directory, beyond = struct.pack(order + "H", len(tags)), b""
    end = start + 2 + 12 * len(tags) + 4
    for tag, (kind, values) in sorted(tags.items()):
        content = struct.pack(f"{order}{len(values)}{SIZES[kind]}", *values)
        directory += struct.pack(order + "HHI", tag, kind, len(values))
        if len(content) > 4:
            directory += struct.pack(order + "I", end + len(beyond))
            beyond += content
        else:
            directory += content.ljust(4, b"\0")
    mark = b"II" if order == "<" else b"MM"
    head = mark + struct.pack(order + "HI", 42, start)
    path.write_bytes(head + b"".join(parts) + directory + bytes(4) + beyond)
    return path


def channels_image(channels: int, dtype: type) -> np.ndarray:
    rng = np.random.default_rng(channels)
    return rng.integers(0, np.iinfo(dtype).max + 1, (45, 70, channels), dtype)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("block", [None, (16, 32)], ids=["strips", "tiles"])
@pytest.mark.parametrize(("deflate", "predict"), [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize(("channels", "dtype"), [(2, np.uint8), (4, np.uint8), (7, np.uint16)])
def test_every_layout_comes_back(tmp_path, channels, dtype, order, planar, block, deflate, predict):
    image = channels_image(channels, dtype)
    options = {"order": order, "planar": planar, "block": block}
    path = write_tiff(tmp_path / "a.tif", image, **options, deflate=deflate, predict=predict)
    read = read_tiff(path)
    assert read.dtype == dtype
    np.testing.assert_array_equal(read, image)


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("block", [None, (16, 32)], ids=["strips", "tiles"])
@pytest.mark.parametrize("channels", [3, 4])
def test_colors_of_sixteen_bits_in_planes_are_scaled_to_eight(tmp_path, channels, block, order):
    image = channels_image(channels, np.uint16)
    changes = {"tag262": (3, [2]), "tag274": (3, [3])}  # RGB, upside down
    if channels == 4:
        changes["tag338"] = (3, [2])  # alpha
    write_tiff(tmp_path / "a.tif", image, order=order, planar=True, block=block, **changes)
    expected = np.rint(image[::-1, ::-1, :3] / 257).astype(np.uint8)
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif"), expected)


@pytest.mark.parametrize("compression", [None, "tiff_adobe_deflate"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "CMYK", "L"])
def test_pillows_files_are_read_as_pillow_reads_them(tmp_path, mode, compression):
    image = channels_image(4, np.uint8)[:, :, : len(Image.new(mode, (1, 1)).getbands())]
    picture = Image.fromarray(image.squeeze(), mode if mode == "CMYK" else None)
    picture.save(tmp_path / "a.tif", compression=compression)
    np.testing.assert_array_equal(read_tiff(tmp_path / "a.tif"), image)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tag259": (3, [5])}, "compression 5; save it uncompressed or with deflate, or as .npy"),
        ({"tag317": (3, [3])}, "predictor 3"),
        ({"tag339": (3, [3, 3])}, "numbers of the type float16; save"),
        ({"tag258": (3, [32, 32])}, "numbers of the type uint32; save"),
        ({"tag257": (4, [47])}, "rows where"),
    ],
)
def test_what_is_not_read_is_told(tmp_path, changes, words):
    path = write_tiff(tmp_path / "a.tif", channels_image(2, np.uint16), **changes)
    with pytest.raises(ValueError, match=words):
        read_tiff(path)


def test_another_file_is_no_tiff(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with pytest.raises(ValueError, match="no TIFF"):
        read_tiff(tmp_path / "a.png")


@pytest.mark.parametrize("channels", [3, 5])
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tag256": (4, [2**32 - 1])}, "4294967295×45 pixels, more than the limit of 50 million"),
        ({"tag257": (4, [0])}, "70×0 pixels, where an image has at least one"),
        ({"tag322": (4, [0])}, "strips or tiles of 0×16 pixels"),
        ({"tag322": (4, [60000]), "tag323": (4, [60000])}, "are too many or too large; save it in"),
        (
            {"tag256": (4, [7000]), "tag257": (4, [7000]), "tag322": (4, [1]), "tag323": (4, [1])},
            "49000000 strips or tiles of 1×1 pixels are too many",
        ),
        ({"tag257": (2, [65])}, "its tag 257 holds no whole number"),
        ({"tag259": (3, [1234])}, "compression 1234; save it uncompressed or with deflate"),
    ],
)
def test_sizes_that_would_take_all_memory_are_told(tmp_path, channels, changes, words):
    image = channels_image(channels, np.uint8)
    path = write_tiff(tmp_path / "a.tif", image, block=(16, 16), **changes)
    with pytest.raises(DataError, match=rf"a\.tif: .*{words}"):
        read_image(path, channels)


@pytest.mark.parametrize("channels", [3, 5])
def test_tables_of_another_length_and_too_many_channels_are_told(tmp_path, channels):
    image = channels_image(channels, np.uint8)
    path = write_tiff(tmp_path / "a.tif", image, tag273=(4, [8] * 70000))
    with pytest.raises(DataError, match="70000 strips or tiles where 6 should be"):
        read_image(path, channels)
    path = write_tiff(tmp_path / "a.tif", image, tag277=(3, [65535]))
    with pytest.raises(DataError, match=r"a\.tif: 65535 (channels|bands)"):
        read_image(path, channels)


def test_tags_larger_than_any_image_are_not_read(tmp_path):
    path = write_tiff(tmp_path / "a.tif", channels_image(3, np.uint8))
    content = bytearray(path.read_bytes())
    place = content.rindex(struct.pack("<HHI", 317, 3, 1))
    content[place : place + 8] = struct.pack("<HHI", 700, 7, 2**32 - 1)  # XMP
    path.write_bytes(content)
    os.truncate(path, 5 << 30)  # takes no room on the disk
    with pytest.raises(DataError, match="its tags are larger than those of any image"):
        read_image(path)


@pytest.mark.slow
def test_a_deflated_strip_gives_no_more_than_its_pixels(tmp_path):
    image = np.zeros((8, 8, 5), np.uint8)
    path = write_tiff(tmp_path / "a.tif", image, deflate=True)
    bomb = zlib.compress(bytes(200_000_000), 9)
    content = path.read_bytes()
    start, length = len(content), struct.pack("<I", len(bomb))
    for tag, value in ((273, struct.pack("<I", start)), (279, length)):
        place = content.rindex(struct.pack("<HHI", tag, 4, 1)) + 8
        content = content[:place] + value + content[place + 4 :]
    path.write_bytes(content + bomb)
    tracemalloc.start()
    try:
        np.testing.assert_array_equal(read_image(path, 5), image)
        assert tracemalloc.get_traced_memory()[1] < 5_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("damage", ["pixels", "checksum", "end"])
def test_damage_in_a_deflated_strip_is_seen(tmp_path, damage):
    image = channels_image(5, np.uint8)[:8]
    content = bytearray(write_tiff(tmp_path / "a.tif", image, deflate=True).read_bytes())
    length = len(zlib.compress(image.tobytes()))
    if damage == "end":
        place = content.rindex(struct.pack("<HHI", 279, 4, 1)) + 8
        content[place : place + 4] = struct.pack("<I", length - 2)
    else:
        content[8 + (length // 2 if damage == "pixels" else length - 2)] ^= 1
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(DataError, match=r"a\.tif: (cannot be read|a strip or tile is truncated)"):
        read_image(tmp_path / "a.tif", 5)


def test_numbers_with_a_sign_are_refused(tmp_path):
    path = write_tiff(tmp_path / "a.tif", np.zeros((8, 8, 1), np.uint8), tag339=(3, [2]))
    with pytest.raises(DataError, match="numbers of 8 bits with a sign; save unsigned 8 or 16"):
        read_image(path)


@pytest.mark.parametrize("length", [8, 9, 30])
def test_a_list_of_tags_without_end_is_told(tmp_path, length):
    (tmp_path / "a.tif").write_bytes(b"II*\0\x08\0\0\0\xff\xff".ljust(30, b"\1")[:length])
    with pytest.raises(DataError, match="its list of tags is damaged"):
        read_image(tmp_path / "a.tif")
