"""The saves of a run: complete or absent after a kill, and verified when they are read.

A save is named step-00000123.0123456789abcdef.pt: its step, and the first 16 digits of the SHA-256
of its content. Renaming the written file makes the save valid; reading it checks the digest.
"""

import hashlib
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any, BinaryIO, cast
from zipfile import ZipFile

import torch

from ccnet.runtime.disk import create, flush_folder
from ccnet.runtime.files import open_regular

NAME = re.compile(r"step-(\d{8,})\.([0-9a-f]{16})\.pt")


class Saves:
    """A folder with the last two saves of a run. One process writes; any number may read."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.good: set[Path] = set()  # written or read by this process

    def paths(self) -> list[Path]:
        """All files that are named as saves, the newest first."""
        if not self.folder.is_dir():
            return []
        named = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name)]
        paths = [path for path in named if path.is_symlink() or not path.is_dir()]
        return sorted(paths, key=lambda p: (step_of(p), p.lstat().st_mtime_ns), reverse=True)

    def any(self) -> bool:
        """Whether a file is named as a save; any process may ask, also while one writes."""
        return self.folder.is_dir() and any(NAME.fullmatch(p.name) for p in self.folder.iterdir())

    def unfinished(self) -> list[Path]:
        """The files that were not complete when the process was killed."""
        return list(self.folder.glob(".step-*.new"))

    def save(self, state: dict[str, Any]) -> Path:
        """Write a state, which contains its "step"; keep the newest good save of an earlier step.

        Raises OSError if it cannot be written; the earlier saves then stay as they are.
        """
        step = state["step"]
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True)
            flush_folder(self.folder.parent)
        fresh = self.folder / f".step-{step:08d}.new"
        try:
            create(fresh)
            with fresh.open("rb+") as file:
                hashed = write_state(state, file)
                file.flush()
                os.fsync(file.fileno())
            path = self.folder / f"step-{step:08d}.{hashed.digest.hexdigest()[:16]}.pt"
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        flush_folder(self.folder)
        self.good.add(path)
        self.remove_others(path)
        return path

    def remove_others(self, newest: Path) -> None:
        """Remove all saves except `newest` and the newest good one of an earlier step.

        Saves of later steps are damaged, or from a timeline that was abandoned by resuming an older
        save.
        """
        others = [path for path in self.paths() if path != newest]
        earlier = (path for path in others if step_of(path) < step_of(newest))
        previous = next((path for path in earlier if self.is_good(path)), None)
        for path in [*others, *self.unfinished()]:
            if path != previous:
                path.unlink()
                self.good.discard(path)

    def newest(self) -> tuple[Path, dict[str, Any]]:
        """The newest good save and its state; newer damaged ones are named on standard error.

        Raises FileNotFoundError if there is no save, ValueError if none is good.
        """
        failures = []
        for path in self.paths():
            try:
                state = self.read(path)
            except ValueError as error:
                failures.append(str(error))
                continue
            for failure in failures:
                print(f"warning: {failure}; {path.name} is used instead", file=sys.stderr)
            return path, state
        if failures:
            raise ValueError(f"no run to resume: no save is good: {'; '.join(failures)}")
        raise FileNotFoundError(
            f"no run to resume: there is no save in {self.folder}; start a run again that was "
            "stopped before its first save"
        )

    def read(self, path: Path) -> dict[str, Any]:
        """The state of one save, on the CPU.

        No code in the file is run: it may contain only tensors and plain values. Raises ValueError,
        with the file's name, if the content is not what was written.
        """
        name = NAME.fullmatch(path.name)
        if name is None:
            raise ValueError(f"{path} is not named as a save, step-STEP.DIGEST.pt")
        try:
            with open_regular(path) as file:
                # torch.load does not notice every changed byte
                digest = hashlib.file_digest(cast(Any, file), "sha256").hexdigest()
                if not digest.startswith(name[2]):
                    raise ValueError("truncated or changed, its SHA-256 is not that of its name")
                require_stored(file)
                file.seek(0)
                state = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:  # torch's message says how to load it nevertheless
            message = f"{path} is not loaded: it holds other things than tensors and plain values"
            raise ValueError(message) from error
        except Exception as error:  # an invalid archive can raise anything
            reason = str(error).partition("\n")[0][:300] or type(error).__name__
            raise ValueError(f"{path} cannot be read: {reason}") from error
        step = state.get("step") if isinstance(state, dict) else None
        if not isinstance(step, int) or step != step_of(path):
            raise ValueError(f"{path} cannot be read: it holds no state of step {step_of(path)}")
        self.good.add(path)
        return state

    def is_good(self, path: Path) -> bool:
        """Whether a save can be read; read only once by this process."""
        if path in self.good:
            return True
        try:
            self.read(path)
        except ValueError:
            return False
        return True


def require_stored(file: BinaryIO) -> None:
    """Raise ValueError if an archive says that it holds more than the file has bytes."""
    with ZipFile(file) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > file.seek(0, os.SEEK_END):
        raise ValueError("its parts are compressed or overlap, which ccnet does not write")


class HashedFile:
    """A file for torch.save that also computes the SHA-256 and the size of what is written."""

    def __init__(self, file: BinaryIO) -> None:
        self.file = file
        self.digest = hashlib.sha256()
        self.size = 0
        self.error: OSError | None = None

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        self.size += len(data)
        try:
            return self.file.write(data)
        except OSError as error:
            self.error = error
            raise

    def flush(self) -> None:
        self.file.flush()


def write_state(state: dict[str, Any], file: BinaryIO) -> HashedFile:
    """Write a state with torch.save. Raises OSError if the disk is full."""
    hashed = HashedFile(file)
    try:
        torch.save(state, hashed)  # pyright: ignore[reportArgumentType]
    except RuntimeError:  # torch reports a wrong file position and hides the cause
        if hashed.error is None:
            raise
        raise hashed.error from None
    return hashed


def saved_size(state: dict[str, Any]) -> int:
    """Size of a save of the state in bytes."""
    with Path(os.devnull).open("wb") as nowhere:
        return write_state(state, nowhere).size


def step_of(path: Path) -> int:
    """The step in the name of a save."""
    return int(path.name.split(".")[0].removeprefix("step-"))
