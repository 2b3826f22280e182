"""The command line: a call of a command, and errors as one clear line."""

import contextlib
import errno
import os
import re
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from ccnet.commands import COMMANDS
from ccnet.flags import parse
from ccnet.runtime.disk import FULL
from ccnet.runtime.files import cause_of, printable
from ccnet.runtime.launch import is_launched, launch_processes
from ccnet.runtime.signals import raising_interrupts

# errors whose message explains itself; an ImportError names the extra that is not installed
EXPECTED = (
    ValueError,
    OSError,
    ArithmeticError,
    MemoryError,
    NotImplementedError,
    ImportError,
)
OUT_OF_MEMORY = re.compile("not enough memory|can't allocate memory|out of memory")
"""In the text of the RuntimeError with which torch says so, on CPUs, on MPS and on CUDA."""
FULL_OR_CLOSED = (*FULL, errno.EPIPE, errno.EIO)
"""Error numbers of a write whose error does not say to which file."""
LONGEST_LINE = 600
"""Characters of an error; of a longer one the begin and the end are printed."""


def main(arguments: list[str] | None = None) -> None:
    """Run one command and end the process.

    The exit status is 0 for success, 1 where the command did its work and found something wrong
    (`check-data`, `predict`), 2 for an error and 130 after Ctrl-C or SIGTERM. An error that no
    user can mend keeps its traceback.

    Args:
        arguments: The words after `ccnet`; those of the process by default.
    """
    given = sys.argv[1:] if arguments is None else arguments
    name = next((word for word in given if word in COMMANDS), "")
    with raising_interrupts(is_launched=is_launched()) as interrupts:
        try:
            status = run_command(given)
        except SystemExit as stop:  # of --help; rich ends so when standard output is closed
            status = stop.code if stop.code != 1 else 2
        except (KeyboardInterrupt, Exception) as error:
            if isinstance(error, KeyboardInterrupt) or interrupts.came:
                say(f"\nccnet {name}: stopped")  # an import may turn one into an ImportError
                status = 130
            elif isinstance(error, EXPECTED) or OUT_OF_MEMORY.search(str(error)):
                say(error_line(name, error))
                status = 2
            else:
                error.add_note("This is a fault of ccnet itself; please report these lines.")
                raise
    leave(status, name)


def run_command(given: Sequence[str]) -> int:
    """Parse the words after `ccnet` and run the command; returns its exit status."""
    name, flags = parse(given)
    if "devices" in flags:  # `train` starts its processes itself, once its run has a name
        status = launch_processes(flags["devices"], flags["num_nodes"], given)
        if status is not None:
            return status
    return COMMANDS[name](**flags)


def say(line: str) -> None:
    """Print a line on standard error, if that takes any."""
    with contextlib.suppress(OSError):
        print(line, file=sys.stderr, flush=True)


def error_line(name: str, error: BaseException) -> str:
    """What a user reads of an error: the command, the process if there are several, the message."""
    process = f", process {os.environ['RANK']}" if "RANK" in os.environ else ""
    notes = "".join(f"; {note}" for note in getattr(error, "__notes__", ()))
    message = without_traceback(str(error)) or f"it ended with a {type(error).__name__}"
    if isinstance(error, OSError) and error.filename is not None:
        message = f"{os.fsdecode(error.filename)}: {cause_of(error)}"
    elif isinstance(error, OSError) and error.strerror and error.errno in FULL_OR_CLOSED:
        message = f"standard output, or a file, takes no more: {error.strerror}"
    line = f"{' '.join(['ccnet', name]).strip()}{process}: {message}{notes}"
    if isinstance(error, FloatingPointError):  # a report of several lines
        return "\n".join(map(printable, line.split("\n")))
    line = printable(line)
    return line if len(line) <= LONGEST_LINE else f"{line[:400]} ... {line[-190:]}"


def without_traceback(message: str) -> str:
    """The message alone of an error that a data loader's worker passed on with its traceback."""
    if "Original Traceback" not in message:
        return message
    lines = message.rstrip().split("\n")
    last_frame = max(index for index, line in enumerate(lines) if line.startswith("  "))
    return re.sub(r"^[\w.]+: ", "", "\n".join(lines[last_frame + 1 :]))  # without the error's class


def leave(status: Any, name: str) -> NoReturn:
    """End the process with an exit status; 2 if not all output could be written.

    One process of several ends at once, without finalizing the interpreter: threads of gloo and
    FSDP that still wait for it would now and then abort a process whose work is done.
    """
    try:
        sys.stdout.flush()
    except OSError as error:
        say(error_line(name, error))
        status = 2
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())  # which Python flushes once more
    if is_launched():
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os._exit(status)
    sys.exit(status)
