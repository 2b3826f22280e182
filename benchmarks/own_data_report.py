"""Print the table of results/own_data.csv for docs/results.md: mIoU, and the distance to the best.

Rows of `ccnet of COMMIT` are of earlier choices or of comparisons, and are not in the table. Where
brackets follow the name of a method, its code was changed as they say.

python benchmarks/own_data_report.py [CSV]
"""

import argparse
import statistics
from collections.abc import Iterator
from pathlib import Path

from csv_rows import read_rows
from own_data import RESULTS
from own_data_peers import PEERS

Scores = dict[tuple[str, str], dict[str, list[float]]]
"""mIoU in % of each seed, by (data, minutes) and by method."""


def read(path: Path) -> Scores:
    found: Scores = {}
    for row in read_rows(path):
        case = found.setdefault((row["data"], row["minutes"]), {})
        case.setdefault(row["method"], []).append(100 * float(row["miou"]))
    return found


def table(found: Scores) -> Iterator[str]:
    """One row for each data set: the mean over the seeds, and ours minus the best peer."""
    methods = ["ccnet", *PEERS]
    names = ["`ccnet train FOLDER`", *PEERS.values()]
    yield f"| data, minutes | {' | '.join(names)} | ahead of the best by |"
    yield "|---" * (len(names) + 2) + "|"
    for (data, minutes), scores in found.items():
        if "ccnet" not in scores:  # comparisons of ours alone
            continue
        means = {name: statistics.mean(scores[name]) for name in methods if name in scores}
        cells = [f"{means[name]:.1f}" if name in means else "–" for name in methods]
        gap = means["ccnet"] - max(means[name] for name in PEERS if name in means)
        yield f"| {data}, {float(minutes):g} | {' | '.join(cells)} | {gap:+.1f} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("csv", type=Path, nargs="?", default=RESULTS, help="of own_data.py")
    print(*table(read(parser.parse_args().csv)), sep="\n")


if __name__ == "__main__":
    main()
