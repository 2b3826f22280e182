"""A lock on a folder that one process writes; the kernel releases it however the process dies."""

import contextlib
import errno
import os
import socket
import stat
import sys
from pathlib import Path
from typing import Self

from ccnet.runtime.files import DataError, cause_of

HELD = (errno.EACCES, errno.EAGAIN)
NO_LOCKS = (errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""Error numbers of file systems without locks."""


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
            print(
                f"warning: {self.path.parent} is not protected against a second process that "
                f"writes it, since {reason} has no locks",
                file=sys.stderr,
            )
        with contextlib.suppress(OSError):  # of a full disk; the content is only for a message
            os.ftruncate(self.descriptor, 0)
            os.write(self.descriptor, f"{os.getpid()} on {socket.gethostname()}\n".encode())
