"""TIFF files of any number of channels and any type of numbers, which Pillow cannot decode.

The tags are read here, also those of files that Pillow decodes, since they say how much memory and
time it would take. Source: TIFF 6.0 (Adobe, 1992), sections 2, 7, 14 and 15; its
Technical Note 3 (2005), the predictor of floats; BigTIFF.
"""

import struct
import zlib
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import BinaryIO

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16
from PIL import Image
from PIL.TiffImagePlugin import COMPRESSION_INFO, MAX_SAMPLESPERPIXEL

from ccnet.images.arrays import require_channels
from ccnet.images.bands import cannot_choose
from ccnet.images.opening import MAX_PIXELS, RESTORE, require_size
from ccnet.runtime.files import DataError, open_regular

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR, PREDICTOR, FORMAT = (
    *(256, 257, 258, 259, 262, 277, 284, 317, 339),
)
EXTRA_SAMPLES, ORIENTATION = 338, 274
STRIPS, ROWS, STRIP_BYTES = 273, 278, 279
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 322, 323, 324, 325
PLAIN, DEFLATE, OLD_DEFLATE = 1, 8, 32946
OLD_JPEG, JPEG = 6, 7
WHITE_IS_ZERO, GRAY, RGB, PALETTE, YCBCR = 0, 1, 2, 3, 6
ALPHA = (1, 2)
"""Values of the tag of extra samples that say that a band is transparency."""
SIGNED = 2
HORIZONTAL, FLOATING = 2, 3
"""Predictors: differences of whole numbers, and of the bytes of floats."""
TYPES = ("u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8")
KINDS = {1: "u", SIGNED: "i", 3: "f"}
"""Formats of the numbers, as NumPy's kinds."""
NODATA = 42113
"""GDAL's tag: the value of pixels that hold nothing, as text."""
INTEGERS = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8"}
"""Types of tags that hold whole numbers, as NumPy's."""
SIZES = dict(zip(range(1, 14), (1, 1, 2, 4, 8, 1, 1, 2, 4, 8, 4, 8, 4), strict=True)) | {
    **dict.fromkeys((16, 17, 18), 8)
}
"""Bytes of each value by the type of the tag."""
TEXTS = (1, 2, 6, 7)
"""Types of tags whose values are bytes, such as texts and color profiles."""
MAX_BLOCKS = 1 << 22
"""Strips or tiles of an image."""
MAX_TAG_BYTES = 500_000_000
"""Bytes of all tags of an image."""


