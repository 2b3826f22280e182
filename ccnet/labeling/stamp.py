"""What a label map says about how it was made: one text chunk in its PNG file.

A stamp names the model with everything that its labels depend on, and the size and time of change
of the image file. A file that has the stamp it would get again need not be made again; a file
without a stamp was made by somebody else.

The chunk also has a digest of all other bytes of the file. Damaged pixels, which do not fit the
checksums of a PNG, are made again. Pixels that somebody has changed, with checksums that fit, make
the file somebody else's. For this the file is read but not decoded: 0.04 ms for 480×360 pixels.
"""

import hashlib
import io
import json
import stat
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch
from PIL import Image

from ccnet.images.colors import Palette
from ccnet.images.video import read_video_stamp
from ccnet.images.writing import read_tiff_stamp
from ccnet.models.ccnet import CCNet
from ccnet.runtime.files import open_regular

KEY = b"ccnet\0"
"""How the text chunk of a stamp begins."""
MAKER = "model="
"""How a stamp begins."""
DIGEST = " sha256="
"""What stands between the stamp and the digest of the other bytes; version 0.1.0 wrote neither."""
MAX_STAMP = 1000
"""Bytes of a text chunk that can be a stamp."""
SIGNATURE = b"\x89PNG\r\n\x1a\n"
START = SIGNATURE + b"\0\0\0\x0dIHDR"
HEAD = len(START) + 17
"""Bytes before the stamp: the signature, and the chunk with the size of the picture."""
BLOCK = 1 << 20
"""Bytes that are read at once."""


def fingerprint(model: CCNet, dtype: torch.dtype, **options: Any) -> str:
    """SHA-256 of everything that labels depend on besides the image.

    These are the configuration of the model, its weights, the dtype that it computes in, and
    options such as a protocol that is asked for. The device is left out: label maps of one folder
    may be made on different machines.
    """
    description = {"model": model.arguments, "options": {"dtype": str(dtype), **options}}
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def stamp_of(image: Path, maker: str) -> str | None:
    """The stamp of what a model makes of an image file; None if there is no such file.

    Args:
        image: the image file.
        maker: the fingerprint of the model.
    """
    try:
        facts = image.stat()
    except OSError:
        return None
    return f"{MAKER}{maker} image={facts.st_size}/{facts.st_mtime_ns}"


@dataclass(frozen=True)
class PictureFile:
    """A file where a label map, or a picture of one, would be written."""

    path: Path
    stamp: str | None = None
    """None if the file is not a PNG of `ccnet predict`, or was changed since."""
    is_whole: bool = False
    """Whether nothing of the file is missing or damaged."""
    size: tuple[int | None, int | None] = (None, None)
    """Width and height of a PNG."""

    def has_stamp(self, stamp: str) -> bool:
        """Whether the file is whole and has this stamp."""
        return self.is_whole and self.stamp == stamp


def inspect_picture(path: Path) -> PictureFile | None:
    """The file at a path; None if there is none.

    It is a PNG, or with the suffix .npy an array. An empty file, which a crash of the machine may
    leave of a new one, counts as none. What is no regular file, links included, was not made by
    `ccnet predict`, and is not opened.

    Raises:
        OSError: the file cannot be read, or its name is too long.
    """
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(mode):
        return PictureFile(path)
    with open_regular(path) as file:
        if path.suffix == ".npy":
            return _inspect_array(path, file)
        head = file.read(HEAD)
        text = _read_stamp(file) if head.startswith(START) else None
        if text is None:
            return PictureFile(path) if head else None
        stamp, _, digest = text.partition(DIGEST)
        is_whole, found = _read_rest(file, head)
    if is_whole and digest and digest != found:
        return PictureFile(path)
    size = struct.unpack_from(">II", head, len(START))
    return PictureFile(path, stamp, is_whole, size)


