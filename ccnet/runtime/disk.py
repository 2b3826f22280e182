"""Files that outlive kills, power failures and full disks: written beside, flushed, renamed."""

import errno
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

FULL = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than a limit (ulimit -f) or the file system allows",
}


def write_whole(path: Path, write: Callable[[Path], object], *, flush_to_disk: bool = True) -> None:
    """Write beside the path, flush to disk, then rename: the file is the old or the new one.

    Without `flush_to_disk` this holds if the process is killed, but not if the machine crashes. It
    is for many small files whose reader recognizes a damaged one: a flush takes some 16 ms.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = beside(path)
    try:
        write(fresh)
        if flush_to_disk:
            flush(fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
    if flush_to_disk:
        flush_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    write_whole(path, lambda file: file.write_text(text, encoding="utf-8"))


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def beside(path: Path) -> Path:
    """Where a file or folder is written before it takes its name."""
    return path.with_name(f".{path.name}.new")


def flush(path: Path) -> None:
    """Have a file's content on disk, whatever becomes of the machine."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Have the names in a folder on disk: without it a power failure can undo a rename."""
    if os.name == "nt":  # folders can't be opened there
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_error(error: Exception) -> OSError | None:
    """The operating system's error that an error is or, as safetensors does it, tells of."""
    if isinstance(error, OSError):
        return error
    if number := re.search(r"\(os error (\d+)\)", str(error)):
        return OSError(int(number[1]), os.strerror(int(number[1])))
    return None


def readable_size(num_bytes: int) -> str:
    """1234567 → 1.2 MB."""
    size, unit = float(num_bytes), "bytes"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.1f} {unit}" if unit != "bytes" else f"{num_bytes} bytes"
