"""The statements of docs/results.md about the number of passes hold in the CSV file."""

import csv
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_gaps_of_the_ablation_are_clear():
    scores: dict[str, list[float]] = {}
    with (ROOT / "benchmarks" / "results" / "recurrence.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            scores.setdefault(row["recurrence"], []).append(float(row["miou"]))
    assert [len(scores[passes]) for passes in "0123"] == [3] * 4
    assert max(scores["0"]) + 0.1 < min(scores["1"])
    assert max(scores["1"]) + 0.3 < min(scores["2"])
    assert min(scores["2"] + scores["3"]) > 0.95
