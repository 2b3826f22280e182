"""What makes a file one of weights, and tensors usable as weights."""

import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

from ccnet.runtime.files import DataError

MAX_HEADER = 8 << 20
"""Bytes of the header of a .safetensors file; that of 700 tensors has 80 kB."""
FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
LARGEST = torch.finfo(torch.float32).max

# The first bytes of files that are taken for weights, and what they are
SIGNATURES = {
    b"version https://git-lfs": "a Git LFS pointer: fetch the file itself with `git lfs pull`",
    b"\x1f\x8b": "compressed by gzip: unpack it first",
    b"BZh": "compressed by bzip2: unpack it first",
    b"\xfd7zXZ": "compressed by xz: unpack it first",
    b"7z\xbc\xaf": "a 7z archive: unpack it first",
    b"Rar!": "a RAR archive: unpack it first",
    b"\x89HDF": "an HDF5 file, as Keras writes; weights of PyTorch are read",
    b"\x89PNG": "an image",
    b"\xff\xd8\xff": "an image",
    b"%PDF": "a PDF document",
}


def named(key: str, length: int = 80) -> str:
    """A key of a file as it is quoted in a message: in one line, and not longer than `length`."""
    text = key if key.isprintable() else repr(key)
    return text if len(text) <= length else f"{text[: length - 1]}…"


def require_readable(file: BinaryIO, path: Path) -> None:
    """Raise DataError for what the first bytes show to be no weight file, in words."""
    head = file.read(512)
    size = file.seek(0, 2)
    if kind := _kind(head, size, path.suffix == ".safetensors"):
        raise DataError(f"{path} cannot be read as weights: it is {kind}.", path=path)


def _kind(head: bytes, size: int, is_safetensors: bool) -> str | None:
    if not head:
        return "empty"
    if head[8:9] == b"{":  # behind the length of the header
        (length,) = struct.unpack("<Q", head[:8])
        if not is_safetensors:
            return "a .safetensors file: give it this suffix"
        if length > MAX_HEADER:
            return f"one with a header of {length:,} bytes; at most {MAX_HEADER:,} are read"
        return "cut off: copy or download it again" if length + 8 > size else None
    for start, kind in SIGNATURES.items():
        if head.startswith(start):
            return kind
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n").lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head")):
        return "a web page: download the file itself"
    if head[257:262] == b"ustar":
        return "a tar archive: unpack it first"
    if head[0] == 8 and head[2:3] in (b"\x12", b"\x1a", b"\x22", b"\x3a"):
        return "an ONNX model, from which no weights are read"
    if is_safetensors and head.startswith((b"PK\3\4", b"\x80")):
        return "a file of torch.save: give it the suffix .pth"
    return "of another kind, or damaged" if is_safetensors else None


def require_sound(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise ValueError unless all numbers are such as weights have.

    Floating-point tensors are float16, bfloat16, float32 or float64, of finite values that float32
    can hold; a running variance is not negative. Every tensor is read once: 71 million values take
    some 15 ms.
    """
    problems = [
        f"{named(key)} {problem}"
        for key, value in tensors.items()
        if (problem := _unsound(key, value))
    ]
    if problems:
        more = f", and {len(problems) - 1:,} more tensors are like it" if problems[1:] else ""
        raise ValueError(
            f"{path} holds no usable weights: {problems[0]}{more}; take a save from before the "
            "training diverged, or the file as it was published"
        )


def _unsound(key: str, value: Tensor) -> str | None:
    if not value.is_floating_point() or value.numel() == 0:
        return None
    if value.dtype not in FLOATS:
        return f"is of {value.dtype}; float16, bfloat16, float32 and float64 are read"
    low, high = (bound.item() for bound in value.aminmax())
    if math.isnan(low) or max(-low, high) > LARGEST:
        is_sound = value.isfinite() if value.dtype != torch.float64 else value.abs() <= LARGEST
        count = value.numel() - int(is_sound.sum())
        return (
            f"has nan, infinity or more than float32 holds in {count:,} of {value.numel():,} values"
        )
    if key.endswith("running_var") and low < 0:
        return f"is a variance and has {low:.3g}"
    return None
