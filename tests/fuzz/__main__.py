"""Give seeded bad inputs to the commands of ccnet, and count what they make of them.

Each input is damaged in one way: an image, a label, a YAML file, a model folder, weights, a pickle,
a manifest, a run, a list, a command line, an output folder. The command runs in a forked process
with limits. The table has a row for each kind and a column for each verdict:

  right           status 0 or 1 with a result that passes an independent check
  refused         status 2 with one clear line that names what is at fault
  unclear         another status, or an error that is long, of many lines, or names no file
  traceback       a traceback, or the end by a signal
  silently wrong  status 0 where the input must be refused, or a result that is wrong
  wrote outside   files changed that are not the command's, or temporary files left behind
  hang            more than --seconds of computing, or 8 s of waiting
  memory          more than --memory
  code ran        code in the input ran, or a program was started

Examples:
  python -m tests.fuzz                                    all 1,500 inputs, about 15 minutes
  python -m tests.fuzz --kind images --count 100          100 inputs of one kind
  python -m tests.fuzz --only images:17                   one input again; its files are kept
  python -m tests.fuzz --output benchmarks/results/fuzz.csv

The exit status is 1 if a verdict is worse than refused.
"""

import argparse
import csv
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.update(CUDA_VISIBLE_DEVICES="", HF_ENDPOINT="http://127.0.0.1:9")
os.umask(0o022)

from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

from tests.fuzz.case import Box, Case, Snapshot, snapshot
from tests.fuzz.child import MIB, Child, Limits, Result
from tests.fuzz.kinds import KINDS
from tests.fuzz.verdict import BAD, VERDICTS, judge

COLUMNS = ("kind", "inputs", *VERDICTS)


@dataclass
class Outcome:
    """An input and what became of it."""

    kind: str
    index: int
    case: Case
    result: Result
    verdict: str
    reason: str

    def __str__(self) -> str:
        said = (self.result.stderr.strip() or self.result.stdout.strip()).splitlines() or [""]
        words = " ".join(self.case.command)
        return (
            f"{self.verdict}: {self.kind}:{self.index}  {self.case.what}\n"
            f"    ccnet {words[:200]!r}\n    {self.reason}; it said: {said[-1][:300]!r}"
        )


def schedule(count: int, only_kind: str | None) -> list[tuple[str, int]]:
    """(kind, index) of each input: as many of each kind as its share says, mixed."""
    kinds = KINDS if only_kind is None else {only_kind: KINDS[only_kind]}
    total = sum(share for _, share in kinds.values())
    places = []
    for kind, (_, share) in kinds.items():
        number = max(1, round(count * share / total))
        places += [((index + 0.5) / number, kind, index) for index in range(number)]
    return [(kind, index) for _, kind, index in sorted(places)]


class Running:
    """An input that is being run."""

    def __init__(self, kind: str, index: int, seed: int, folders: tuple[Path, Path], limits: Limits):
        template, scratch = folders
        self.kind, self.index, self.limits = kind, index, limits
        rng = random.Random(f"{seed} {kind} {index}")
        self.box = Box(scratch / f"{kind}-{index}".replace(" ", "-"), template, rng)
        self.case = KINDS[kind][0](rng, self.box)
        self.before: Snapshot = snapshot(self.box.folder)
        self.child = Child(ccnet_main(), self.case.command, self.box.folder, limits)

    def poll(self) -> Outcome | None:
        result = self.child.poll()
        if result is None:
            return None
        after = snapshot(self.box.folder)
        verdict, reason = judge(self.case, self.box, result, self.before, after, self.limits)
        return Outcome(self.kind, self.index, self.case, result, verdict, reason)


def ccnet_main():
    from ccnet.cli import main

    return main


def load_modules() -> None:
    """Import what the commands use, so that the forked processes need not."""
    import ccnet.datasets.check
    import ccnet.demo
    import ccnet.export.exporter
    import ccnet.prediction.evaluate
    import ccnet.prediction.files
    import ccnet.report.curves
    import ccnet.report.tables
    import ccnet.training.loop  # noqa: F401


