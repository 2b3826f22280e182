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
import sys
import tempfile
from collections import Counter
from pathlib import Path


def prepare(scratch: Path) -> None:
    """Set what torch and the hub's library read when they are imported: one thread, no network."""
    home = str(scratch / "home")
    os.environ.update(HOME=home, HF_HOME=home, TORCH_HOME=home, HF_ENDPOINT="http://127.0.0.1:9")
    os.environ.update(OMP_NUM_THREADS="1", CUDA_VISIBLE_DEVICES="")


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
    add("--kind", help="inputs of this kind only")
    add("--only", metavar="KIND:INDEX", help="this input only; its files and output are kept")
    add("--jobs", type=int, default=1, help="processes at the same time (default: 1)")
    add("--seconds", type=float, default=20.0, help="seconds of computing (default: 20)")
    add("--memory", type=int, default=1024, help="MiB that a command may need (default: 1024)")
    add("--output", type=Path, metavar="CSV", help="write the table to this file")
    add("--failures", type=Path, metavar="FILE", help="write the failures to this file")
    return parser.parse_args(arguments)


def main() -> int:
    flags = parse()
    scratch = Path(tempfile.mkdtemp(prefix="ccnet-fuzz-")).resolve()
    prepare(scratch)
    from rich.progress import MofNCompleteColumn, Progress, TimeElapsedColumn, TimeRemainingColumn

    from ccnet.cli import main as ccnet_main
    from tests.fuzz.child import MIB, Limits
    from tests.fuzz.runner import load_modules, remove, run_all, schedule
    from tests.fuzz.template import build
    from tests.fuzz.verdict import BAD, VERDICTS

    limits = Limits(cpu_seconds=flags.seconds, memory=flags.memory * MIB)
    places = schedule(flags.count, flags.kind)
    if flags.only is not None:
        kind, _, index = flags.only.rpartition(":")
        places = [(kind, int(index))]
    load_modules()
    build(scratch / "template")
    outcomes, keep = [], flags.only is not None
    columns = (*Progress.get_default_columns()[:2], MofNCompleteColumn(), TimeElapsedColumn())
    # no thread of its own, since processes are forked
    with Progress(*columns, TimeRemainingColumn(), auto_refresh=False) as progress:
        task = progress.add_task("inputs", total=len(places))
        folders = (scratch / "template", scratch)
        for outcome in run_all(
            places, flags.seed, ccnet_main, folders, limits, jobs=flags.jobs, keep=keep
        ):
            outcomes.append(outcome)
            progress.update(task, advance=1, refresh=True)
            if outcome.verdict in BAD or keep:
                progress.console.print(str(outcome), markup=False, highlight=False, soft_wrap=True)
    rows = table([(outcome.kind, outcome.verdict) for outcome in outcomes], VERDICTS)
    bad = [outcome for outcome in outcomes if outcome.verdict in BAD]
    bad.sort(key=lambda one: (-VERDICTS.index(one.verdict), one.kind, one.index))
    print(markdown(rows))
    if flags.output is not None:
        write_csv(flags.output, rows)
    if flags.failures is not None:
        flags.failures.write_text("".join(f"{one}\n" for one in bad), errors="backslashreplace")
    if keep:
        print(f"\n{outcomes[0].result.stdout}{outcomes[0].result.stderr}\nfiles: {scratch}")
    else:
        remove(scratch)
    return 1 if bad else 0


Rows = list[dict[str, str]]


def table(verdicts: list[tuple[str, str]], names: tuple[str, ...]) -> Rows:
    """One row per kind, and one for all, of the number of inputs with each verdict."""
    rows = []
    for kind in (*sorted({kind for kind, _ in verdicts}), "all"):
        counts = Counter(verdict for of, verdict in verdicts if kind in (of, "all"))
        row = {"kind": kind, "inputs": counts.total(), **{name: counts[name] for name in names}}
        rows.append({name: str(value) for name, value in row.items()})
    return rows


def markdown(rows: Rows) -> str:
    """The table as a page has it."""
    columns = list(rows[0])
    lines = [f"| {' | '.join(columns)} |", "|---" + "|---:" * (len(columns) - 1) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row.values())} |" for row in rows)])


def write_csv(path: Path, rows: Rows) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def read_csv(path: Path) -> Rows:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


if __name__ == "__main__":
    sys.exit(main())
