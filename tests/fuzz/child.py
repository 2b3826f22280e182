"""Runs a command in a forked child with limits, and measures what it does."""

import ctypes
import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

MIB = 1 << 20
STARTS = ("subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn")
"""Audit events of starting another program."""
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Limits:
    """What a command may take, beyond what the parent has."""

    cpu_seconds: float = 20.0
    idle_seconds: float = 8.0
    """Seconds without any use of the processor, such as waiting for a FIFO."""
    wall_seconds: float = 120.0
    memory: int = 1024 * MIB
    """Bytes of memory in use."""
    address_space: int = 6144 * MIB
    """Bytes of address space; more is refused."""
    file_size: int = 512 * MIB


@dataclass(frozen=True)
class Result:
    """What a command did."""

    status: int | None
    """Exit status; None if a signal ended it."""
    signal: int | None
    is_hung: bool
    stdout: str
    stderr: str
    events: tuple[str, ...]
    """Programs that were started."""
    memory: int
    """Growth in bytes of the memory in use, at its peak."""
    seconds: float


def drop_privileges() -> None:
    """Let file permissions hold for root too, as they do for every other user."""
    if os.geteuid() != 0:
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    sets = (ctypes.c_uint32 * 6)()
    if libc.capget(header, sets) == 0:
        for index in (0, 1):  # effective, permitted: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
            sets[index] &= ~0b110
        libc.capset(header, sets)


def memory_in_use(pid: int | str = "self", field: str = "VmRSS") -> int:
    """Bytes that /proc tells of a process; 0 if it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(x.split()[1]) * 1024 for x in lines if x.startswith(field + ":")), 0)


class Child:
    """A command that runs in a process of its own.

    Args:
        main: is called with the arguments, and ends the process or returns.
        arguments: the command line.
        folder: of the input; the command runs in `folder/work` and its output goes to `folder/log`.
        limits: what it may take.
    """

    def __init__(
        self, main: Callable[[list[str]], Any], arguments: list[str], folder: Path, limits: Limits
    ) -> None:
        self.folder, self.limits = folder, limits
        self.start = self.last_busy = time.monotonic()
        self.ticks = 0.0
        self.is_hung = False
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            self._run(main, arguments)

    def _run(self, main: Callable[[list[str]], Any], arguments: list[str]) -> None:
        status = 1
        try:
            self._confine()
            sys.argv = ["ccnet", *arguments]
            main(arguments)
            status = 0
        except SystemExit as stop:
            status = stop.code if isinstance(stop.code, int) else 1
        except BaseException:
            traceback.print_exc()
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(status if isinstance(status, int) else 1)

    def _confine(self) -> None:
        os.setsid()
        log = self.folder / "log"
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
        for name, number in (("stdout", 1), ("stderr", 2)):
            os.dup2(os.open(log / name, flags, 0o666), number)
        sys.stdout = os.fdopen(1, "w", closefd=False)
        sys.stderr = os.fdopen(2, "w", errors="backslashreplace", closefd=False)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        events = os.open(log / "events", flags, 0o666)
        (log / "memory").write_text(str(memory_in_use()))
        os.chdir(self.folder / "work")
        sys.path.insert(0, str(self.folder / "work"))  # as `python -m ccnet` does
        os.environ["PATH"] = f"{self.folder / 'bin'}:{os.environ['PATH']}"
        tempfile.tempdir = str(self.folder / "tmp")
        address_space = memory_in_use(field="VmSize") + self.limits.address_space
        cpu = int(self.limits.cpu_seconds)
        for kind, value in (
            (resource.RLIMIT_AS, address_space),
            (resource.RLIMIT_CPU, cpu + 1),
            (resource.RLIMIT_FSIZE, self.limits.file_size),
            (resource.RLIMIT_CORE, 0),
        ):
            resource.setrlimit(kind, (value, value))
        drop_privileges()

        def hook(event: str, arguments: tuple[Any, ...]) -> None:
            is_own = "describe" in str(arguments[1:2])  # git, for the commit in run.json
            if event in STARTS and not is_own:
                os.write(events, f"{event} {arguments[:2]!r}"[:300].encode() + b"\n")

        sys.addaudithook(hook)

    def poll(self) -> Result | None:
        """The result, if the command has ended; ends it if it takes too long."""
        pid, status, usage = os.wait4(self.pid, os.WNOHANG)
        now = time.monotonic()
        if pid == 0:
            used = self._seconds_of_cpu()
            if used > self.ticks:
                self.ticks, self.last_busy = used, now
            is_idle = now - self.last_busy > self.limits.idle_seconds
            is_late = now - self.start > self.limits.wall_seconds
            if is_idle or is_late or used > self.limits.cpu_seconds:
                self.is_hung = True
                os.killpg(self.pid, signal.SIGKILL)
            return None
        number = os.WTERMSIG(status) if os.WIFSIGNALED(status) else None
        log = self.folder / "log"
        texts = [
            (log / name).read_bytes().decode("utf-8", "replace") if (log / name).exists() else ""
            for name in ("stdout", "stderr", "events", "memory")
        ]
        return Result(
            status=os.WEXITSTATUS(status) if os.WIFEXITED(status) else None,
            signal=number,
            is_hung=self.is_hung or number == signal.SIGXCPU,
            stdout=texts[0],
            stderr=texts[1],
            events=tuple(texts[2].splitlines()),
            memory=max(0, usage.ru_maxrss * 1024 - int(texts[3] or 0)),
            seconds=now - self.start,
        )

    def _seconds_of_cpu(self) -> float:
        try:
            fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return self.ticks
        return (int(fields[11]) + int(fields[12])) / TICKS