def run_all(
    places: list[tuple[str, int]], seed: int, jobs: int, limits: Limits, scratch: Path, keep: bool
) -> Iterator[Outcome]:
    """What becomes of each input, as they end."""
    from tests.fuzz.template import build

    template = scratch / "template"
    load_modules()
    build(template)
    waiting, running = list(reversed(places)), []
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Running(*waiting.pop(), seed, (template, scratch), limits))
        for one in list(running):
            outcome = one.poll()
            if outcome is not None:
                running.remove(one)
                if not keep:
                    remove(one.box.folder)
                yield outcome
        time.sleep(0.003)


def remove(folder: Path) -> None:
    """Remove a folder that may have parts without permissions."""
    for parent, folders, _ in os.walk(folder):
        for name in folders:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(0o755)
    shutil.rmtree(folder)


def table(outcomes: list[Outcome]) -> list[dict[str, object]]:
    """One row per kind, and one for all."""
    rows = []
    for kind in (*KINDS, "all"):
        of_kind = [o for o in outcomes if kind in (o.kind, "all")]
        counts = Counter(o.verdict for o in of_kind)
        if of_kind:
            counted = {verdict: counts[verdict] for verdict in VERDICTS}
            rows.append({"kind": kind, "inputs": len(of_kind), **counted})
    return rows


def markdown(rows: list[dict[str, object]]) -> str:
    lines = [f"| {' | '.join(COLUMNS)} |", "|---" + "|---:" * (len(COLUMNS) - 1) + "|"]
    lines += [f"| {' | '.join(str(row[name]) for name in COLUMNS)} |" for row in rows]
    return "\n".join(lines)


def write_csv(path: Path, rows: list[dict[str, object]]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    description, _, details = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(
        prog="python -m tests.fuzz",
        description=description,
        epilog=details,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--count", type=int, default=1500, help="number of inputs (default: 1500)")
    add("--seed", type=int, default=0, help="other inputs for each seed (default: 0)")
    add("--kind", choices=KINDS, help="inputs of this kind only")
    add("--only", metavar="KIND:INDEX", help="this input only; its files and output are kept")
    add("--jobs", type=int, default=1, help="processes at the same time (default: 1)")
    add("--seconds", type=float, default=20.0, help="seconds of computing (default: 20)")
    add("--memory", type=int, default=1024, help="MiB that a command may need (default: 1024)")
    add("--output", type=Path, metavar="CSV", help="write the table to this file")
    add("--failures", type=Path, metavar="FILE", help="write the failures to this file")
    return parser.parse_args(arguments)


def main() -> int:
    flags = parse()
    limits = Limits(cpu_seconds=flags.seconds, memory=flags.memory * MIB)
    places = schedule(flags.count, flags.kind)
    scratch = Path(tempfile.mkdtemp(prefix="ccnet-fuzz-")).resolve()
    os.environ["HOME"] = os.environ["HF_HOME"] = os.environ["TORCH_HOME"] = str(scratch / "home")
    if flags.only is not None:
        kind, _, index = flags.only.rpartition(":")
        places = [(kind, int(index))]
    outcomes = []
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("inputs", total=len(places))
        keep = flags.only is not None
        for outcome in run_all(places, flags.seed, flags.jobs, limits, scratch, keep):
            outcomes.append(outcome)
            progress.advance(task)
            if outcome.verdict in BAD or keep:
                progress.console.print(str(outcome), markup=False, highlight=False, soft_wrap=True)
    rows = table(outcomes)
    bad = [o for o in outcomes if o.verdict in BAD]
    bad.sort(key=lambda o: (-VERDICTS.index(o.verdict), o.kind, o.index))
    print(markdown(rows))
    if flags.output is not None:
        write_csv(flags.output, rows)
    if flags.failures is not None:
        flags.failures.write_text("\n".join(map(str, bad)) + "\n", errors="backslashreplace")
    if flags.only is not None:
        print(f"\n{outcomes[0].result.stdout}{outcomes[0].result.stderr}\nfiles: {scratch}")
    else:
        remove(scratch)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
