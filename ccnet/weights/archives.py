"""The two forms of file that `torch.save` writes, read in no more memory than they have bytes.

PyTorch's own reader is not used: it inflates compressed records, and takes the length of a tensor
from the pickle without comparing it with what the file stores.
"""

import io
import struct
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

import torch
from torch.serialization import MAGIC_NUMBER, PROTOCOL_VERSION

from ccnet.runtime.files import shown
from ccnet.weights.pickles import InertUnpickler, RefusedError, Storage, next_pickle

MAX_DIRECTORY = 4 << 20
"""Bytes of the directory of a zip archive; one of 700 tensors has 50 kB."""
CHUNK = 1 << 18  # fits a processor's cache


def read_pickled(path: Path) -> Any:
    """The content of a .pth file, of either serialization of `torch.save`.

    Tensors are rebuilt, objects of foreign classes become placeholders, and a call of anything else
    is an error.

    Raises:
        RefusedError: the file asks for code, for more memory than it has bytes, or is damaged.
        Exception: it is broken in another way.
    """
    with path.open("rb") as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        is_zip = file.read(4) == b"PK\3\4"
        file.seek(0)
        return _read_zip(file, size) if is_zip else _read_old(file, size)


class _ShortReads(io.BufferedReader):
    """A file of which little is read at once, since zipfile reads a directory of any length."""

    def read(self, size: int | None = -1, /) -> bytes:
        wanted = MAX_DIRECTORY if size is None or size < 0 else size
        if wanted > MAX_DIRECTORY:
            raise RefusedError(f"its directory is larger than {MAX_DIRECTORY:,} bytes")
        return super().read(wanted)


def _read_zip(file: BinaryIO, size: int) -> Any:
    with zipfile.ZipFile(_ShortReads(io.FileIO(file.fileno(), closefd=False))) as archive:
        folder = _checked_folder(archive, size)
        order = b"little"  # of files from before torch 2.1, which have no such record
        if f"{folder}byteorder" in archive.namelist():
            order = archive.read(f"{folder}byteorder")
        _require(order in (b"little", b"big"), "order of bytes")
        storages: dict[str, torch.UntypedStorage] = {}

        def load(kind: torch.dtype, key: str, count: int, _: Any = None) -> Storage:
            if key not in storages:
                entry = archive.getinfo(f"{folder}data/{key}")
                _require(entry.file_size == count * kind.itemsize, f"record {shown(key)}")
                storages[key] = torch.UntypedStorage(entry.file_size)
                with archive.open(entry) as record:
                    _fill(storages[key], record)
                if order.decode() != sys.byteorder:
                    storages[key].byteswap(kind)
            return Storage(storages[key], kind)

        with archive.open(f"{folder}data.pkl") as record:
            pickled = io.BytesIO(b"".join(iter(lambda: record.read(CHUNK), b"")))
        return InertUnpickler(next_pickle(pickled), size, load).load()


def _checked_folder(archive: zipfile.ZipFile, size: int) -> str:
    """The folder of all records of an archive, which cannot become larger than its file."""
    names, entries = archive.namelist(), archive.infolist()
    pickled = [name for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(pickled) != 1 or len(set(names)) < len(names):
        raise RefusedError("it is a zip archive, but not one of torch.save; unpack it first")
    folder = pickled[0].removesuffix("data.pkl")
    if f"{folder}constants.pkl" in names:
        raise RefusedError("it is a TorchScript archive; save the state_dict() of its network")
    if any(entry.compress_type or entry.file_size != entry.compress_size for entry in entries):
        raise RefusedError("its records are compressed, which torch.save never does")
    if sum(entry.file_size for entry in entries) > size:
        raise RefusedError("its records overlap, or are larger than the file")
    return folder


def _read_old(file: BinaryIO, size: int) -> Any:
    """The serialization before PyTorch 1.6: five pickles, and then the bytes of each storage."""

    def next_value() -> Any:
        return InertUnpickler(next_pickle(file), size).load()

    if next_value() != MAGIC_NUMBER:
        raise RefusedError("it is a pickle, but not one of torch.save")
    if next_value() != PROTOCOL_VERSION:
        raise RefusedError("it is of a version of torch.save that is not known")
    next_value()  # of the machine that wrote it; the bytes are little-endian on every one
    storages: dict[str, Storage] = {}
    total = 0

    def load(kind: torch.dtype, key: str, count: int, view: Any = None) -> Storage:
        nonlocal total
        _require(view is None, "view of a record")
        if key not in storages:
            total += count * kind.itemsize
            _require(total <= size, f"record {shown(key)}")
            storages[key] = Storage(torch.UntypedStorage(count * kind.itemsize), kind)
        return storages[key]

    content = InertUnpickler(next_pickle(file), size, load).load()
    keys = next_value()
    _require(isinstance(keys, list) and all(isinstance(key, str) for key in keys), "list")
    _require(sorted(keys) == sorted(storages), "list of records")
    for key in keys:
        untyped, kind = storages[key].untyped, storages[key].dtype
        (count,) = struct.unpack("<q", file.read(8))
        _require(count * kind.itemsize == untyped.nbytes(), f"record {shown(key)}")
        _fill(untyped, file)
    return content


def _fill(storage: torch.UntypedStorage, file: Any) -> None:
    if storage.nbytes() == 0:
        return
    content: Any = torch.empty(0, dtype=torch.uint8, device="cpu").set_(storage).numpy()
    target = memoryview(content)
    for start in range(0, len(target), CHUNK):
        part = target[start : start + CHUNK]
        read = file.read(len(part))
        _require(len(read) == len(part), "end")
        part[:] = read


def _require(is_whole: bool, what: str) -> None:
    if not is_whole:
        raise RefusedError(f"its {what} does not fit the rest; the file is cut off or damaged")
