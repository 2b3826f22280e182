"""The saves of a run: written so that a kill leaves each whole or absent, verified when read.

A save is step-00000123.0123456789abcdef.pt: its step, and how the SHA-256 of its content begins.
One rename makes it valid; reading it again tells whether it still is.
"""

import hashlib
import os
import pickle
import re
import sys
from pathlib import Path
from typing import Any, BinaryIO

import torch

from ccnet.runtime.disk import flush_folder

NAME = re.compile(r"step-(\d{8,})\.([0-9a-f]{16})\.pt")


class Saves:
    """A folder with the last two saves of a run. One process writes it; any number read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.good: set[Path] = set()  # written or read by this process

    def paths(self) -> list[Path]:
        """Whatever is named as a save, the newest first."""
        if not self.folder.is_dir():
            return []
        paths = [path for path in self.folder.iterdir() if NAME.fullmatch(path.name)]
        return sorted(paths, key=lambda p: (step_of(p), p.stat().st_mtime_ns), reverse=True)

    def any(self) -> bool:
        """Whether anything is named as a save; other processes may ask while one writes."""
        return self.folder.is_dir() and any(NAME.fullmatch(p.name) for p in self.folder.iterdir())

    def halves(self) -> list[Path]:
        """What a kill in the middle of a save leaves."""
        return list(self.folder.glob(".step-*.new"))

    def save(self, state: dict[str, Any]) -> Path:
        """Keep a state by its "step", and of the earlier ones only the newest good one.

        Raises OSError where it can't be written; what was there before is untouched then.
        """
        step = state["step"]
        if not self.folder.is_dir():
            self.folder.mkdir(parents=True)
            flush_folder(self.folder.parent)
        fresh = self.folder / f".step-{step:08d}.new"
        try:
            with fresh.open("wb") as file:
                hashed = write_state(state, file)
                file.flush()
                os.fsync(file.fileno())
            path = self.folder / f"step-{step:08d}.{hashed.digest.hexdigest()[:16]}.pt"
            fresh.replace(path)
        finally:
            fresh.unlink(missing_ok=True)
        flush_folder(self.folder)
        self.good.add(path)
        self.keep(path)
        return path

    def keep(self, newest: Path) -> None:
        """Remove all but a save and the good one of an earlier step.

        Those of later steps are bad, or of a course that the run has left by falling back.
        """
        others = [path for path in self.paths() if path != newest]
        earlier = (path for path in others if step_of(path) < step_of(newest))
        previous = next((path for path in earlier if self.is_good(path)), None)
        for path in [*others, *self.halves()]:
            if path != previous:
                path.unlink()
                self.good.discard(path)

    def newest(self) -> tuple[Path, dict[str, Any]]:
        """The newest good save and its state; newer bad ones are named on standard error.

        Raises FileNotFoundError where there is no save, ValueError where none is good.
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
            raise ValueError("\n  ".join(["no run to resume: no save is good", *failures]))
        raise FileNotFoundError(
            f"no run to resume: there is no save in {self.folder}; a run stopped before its first "
            "one is started again"
        )

    def read(self, path: Path) -> dict[str, Any]:
        """The state of one save, on the CPU.

        Nothing in the file runs: it may hold tensors and plain values only. Raises ValueError, with
        the file's name, for whatever isn't as it was written.
        """
        name = NAME.fullmatch(path.name)
        if name is None:
            raise ValueError(f"{path} is not named as a save, step-STEP.DIGEST.pt")
        try:
            with path.open("rb") as file:
                # torch's reader doesn't notice every changed byte
                if not hashlib.file_digest(file, "sha256").hexdigest().startswith(name[2]):
                    raise ValueError("truncated or changed, its SHA-256 isn't that of its name")
                file.seek(0)
                state = torch.load(file, map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:  # torch's text tells how to load it all the same
            message = f"{path} isn't loaded: it holds other things than tensors and plain values"
            raise ValueError(message) from error
        except Exception as error:  # a strange archive can raise anything
            raise ValueError(f"{path} can't be read: {error}") from error
        step = state.get("step") if isinstance(state, dict) else None
        if not isinstance(step, int) or step != step_of(path):
            raise ValueError(f"{path} can't be read: it holds no state of step {step_of(path)}")
        self.good.add(path)
        return state

    def is_good(self, path: Path) -> bool:
        if path in self.good:
            return True
        try:
            self.read(path)
        except ValueError:
            return False
        return True


class HashedFile:
    """What torch.save writes into: a file, with the digest and the size of what went there."""

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
    hashed = HashedFile(file)
    try:
        torch.save(state, hashed)  # pyright: ignore[reportArgumentType]
    except RuntimeError:  # torch's own, about a position, hides what the disk said
        if hashed.error is None:
            raise
        raise hashed.error from None
    return hashed


def saved_size(state: dict[str, Any]) -> int:
    """Bytes that a save of the state takes."""
    with Path(os.devnull).open("wb") as nowhere:
        return write_state(state, nowhere).size


def step_of(path: Path) -> int:
    return int(path.name.split(".")[0].removeprefix("step-"))
