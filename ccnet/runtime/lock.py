"""A lock on a folder that one process writes; the kernel releases it however the process dies."""

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from ccnet.runtime.files import DataError, cause_of, printable
from ccnet.runtime.processes import objects_of_processes, rank

HELD = (errno.EACCES, errno.EAGAIN)
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""Error numbers of file systems without locks."""
UNPROTECTED = (
    "warning: {} is not protected against a second process that writes it, since {} has no locks"
)


class FolderLock:
    """A lock of this process on a file, from `take` to the end of the block.

    It is a POSIX record lock (`fcntl.lockf`), which child processes do not inherit: the workers of
    a data loader that outlive a killed process do not hold it.

    Args:
        path: of the file, which stays when the lock is released.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.descriptor: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def take(self) -> None:
        """Take the lock; a line on standard error says so where there are no locks.

        Raises:
            BlockingIOError: another process holds it; the message names that process.
            DataError: the file is a link or no regular file, or cannot be written.
        """
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        try:
            self.descriptor = os.open(self.path, flags, 0o666)
        except OSError as error:
            cause = "it is a symbolic link" if self.path.is_symlink() else cause_of(error)
            raise DataError(f"{self.path}: {cause}; remove it.", path=self.path) from error
        if not stat.S_ISREG(os.fstat(self.descriptor).st_mode):
            raise DataError(f"{self.path}: it is no regular file; remove it.", path=self.path)
        try:
            import fcntl

            fcntl.lockf(self.descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (ImportError, OSError) as error:  # Windows has no fcntl
            if isinstance(error, OSError) and error.errno in HELD:
                holder = os.read(self.descriptor, 100).decode(errors="replace").strip()
                raise BlockingIOError(
                    f"{self.path.parent} is in use: the process {holder or 'of another user'} "
                    "writes it; wait until that has ended, or stop it"
                ) from None
            if isinstance(error, OSError) and error.errno not in NO_LOCKS:
                raise
            reason = "this system" if isinstance(error, ImportError) else "its file system"
            print(UNPROTECTED.format(printable(self.path.parent), reason), file=sys.stderr)
        with contextlib.suppress(OSError):  # of a full disk; the content is only for a message
            os.ftruncate(self.descriptor, 0)
            os.write(self.descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode())


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Holds a folder without a file in it; of several processes, the first one holds it for all.

    The lock ends with the process that has it. On a file system without locks this is said on
    standard error, and nothing is held.

    Raises:
        ValueError: another command has it.
        OSError: the folder cannot be opened.
    """
    descriptor, error = None, None
    try:
        if rank() == 0:
            try:
                descriptor = lock(folder)
            except (ValueError, OSError) as reason:
                error = reason
        if reason := objects_of_processes(error)[0]:
            raise reason
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def lock(folder: Path) -> int | None:
    """A descriptor that holds a folder until it is closed; raises what `locked` raises."""
    try:
        import fcntl
    except ImportError:  # Windows
        print(UNPROTECTED.format(printable(folder), "this system"), file=sys.stderr)
        return None
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in HELD:
            os.close(descriptor)
            raise ValueError(
                f"{folder}: another command writes there now; wait for its end, or give another "
                "--output"
            ) from None
        print(UNPROTECTED.format(printable(folder), "its file system"), file=sys.stderr)
    return descriptor
