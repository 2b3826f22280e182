"""Files that survive kills, power failures and full disks: written apart, flushed, then renamed."""

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
"""Error numbers of a disk that takes no more, and what they mean."""


def write_whole(path: Path, write: Callable[[Path], object], *, flush_to_disk: bool = True) -> None:
    """Replace a file at once: whenever the process dies, `path` is the old or the new file.

    Args:
        path: of the file; missing folders are made.
        write: writes the content to the path that it is given, next to `path`; that file is then
            flushed to disk and renamed.
        flush_to_disk: False leaves out the flush, which takes some 16 ms. The file is then still
            whole after a kill of the process, but not after a crash of the machine. For many small
            files whose reader recognizes a damaged one.
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
    """Where a file or folder is written before it is renamed: .NAME.new in the same folder."""
    return path.with_name(f".{path.name}.new")


def flush(path: Path) -> None:
    """Return when the content of a file is on the disk itself."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def flush_folder(path: Path) -> None:
    """Return when the names in a folder are on the disk itself.

    Without this a power failure can undo a rename.
    """
    if os.name == "nt":  # Windows cannot open a folder
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def disk_error(error: Exception) -> OSError | None:
    """The operating system's error that `error` is, or that its text names as safetensors' does."""
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