def inspect_file(path: Path) -> PictureFile | None:
    """As `inspect_picture`, also of a TIFF or a video of labels.

    These say only who made them: whether somebody changed them since is not seen.

    Raises:
        OSError: the file cannot be read, or its name is too long.
        ImportError: the package that reads it is not installed.
    """
    readers = {".tif": read_tiff_stamp, ".mp4": read_video_stamp}
    if path.suffix not in readers:
        return inspect_picture(path)
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(facts.st_mode):
        return PictureFile(path)
    if facts.st_size == 0:
        return None
    stamp = readers[path.suffix](path)
    is_own = stamp is not None and stamp.startswith(MAKER)
    return PictureFile(path, stamp if is_own else None, is_whole=is_own)


def _inspect_array(path: Path, file: BinaryIO) -> PictureFile | None:
    size = file.seek(0, io.SEEK_END)
    if size == 0:
        return None
    start = max(0, size - MAX_STAMP)
    file.seek(start)
    end = file.read()
    place = end.rfind(b"\n" + KEY)
    if place < 0 or DIGEST.encode() not in end[place:]:
        return PictureFile(path)
    stamp, _, found = end[place + 1 + len(KEY) :].decode("latin-1").partition(DIGEST)
    file.seek(0)
    digest, left = hashlib.sha256(), start + place
    while left > 0 and (block := file.read(min(left, BLOCK))):
        digest.update(block)
        left -= len(block)
    return PictureFile(path, stamp, digest.hexdigest() == found)


def _read_stamp(file: BinaryIO) -> str | None:
    """The text of the chunk that follows, with the digest; None if that is no stamp."""
    start = file.read(8)
    length = int.from_bytes(start[:4], "big")
    if start[4:] != b"tEXt" or length > MAX_STAMP:
        return None
    content, checksum = file.read(length), file.read(4)
    if not content.startswith(KEY) or checksum != _checksum(b"tEXt" + content):
        return None
    return content.removeprefix(KEY).decode("latin-1")


def _read_rest(file: BinaryIO, head: bytes) -> tuple[bool, str]:
    """Whether all chunks of a PNG are there with the right checksums, and the digest of all bytes.

    Args:
        file: the rest of the file, after the stamp.
        head: what stands before the stamp.
    """
    digest = hashlib.sha256(head)
    is_whole, kind = head[-4:] == _checksum(head[len(SIGNATURE) + 4 : -4]), b""
    while is_whole and (start := file.read(8)):
        digest.update(start)
        left, kind = int.from_bytes(start[:4], "big"), start[4:]
        crc = zlib.crc32(kind)
        while left > 0 and (block := file.read(min(left, BLOCK))):
            digest.update(block)
            crc = zlib.crc32(block, crc)
            left -= len(block)
        checksum = file.read(4)
        digest.update(checksum)
        is_whole = checksum == crc.to_bytes(4, "big")
    return is_whole and kind == b"IEND", digest.hexdigest()


def _checksum(chunk: bytes) -> bytes:
    return zlib.crc32(chunk).to_bytes(4, "big")


def encode_plain_png(array: np.ndarray, palette: Palette | None = None) -> bytes:
    """The PNG file of an array, with a palette of its numbers if one is given.

    Written by Pillow itself, a full disk would have no cause.
    """
    buffer = io.BytesIO()
    picture = Image.fromarray(array)
    if palette is not None:
        picture.putpalette([value for color in palette for value in color])
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


def encode_png(array: np.ndarray, stamp: str, palette: Palette | None = None) -> bytes:
    """The PNG file of an array, with a stamp; see `encode_plain_png`."""
    content = encode_plain_png(array, palette)
    text = f"{stamp}{DIGEST}{hashlib.sha256(content).hexdigest()}"
    chunk = b"tEXt" + KEY + text.encode("latin-1")
    length = (len(chunk) - 4).to_bytes(4, "big")
    return content[:HEAD] + length + chunk + _checksum(chunk) + content[HEAD:]


def encode_array(array: np.ndarray, stamp: str) -> bytes:
    """The .npy file of an array, with a stamp after the numbers, where readers do not look."""
    buffer = io.BytesIO()
    np.save(buffer, array)
    content = buffer.getvalue()
    text = f"{stamp}{DIGEST}{hashlib.sha256(content).hexdigest()}"
    return content + b"\n" + KEY + text.encode("latin-1")