class Tags:
    """The tags of the first image in a TIFF, which are read from the file on demand.

    Raises:
        DataError: the file is no TIFF or is truncated, or its tags need more than `MAX_TAG_BYTES`.
    """

    def __init__(self, path: Path, file: BinaryIO) -> None:
        self.path, self.file = path, file
        head = file.read(16)
        if head[:4] not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise self.wrong("it is no TIFF")
        self.order = "<" if head[:1] == b"I" else ">"
        self.is_big = b"+" in head[2:4]
        offset, count, entry = ("8xQ", "Q", "HHQ8s") if self.is_big else ("4xI", "H", "HHI4s")
        self.entries: dict[int, tuple[int, int, bytes]] = {}
        try:
            file.seek(*struct.unpack_from(self.order + offset, head))
            (num,) = struct.unpack(self.order + count, file.read(struct.calcsize(count)))
            step = struct.calcsize(self.order + entry)
            for place in struct.iter_unpack(self.order + entry, file.read(min(num, 65535) * step)):
                self.entries[place[0]] = place[1:]
        except (struct.error, OverflowError) as error:
            raise self.wrong(f"its list of tags is damaged. {RESTORE}") from error
        tables = [num for kind, num, _ in self.entries.values() if kind not in TEXTS]
        if self._num_bytes() > MAX_TAG_BYTES or sum(tables) > 2 * MAX_BLOCKS + 65536:
            raise self.wrong(f"its tags are larger than those of any image. {RESTORE}")

    def _num_bytes(self) -> int:
        return sum(SIZES.get(kind, 1) * num for kind, num, _ in self.entries.values())

    def wrong(self, cause: str) -> DataError:
        return DataError(f"{self.path}: {cause.rstrip('.')}.", path=self.path)

    def __contains__(self, tag: int) -> bool:
        return tag in self.entries

    def count(self, tag: int) -> int:
        """How many values a tag has."""
        return self.entries[tag][1] if tag in self.entries else 0

    def numbers(self, tag: int, default: Sequence[int] = ()) -> list[int] | np.ndarray:
        """The values of a tag of whole numbers; `default` without it."""
        if tag not in self.entries:
            if not default:
                raise self.wrong(f"its tag {tag} is missing. {RESTORE}")
            return list(default)
        kind, num, content = self.entries[tag]
        if kind not in INTEGERS or num < 1:
            raise self.wrong(f"its tag {tag} holds no whole number. {RESTORE}")
        dtype = np.dtype(self.order + INTEGERS[kind])
        if num * dtype.itemsize > len(content):
            self.file.seek(struct.unpack(self.order + ("Q" if self.is_big else "I"), content)[0])
            content = self.file.read(num * dtype.itemsize)
        if len(content) < num * dtype.itemsize:
            raise self.wrong(f"its tag {tag} is truncated. {RESTORE}")
        return np.frombuffer(content[: num * dtype.itemsize], dtype)

    def nodata(self) -> float | None:
        """The value of pixels that hold nothing; None if the file names none."""
        kind, num, content = self.entries.get(NODATA, (0, 0, b""))
        if kind != 2 or not 0 < num <= 64:
            return None
        if num > len(content):
            self.file.seek(struct.unpack(self.order + ("Q" if self.is_big else "I"), content)[0])
            content = self.file.read(num)
        try:
            return float(content[:num].rstrip(b"\0 "))
        except ValueError:
            return None

    def distinct(self, tag: int, default: int = 1) -> set[int]:
        """The different values of a tag; `default` alone without it."""
        return set(np.unique(self.numbers(tag, [default])).tolist())

    def number(self, tag: int, default: int | None = None) -> int:
        """The first value of a tag."""
        return int(self.numbers(tag, () if default is None else (default,))[0])


