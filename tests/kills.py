"""A command that is ended by signals at random moments, in forks of a process that has it loaded.

    python -m tests.kills SEED NUMBER WORDS...      the words of a command, {output} among them

The command runs once to its end, for the time that it takes. After each signal a line is printed,
and the next one follows a line of input.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.commands import environment

SIGNALS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


def killed(number: int, output: Path, *words: object, seed: int = 0) -> Iterator[None]:
    """Continues after each of `number` signals that end a command which writes to `output`.

    The command first runs once with `measured` in place of the name of `output`.
    """
    arguments = [str(word) for word in (seed, number, output, *words)]
    with subprocess.Popen(
        [sys.executable, "-m", "tests.kills", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment(),
        text=True,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        for _ in range(number):
            line = process.stdout.readline()
            assert line.startswith("ended"), line
            yield
            process.stdin.write("\n")
            process.stdin.flush()
    assert process.returncode == 0


def main() -> None:
    import ccnet.export.exporter
    import ccnet.labeling.files
    import ccnet.models.loading
    import ccnet.report.tables  # noqa: F401 - loaded before the forks

    seed, number, output, *words = sys.argv[1:]
    measured = Path(output).with_name(f"measured{Path(output).suffix}")
    rng = random.Random(seed)
    begin = time.monotonic()
    status = os.waitstatus_to_exitcode(os.waitpid(start(words, str(measured)), 0)[1])
    assert status == 0, status
    duration = time.monotonic() - begin
    for index in range(int(number)):
        process = start(words, output)
        time.sleep(rng.uniform(0, duration))
        os.kill(process, SIGNALS[index % len(SIGNALS)])
        os.waitpid(process, 0)
        print("ended", flush=True)
        sys.stdin.readline()


def start(words: list[str], output: str) -> int:
    """Run a command in a fork; its number."""
    process = os.fork()
    if process > 0:
        return process
    status = 1
    try:
        import ccnet.cli

        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        ccnet.cli.main([word.replace("{output}", output) for word in words])
    except SystemExit as stop:
        status = int(stop.code or 0)
    finally:
        os._exit(status)


if __name__ == "__main__":
    main()
