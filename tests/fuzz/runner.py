"""Runs inputs one after the other, or several at the same time, and gathers the verdicts."""

import os
import random
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fuzz.case import Box, Case, snapshot
from tests.fuzz.child import Child, Limits, Result
from tests.fuzz.kinds import KINDS
from tests.fuzz.verdict import judge

Main = Callable[[list[str]], Any]
"""What is given the arguments of a command line, such as `ccnet.cli.main`."""


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

    def __init__(
        self,
        kind: str,
        index: int,
        seed: int,
        main: Main,
        folders: tuple[Path, Path],
        limits: Limits,
    ) -> None:
        template, scratch = folders
        self.kind, self.index, self.limits = kind, index, limits
        self.box, self.case = make(kind, index, seed, template, scratch)
        self.before = snapshot(self.box.folder)
        self.child = Child(main, self.case.command, self.box.folder, limits)

    def poll(self) -> Outcome | None:
        """What became of it; None while it runs."""
        result = self.child.poll()
        if result is None:
            return None
        after = snapshot(self.box.folder)
        verdict, reason = judge(self.case, self.box, result, self.before, after, self.limits)
        return Outcome(self.kind, self.index, self.case, result, verdict, reason)


def make(kind: str, index: int, seed: int, template: Path, scratch: Path) -> tuple[Box, Case]:
    """The files and the command line of an input, which depend on nothing but these numbers."""
    rng = random.Random(f"{seed} {kind} {index}")
    box = Box(scratch / f"{kind}-{index}".replace(" ", "-"), template, rng)
    return box, KINDS[kind][0](rng, box)


def load_modules() -> None:
    """Import what the commands use, so that the forked processes need not."""
    import ccnet.checking.check
    import ccnet.demo
    import ccnet.export.exporter
    import ccnet.labeling.files
    import ccnet.prediction.evaluate
    import ccnet.report.curves
    import ccnet.report.tables
    import ccnet.training.loop  # noqa: F401


def run_all(
    places: list[tuple[str, int]],
    seed: int,
    main: Main,
    folders: tuple[Path, Path],
    limits: Limits,
    *,
    jobs: int = 1,
    keep: bool = False,
) -> Iterator[Outcome]:
    """What becomes of each input, as they end.

    Args:
        places: (kind, index) of each.
        seed: of all.
        main: gets the command lines.
        folders: the one of the valid ingredients, and one for the inputs.
        limits: of each command.
        jobs: how many run at the same time.
        keep: leave their files.
    """
    waiting, running = list(reversed(places)), []
    while waiting or running:
        while waiting and len(running) < jobs:
            running.append(Running(*waiting.pop(), seed, main, folders, limits))
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
