"""What a label map says about how it was made: one text chunk in its PNG file.

A stamp names the model with everything that its labels depend on, and the size and time of change
of the image file. A file that has the stamp it would get again need not be made again; a file
without a stamp was made by somebody else. Reading a stamp decodes no pixels.
"""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from ccnet.models.ccnet import CCNet
from ccnet.runtime.disk import write_whole

KEY = "ccnet"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def fingerprint(model: CCNet, dtype: torch.dtype) -> str:
    """SHA-256 of everything that labels depend on besides the image.

    These are the configuration of the model, its weights and the dtype that it computes in. The
    device is left out: label maps of one folder may be made on different machines.
    """
    description = {"model": model.arguments, "options": {"dtype": str(dtype)}}
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
    return f"model={maker} image={facts.st_size}/{facts.st_mtime_ns}"


@dataclass(frozen=True)
class PictureFile:
    """A file where a label map, or a picture of one, would be written."""

    path: Path
    stamp: str | None
    """None if the file is not a PNG of `ccnet predict`."""
    is_complete: bool
    """Whether the file ends as a PNG does."""
    size: tuple[int, int]
    """Width and height."""

    def has_stamp(self, stamp: str) -> bool:
        """Whether the file is complete and has this stamp."""
        return self.is_complete and self.stamp == stamp


def inspect_picture(path: Path) -> PictureFile | None:
    """The file at a path; None if there is none.

    Only the chunks before the pixels and the last twelve bytes are read. An empty file, which a
    crash of the machine may leave of a new one, counts as none.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        if file.seek(0, os.SEEK_END) == 0:
            return None
        file.seek(0)
        try:
            header = Image.open(file, formats=["PNG"])
        except Exception:  # of a corrupt file, Pillow raises far more than OSError
            return PictureFile(path, None, False, (0, 0))
        file.seek(-len(PNG_END), os.SEEK_END)
        return PictureFile(path, header.info.get(KEY), file.read() == PNG_END, header.size)


def write_png(path: Path, array: np.ndarray, stamp: str) -> None:
    """Write an array as a PNG with a stamp, under another name first, which is then renamed.

    The file is not flushed to disk, which can take as long as encoding it (16 of 31 ms for 480×360
    pixels). A crash of the machine may thus leave an empty or truncated file; `inspect_picture`
    recognizes it, and the same command writes it again.
    """
    chunks = PngInfo()
    chunks.add_text(KEY, stamp)
    picture = Image.fromarray(array)
    write_whole(
        path, lambda file: picture.save(file, format="PNG", pnginfo=chunks), flush_to_disk=False
    )
