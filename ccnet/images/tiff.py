"""TIFF files of any number of channels, of 8 or 16 bits, which Pillow cannot decode.

Pillow reads the tags. Source: TIFF 6.0 (Adobe, 1992), sections 2, 7, 14 and 15.
"""

import zlib
from pathlib import Path

import numpy as np
from jaxtyping import UInt8, UInt16
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

WIDTH, HEIGHT, BITS, COMPRESSION, PHOTOMETRIC, SAMPLES, PLANAR, PREDICTOR, FORMAT = (
    *(256, 257, 258, 259, 262, 277, 284, 317, 339),
)
STRIPS, ROWS, STRIP_BYTES = 273, 278, 279
TILE_WIDTH, TILE_HEIGHT, TILES, TILE_BYTES = 322, 323, 324, 325
PLAIN, DEFLATE, OLD_DEFLATE = 1, 8, 32946
RGB = 2


def read_tiff(path: Path) -> UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]:
    """All channels of the first image in a TIFF: uncompressed or deflated, in strips or tiles.

    Raises:
        ValueError: another compression or data type, or a truncated file.
    """
    with path.open("rb") as file:
        head = file.read(16)
        if head[:4] not in (b"II*\0", b"MM\0*", b"II+\0"):  # Pillow cannot read MM\0+
            raise ValueError("no TIFF, or a big-endian BigTIFF, which is not supported")
        tags = ImageFileDirectory_v2(head if head[2] == ord("+") else head[:8])
        file.seek(tags.next)
        tags.load(file)
        return _Layout(tags).read(file, "<" if head[:1] == b"I" else ">")


def has_plain_16_bit_planes(picture: Image.Image) -> bool:
    """Whether an opened file is an uncompressed RGB TIFF with 16-bit channels in separate planes.

    Pillow takes each byte of such a file for a pixel, which gives noise without an error.
    """
    tags = getattr(picture, "tag_v2", {})
    kind = (tags.get(PLANAR), tags.get(COMPRESSION, PLAIN), tags.get(PHOTOMETRIC))
    return kind == (2, PLAIN, RGB) and 16 in tags.get(BITS, ())


class _Layout:
    """Where the pixels are in the file, and how they are encoded."""

    def __init__(self, tags: ImageFileDirectory_v2) -> None:
        self.height, self.width = int(tags[HEIGHT]), int(tags[WIDTH])
        self.channels = int(tags.get(SAMPLES, 1))
        bits, kinds = set(tags.get(BITS, (1,))), set(tags.get(FORMAT, (1,)))
        if kinds != {1} or bits not in ({8}, {16}):
            raise ValueError(
                f"numbers of {bits} bits and format {kinds}; save unsigned 8 or 16 bits"
            )
        self.bits = bits.pop()
        self.compression = tags.get(COMPRESSION, PLAIN)
        if self.compression not in (PLAIN, DEFLATE, OLD_DEFLATE):
            raise ValueError(
                f"compression {self.compression}; save it uncompressed or with deflate, or as .npy"
            )
        self.predictor = tags.get(PREDICTOR, 1)
        if self.predictor not in (1, 2):
            raise ValueError(f"predictor {self.predictor}; save it without, or with 2 (horizontal)")
        self.is_planar = tags.get(PLANAR, 1) == 2
        if TILES in tags:
            self.block = (int(tags[TILE_HEIGHT]), int(tags[TILE_WIDTH]))
            self.places = list(zip(tags[TILES], tags[TILE_BYTES], strict=True))
        else:
            self.block = (min(int(tags.get(ROWS, self.height)), self.height), self.width)
            self.places = list(zip(tags[STRIPS], tags[STRIP_BYTES], strict=True))

    def read(self, file, order: str) -> np.ndarray:
        kind = np.dtype(f"{order}u{self.bits // 8}")
        image = np.empty((self.height, self.width, self.channels), kind.newbyteorder("="))
        planes = (
            [slice(c, c + 1) for c in range(self.channels)] if self.is_planar else [slice(None)]
        )
        rows, columns = range(0, self.height, self.block[0]), range(0, self.width, self.block[1])
        corners = [(plane, top, left) for plane in planes for top in rows for left in columns]
        for (plane, top, left), (offset, size) in zip(corners, self.places, strict=True):
            file.seek(offset)
            content = file.read(size)
            if self.compression != PLAIN:
                content = zlib.decompress(content)
            part = image[top : top + self.block[0], left : left + self.block[1], plane]
            block = self._block(content, kind, part)
            part[:] = block[: part.shape[0], : part.shape[1]]
        return image

    def _block(self, content: bytes, kind: np.dtype, part: np.ndarray) -> np.ndarray:
        """The decoded pixels of one strip or tile.

        The last strip holds only the remaining rows; tiles at the border are padded.
        """
        shape = (-1, self.block[1], part.shape[2])
        length = len(content) - len(content) % (shape[1] * shape[2] * kind.itemsize)
        block = np.frombuffer(content[:length], kind).reshape(shape)
        if len(block) < part.shape[0]:
            raise ValueError(
                f"{len(block)} rows where {part.shape[0]} should be; the file is truncated"
            )
        if self.predictor == 2:
            block = np.cumsum(block, axis=1, dtype=kind.newbyteorder("="))
        return block
