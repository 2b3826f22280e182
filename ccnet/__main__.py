"""`python -m ccnet` and the command `ccnet`, which answer to Ctrl-C from their first moment."""

import os
import sys
from pathlib import Path

from ccnet.runtime.signals import leave_at_once, on_stop_signals


def main() -> None:
    """Run the command line of this process; see `ccnet.cli.main`."""
    on_stop_signals(leave_at_once)  # while modules are imported there is nothing to clean up
    require_output()
    forget_current_folder()
    from ccnet.cli import main

    main()


def require_output() -> None:
    """End with status 2 if standard output or error is closed.

    The first file that a command opens would otherwise take its place.
    """
    for stream, other, name in (
        (sys.stdout, sys.stderr, "standard output"),
        (sys.stderr, sys.stdout, "standard error"),
    ):
        if stream is None:
            print(f"ccnet: {name} is closed; send it to {os.devnull} instead", file=other)
            sys.exit(2)
    sys.stdout.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]


def forget_current_folder() -> None:
    """Take back that `python -m` imports from the current folder, unless this package lies there.

    A file torch.py or yaml.py among a user's data would otherwise be run.
    """
    home = Path(__file__).resolve().parents[1]
    if __name__ == "__main__" and not sys.flags.safe_path and Path(sys.path[0]).resolve() != home:
        del sys.path[0]


if __name__ == "__main__":
    main()