class Grid:
    """How an image is divided into strips or tiles.

    Raises:
        DataError: too many pixels, empty or huge blocks, or more of them than `MAX_BLOCKS`.
    """

    def __init__(self, tags: Tags, max_pixels: int = MAX_PIXELS) -> None:
        self.height, self.width = tags.number(HEIGHT), tags.number(WIDTH)
        require_size(tags.path, self.width, self.height, max_pixels)
        self.channels = tags.number(SAMPLES, 1)
        self.is_planar = tags.number(PLANAR, 1) == 2
        self.is_tiled = TILES in tags
        if self.is_tiled:
            self.block = (tags.number(TILE_HEIGHT), tags.number(TILE_WIDTH))
        else:
            rows = tags.number(ROWS, self.height)
            self.block = (min(rows, self.height), self.width)
        high, wide = self.block
        if high < 1 or wide < 1 or self.channels < 1:
            raise tags.wrong(f"strips or tiles of {wide}×{high} pixels. {RESTORE}")
        down, across = -(-self.height // high), -(-self.width // wide)
        self.num_blocks = down * across * (self.channels if self.is_planar else 1)
        if down * high * across * wide > 2 * max_pixels or self.num_blocks > MAX_BLOCKS:
            raise tags.wrong(
                f"{self.num_blocks} strips or tiles of {wide}×{high} pixels are too many or too "
                "large; save it in strips, or in tiles of 256×256"
            )
        given = tags.count(TILES if self.is_tiled else STRIPS)
        if given < self.num_blocks:  # Pillow would leave the others black
            raise self.wrong_number(tags, given)
        for tag in (STRIPS, STRIP_BYTES, TILES, TILE_BYTES):
            if tags.count(tag) > max(self.num_blocks, 1 << 16):
                raise self.wrong_number(tags, tags.count(tag))

    def wrong_number(self, tags: Tags, found: int) -> DataError:
        return tags.wrong(f"{found} strips or tiles where {self.num_blocks} should be. {RESTORE}")


def require_decodable(path: Path, file: BinaryIO, max_pixels: int = MAX_PIXELS) -> Tags:
    """Raises DataError for a TIFF whose decoding by Pillow would be wrong, or take too much memory.

    Returns its tags otherwise. The file is left at its begin.
    """
    tags = Tags(path, file)
    channels, compression = Grid(tags, max_pixels).channels, tags.number(COMPRESSION, PLAIN)
    if channels > MAX_SAMPLESPERPIXEL:
        raise tags.wrong(f"{channels} channels, where pictures have up to 4; {SAVE_BANDS}")
    if compression not in COMPRESSION_INFO:
        raise tags.wrong(f"compression {compression}; save it uncompressed or with deflate")
    if tags.distinct(FORMAT) == {SIGNED} and tags.distinct(BITS) == {8}:
        raise tags.wrong("numbers of 8 bits with a sign; save unsigned 8 or 16 bits")
    file.seek(0)
    return tags


SAVE_BANDS = "save 1 or 3, or train on them with --data.bands"


def known_colors(tags: Tags) -> int:
    """The number of bands besides transparency.

    Raises:
        DataError: there are bands that are neither gray nor RGB nor called transparency.
    """
    num, meaning = tags.number(SAMPLES, 1), tags.number(PHOTOMETRIC, GRAY)
    if meaning not in (WHITE_IS_ZERO, GRAY, RGB):
        return num
    colors = 3 if meaning == RGB else 1
    is_alpha = num == colors + 1 and int(tags.numbers(EXTRA_SAMPLES, [0])[-1]) in ALPHA
    if num > colors and not is_alpha:
        raise DataError(f"{tags.path}: {cannot_choose(num)}", path=tags.path)
    return colors


def stored_type(tags: Tags) -> np.dtype:
    """The type of a file's numbers; raises DataError for one that NumPy has not."""
    bits, kinds = tags.distinct(BITS), tags.distinct(FORMAT)
    name = KINDS.get(min(kinds), "") + str(min(bits) // 8)
    if len(bits) > 1 or len(kinds) > 1 or min(bits) % 8 or name not in TYPES:
        raise tags.wrong(
            f"numbers of {bits} bits and format {kinds}; save unsigned 8 or 16 bits, or floats"
        )
    return np.dtype(tags.order + name)


def read_stored_tiff(
    path: Path, file: BinaryIO, max_pixels: int = MAX_PIXELS
) -> Shaped[np.ndarray, "h w c"]:
    """As `read_tiff`, of an open file, and whatever the type of its numbers is."""
    return _Layout(Tags(path, file), max_pixels).read()


def read_tiff(
    path: Path, channels: int | None = None, max_pixels: int = MAX_PIXELS
) -> UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]:
    """All channels of the first image in a TIFF: uncompressed or deflated, in strips or tiles.

    Args:
        path: of the file.
        channels: the number wanted; by default any.
        max_pixels: height times width at most.

    Raises:
        OSError: the file cannot be opened.
        DataError: another number of channels, compression or data type, too many pixels, or a
            truncated file.
    """
    with open_regular(path) as file:
        tags = Tags(path, file)
        if channels is not None:
            require_channels(path, tags.number(SAMPLES, 1), channels)
        layout = _Layout(tags, max_pixels)
        if layout.kind.kind != "u" or layout.kind.itemsize > 2:
            raise tags.wrong(f"numbers of the type {layout.kind.name}; save unsigned 8 or 16 bits")
        return layout.read()


def has_plain_16_bit_planes(picture: Image.Image) -> bool:
    """Whether an opened file is an uncompressed RGB TIFF with 16-bit channels in separate planes.

    Pillow takes each byte of such a file for a pixel, which gives noise without an error.
    """
    tags = getattr(picture, "tag_v2", {})
    kind = (tags.get(PLANAR), tags.get(COMPRESSION, PLAIN), tags.get(PHOTOMETRIC))
    return kind == (2, PLAIN, RGB) and 16 in tags.get(BITS, ())


class _Layout(Grid):
    """Where the pixels are in the file, and how they are encoded."""

    def __init__(self, tags: Tags, max_pixels: int) -> None:
        super().__init__(tags, max_pixels)
        self.tags = tags
        self.kind = stored_type(tags)
        self.compression = tags.number(COMPRESSION, PLAIN)
        if self.compression not in (PLAIN, DEFLATE, OLD_DEFLATE):
            raise tags.wrong(
                f"compression {self.compression}; save it uncompressed or with deflate, or as .npy"
            )
        self.predictor = tags.number(PREDICTOR, 1)
        is_float = self.kind.kind == "f"
        if self.predictor not in (1, FLOATING if is_float else HORIZONTAL):
            raise tags.wrong(f"predictor {self.predictor}; save it without")
        names = (TILES, TILE_BYTES) if self.is_tiled else (STRIPS, STRIP_BYTES)
        self.offsets, self.sizes = (tags.numbers(name) for name in names)
        for found in (len(self.offsets), len(self.sizes)):
            if found != self.num_blocks:
                raise self.wrong_number(tags, found)

    def read(self) -> np.ndarray:
        kind = self.kind.newbyteorder("=")
        image = np.empty((self.height, self.width, self.channels), kind)
        planes = (
            [slice(c, c + 1) for c in range(self.channels)] if self.is_planar else [slice(None)]
        )
        rows, columns = range(0, self.height, self.block[0]), range(0, self.width, self.block[1])
        places = zip(self.offsets, self.sizes, strict=True)
        corners = product(planes, rows, columns)
        for (plane, top, left), (offset, size) in zip(corners, places, strict=True):
            part = image[top : top + self.block[0], left : left + self.block[1], plane]
            block = self._block(int(offset), int(size), part)
            part[:] = block[: part.shape[0], : part.shape[1]]
        return image

    def _block(self, offset: int, size: int, part: np.ndarray) -> np.ndarray:
        """The decoded pixels of one strip or tile.

        The last strip holds only the remaining rows; tiles at the border are padded.
        """
        shape = (-1, self.block[1], part.shape[2])
        row = shape[1] * shape[2] * self.kind.itemsize
        most = self.block[0] * row
        self.tags.file.seek(offset)
        content = self.tags.file.read(min(size, 2 * most + 4096))
        if self.compression == PLAIN:
            content = content[:most]
        else:
            stream = zlib.decompressobj()
            content, rest = stream.decompress(content, most), stream.unconsumed_tail
            if not stream.eof and not stream.decompress(rest, 1) and not stream.eof:
                raise self.tags.wrong(f"a strip or tile is truncated. {RESTORE}")
        content = content[: len(content) - len(content) % row]
        if self.predictor == FLOATING:
            block = self._from_byte_planes(np.frombuffer(content, np.uint8), shape)
        else:
            block = np.frombuffer(content, self.kind).reshape(shape)
        if len(block) < part.shape[0]:
            raise self.tags.wrong(
                f"{len(block)} rows where {part.shape[0]} should be; the file is truncated. "
                f"{RESTORE}"
            )
        if self.predictor == HORIZONTAL:
            block = np.cumsum(block, axis=1, dtype=self.kind.newbyteorder("="))
        return block

    def _from_byte_planes(self, content: np.ndarray, shape: tuple[int, int, int]) -> np.ndarray:
        """Floats of which each row holds the highest bytes first, as differences of bytes."""
        size, (_, width, channels) = self.kind.itemsize, shape
        rows = np.cumsum(content.reshape(-1, width * size, channels), axis=1, dtype=np.uint8)
        planes = rows.reshape(-1, size, width * channels).transpose(0, 2, 1)
        return np.ascontiguousarray(planes).view(f">f{size}").reshape(shape)
