"""Files that survive kills, power failures and full disks: written apart, flushed, then renamed."""

import errno
import hashlib
import json
import os
import re
import shutil
import stat
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

FULL = {
    errno.ENOSPC: "no space is left on the device",
    errno.EDQUOT: "the disk quota is used up",
    errno.EFBIG: "the file would be larger than a limit (ulimit -f) or the file system allows",
}
"""Error numbers of a disk that takes no more, and what they mean."""
LONGEST_NAME = 255
"""Bytes of a file's name that file systems allow."""


def write_whole(path: Path, write: Callable[[Path], object], *, flush_to_disk: bool = True) -> None:
    """Replace a file at once: whenever the process dies, `path` is the old or the new file.

    A symbolic link at `path` is replaced, not followed.

    Args:
        path: of the file; missing folders are made.
        write: writes the content to the path that it is given, next to `path`; that file is then
            flushed to disk and renamed.
        flush_to_disk: False leaves out the flush, which takes some 16 ms. The file is then still
            whole after a kill of the process, but not after a crash of the machine. For many small
            files whose reader recognizes a damaged one.

    Raises:
        OSError: the file cannot be written; that of a full disk names the file. An existing file
            then stays as it is.
    """
    require_replaceable(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = beside(path)
    try:
        create(fresh)
        write(fresh)
        if flush_to_disk:
            flush(fresh)
        fresh.replace(path)
    except Exception as error:
        raise named_if_full(error, path) from error
    finally:
        fresh.unlink(missing_ok=True)
    if flush_to_disk:
        flush_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    # bytes of a name that are not UTF-8 are written as \udcff, which JSON and YAML read back
    data = text.encode("utf-8", errors="backslashreplace")
    write_whole(path, lambda file: file.write_bytes(data))


def write_json(path: Path, content: dict[str, Any]) -> None:
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_folder(folder: Path, write: Callable[[Path], object], own: Collection[str]) -> None:
    """Replace a folder at once: whenever the process dies, `folder` is the old or the new one.

    Between two renames there may be neither for a moment; after a kill in it, `repair_folder` or
    the next call restores the old one. A symbolic link at `folder` is replaced, not followed.

    Args:
        folder: the folder; missing parents are made.
        write: writes the content into the empty folder that it is given, next to `folder`.
        own: the names in an existing folder that are replaced or go; all others stay.

    Raises:
        FileExistsError: there is a file of this name, or a link that leads nowhere.
        OSError: the folder cannot be written; that of a full disk names it.
    """
    repair_folder(folder)
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"{folder} is a file; give the name of a folder")
    if folder.is_symlink() and not folder.exists():
        raise FileExistsError(f"{folder} is a link that leads nowhere; remove it")
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = beside(folder), replaced_path(folder)
    try:
        fresh.mkdir()
        write(fresh)
        for file in fresh.iterdir():
            flush(file)
        if folder.exists():
            carry_over(folder, fresh, own)
        flush_folder(fresh)
        if folder.exists() or folder.is_symlink():
            folder.rename(old)
        fresh.rename(folder)
    except Exception as error:
        raise named_if_full(error, folder) from error
    finally:
        remove(fresh)
    flush_folder(folder.parent)
    remove(old)


def carry_over(old: Path, fresh: Path, own: Collection[str]) -> None:
    """Give a new folder what only the old one has, except `own` names: links to the same files."""
    for path in old.iterdir():
        target = fresh / path.name
        if path.name in own or target.exists():
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, target, symlinks=True, copy_function=link_or_copy)
        else:
            link_or_copy(path, target)


def link_or_copy(path: str | Path, target: str | Path) -> None:
    """Give a file a second name; a copy where the file system has no such links."""
    try:
        os.link(path, target, follow_symlinks=False)
    except OSError:
        shutil.copy2(path, target, follow_symlinks=False)


def repair_folder(folder: Path) -> None:
    """Finish or undo what a killed `write_folder` began."""
    fresh, old = beside(folder), replaced_path(folder)
    if old.exists() and not folder.exists():  # killed between the two renames
        old.rename(folder)
        flush_folder(folder.parent)
    for leftover in (fresh, old):
        remove(leftover)


def beside(path: Path) -> Path:
    """Where a file or folder is written before it is renamed: .NAME.new in the same folder.

    A digest takes the place of a name with which that would be too long for the file system.
    """
    return _variant(path, "new")


def replaced_path(folder: Path) -> Path:
    """Where the previous folder is while the new one takes its name: .NAME.old."""
    return _variant(folder, "old")


def partial_path(path: Path) -> Path:
    """Where the parts of a file are gathered over several calls: the folder .NAME.part."""
    return _variant(path, "part")


def _variant(path: Path, kind: str) -> Path:
    name = f".{path.name}.{kind}"
    if len(os.fsencode(name)) > LONGEST_NAME:
        name = f".{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:32]}.{kind}"
    return path.with_name(name)


def create(path: Path) -> None:
    """Make an empty file; one of this name is removed first, and a link is not followed."""
    path.unlink(missing_ok=True)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
    os.close(os.open(path, flags, 0o666))


def remove(path: Path) -> None:
    """Remove a file, a link (not what it leads to) or a folder with all that is in it, if there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def require_replaceable(path: Path) -> None:
    """Raise OSError if no file can take this path; before long work, too, of which it is the end.

    Raises:
        IsADirectoryError: it is a folder.
        FileExistsError: it is a device, a FIFO or a socket.
        NotADirectoryError: a part of the path is no folder.
    """
    above = next((folder for folder in path.parents if os.path.lexists(folder)), Path())
    if not above.is_dir():
        raise NotADirectoryError(f"{path} cannot be written, since {above} is no folder")
    if path.is_dir() and not path.is_symlink():
        raise IsADirectoryError(f"{path} is a folder; give the name of a file")
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError:
        return
    if not (stat.S_ISREG(mode) or stat.S_ISLNK(mode)):
        raise FileExistsError(f"{path} is no regular file and is not replaced; give another name")


def named_if_full(error: Exception, path: Path) -> Exception:
    """The error of a full disk with the name of what was written; any other error as it is."""
    cause = disk_error(error)
    if cause is None or cause.errno not in FULL:
        return error
    full = OSError(
        f"{path} could not be written: {FULL[cause.errno]}; make room, or write it to another place"
    )
    full.errno = cause.errno  # as an argument it would stand before the text
    return full


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
