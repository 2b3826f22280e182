"""What a command made of a bad input, in one word, and why."""

import re
import signal

from tests.fuzz.case import REFUSED, REPORTED, RIGHT, Box, Case, Snapshot, changes
from tests.fuzz.child import Limits, Result

GOOD = ("right", "refused")
BAD = (
    *("unclear", "traceback", "silently wrong", "wrote outside", "hang", "memory"),
    "code ran",
)
VERDICTS = (*GOOD, *BAD)
"""From the best to the worst."""
LONGEST_LINE = 600
"""Characters of an error, besides the names of files in it."""
OUT_OF_MEMORY = re.compile(
    r"MemoryError|not enough memory|[Uu]nable to allocate|[Cc]annot allocate|[Oo]ut of memory"
    r"|bad_alloc"
)
CRASHES = {signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL}
START = re.compile(r"ccnet(?: [a-z-]+)?(?:, process \d+)?: ")
"""How the line of an error begins."""
CHATTER = re.compile(
    r"(predicting|evaluating|checking|reading|step|converting|exporting|no local folder)\b|warning:"
    r"|note:|\d+ of \d+|Using |Seed |.*Warning: |  |$"
)
"""Lines of standard error that are no errors: progress, notes and warnings."""


def judge(
    case: Case, box: Box, result: Result, before: Snapshot, after: Snapshot, limits: Limits
) -> tuple[str, str]:
    """The verdict and its reason."""
    output = result.stdout + result.stderr
    if box.canary.exists() or result.events:
        return "code ran", "; ".join(result.events) or "the canary was touched"
    if result.is_hung:
        return "hang", f"after {result.seconds:.0f} s"
    if result.memory > limits.memory:
        return "memory", f"{result.memory >> 20} MiB"
    if OUT_OF_MEMORY.search(output) or (result.signal == signal.SIGKILL):
        return "memory", "more than the limit was asked for"
    if found := changes(before, after, case):
        return "wrote outside", "; ".join(found[:4])
    if "Traceback (most recent call last)" in output or result.status not in (0, 1, 2):
        how = f"signal {result.signal}" if result.status is None else f"status {result.status}"
        return "traceback", how
    wrong = wrong_result(case, box) if result.status in (0, 1) else None
    if wrong is not None:
        return "silently wrong", f"status {result.status}: {wrong}"
    if result.status == 0:
        return ("right", "") if RIGHT in case.expect else ("silently wrong", "status 0")
    if result.status == 1:
        reason = unclear_report(result, case)
        wanted = REPORTED in case.expect
        expected = f"status 1 where {' or '.join(case.expect)} is right"
        return ("unclear", reason or expected) if reason or not wanted else ("right", "")
    reason = unclear_error(result, case)
    wanted = REFUSED in case.expect
    expected = f"the whole command refused where {' or '.join(case.expect)} is right"
    return ("unclear", reason or expected) if reason or not wanted else ("refused", "")


def wrong_result(case: Case, box: Box) -> str | None:
    try:
        return case.check(box.work)
    except Exception as error:  # a result that cannot be read
        return f"{type(error).__name__}: {error}"


def unclear_error(result: Result, case: Case) -> str | None:
    """Why the error of a refused command is not one clear line."""
    lines = result.stderr.rstrip("\n").split("\n")
    first = next((index for index, line in enumerate(lines) if START.match(line)), None)
    if first is None:
        return "no line that begins with ccnet"
    if len(lines) > first + 1:
        return f"{len(lines) - first} lines of error"
    if strange := [line for line in lines[:first] if not CHATTER.match(line)]:
        return f"{len(strange)} lines before the error, such as {strange[0][:60]!r}"
    return unclear_line(lines[first], case)


def unclear_report(result: Result, case: Case) -> str | None:
    """Why what a command reports about a bad file is not one clear line."""
    lines = (result.stdout + result.stderr).splitlines()
    skipped = [index for index, line in enumerate(result.stderr.splitlines())
               if line.startswith("skipped ")]  # fmt: skip
    for index in skipped:
        rest = result.stderr.splitlines()[index + 1 :]
        if rest and not (rest[0].startswith("skipped ") or CHATTER.match(rest[0])):
            return "more than one line about a file"
    told = [line for line in lines if any(name in line for name in case.names)]
    if case.names and not told:
        return f"no line names {case.names[0]!r}"
    return next(filter(None, (unclear_line(line, case) for line in told)), None)


def unclear_line(line: str, case: Case) -> str | None:
    if case.names and not any(name in line for name in case.names):
        return f"does not name {case.names[0]!r}"
    length = len(line)
    for name in case.names:
        length -= line.count(name) * len(name)
    if length > LONGEST_LINE:
        return f"a line of {len(line)} characters"
    message = START.sub("", line).strip()
    return None if len(message) > 10 else "no message"
