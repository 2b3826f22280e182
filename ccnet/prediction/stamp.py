"""What a picture of ours says about its making: one text chunk in the PNG, read without decoding.

A stamp names the model with all that changes its labels, and the image file by size and time of
change. A picture that bears the stamp it would get again needn't be made again; one without any
stamp is somebody else's.
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

KEY = "ccnet"
PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def fingerprint(model: CCNet, **options: object) -> str:
    """SHA-256 of a model's configuration and weights, and of the options of its prediction."""
    description = {"model": model.arguments, "options": options}
    digest = hashlib.sha256(json.dumps(description, sort_keys=True, default=str).encode())
    for name, tensor in sorted(model.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def stamp_of(image: Path, maker: str) -> str | None:
    """The stamp of what `maker`, a fingerprint, makes of an image file; None if there is none."""
    try:
        facts = image.stat()
    except OSError:
        return None
    return f"model={maker} image={facts.st_size}/{facts.st_mtime_ns}"


@dataclass(frozen=True)
class Picture:
    """A file where one of ours would go: what it says of itself, without its pixels."""

    path: Path
    stamp: str | None
    """None: somebody else's."""
    whole: bool
    size: tuple[int, int]
    """Width and height."""


def read_picture(path: Path) -> Picture | None:
    """The file at a path, None where there is nothing.

    Reads the chunks before the pixels and the last twelve bytes.
    """
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return None
    with file:
        if file.seek(0, os.SEEK_END) == 0:  # what a machine's crash may leave of a new file
            return None
        file.seek(0)
        try:
            header = Image.open(file, formats=["PNG"])
        except Exception:  # no PNG; Pillow raises far more than OSError on corrupt ones
            return Picture(path, None, False, (0, 0))
        file.seek(-len(PNG_END), os.SEEK_END)
        return Picture(path, header.info.get(KEY), file.read() == PNG_END, header.size)


def write_png(path: Path, array: np.ndarray, stamp: str) -> None:
    """Written beside and renamed, so that after a kill a file that is there is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    chunks = PngInfo()
    chunks.add_text(KEY, stamp)
    try:
        Image.fromarray(array).save(fresh, format="PNG", pnginfo=chunks)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
