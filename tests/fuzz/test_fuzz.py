"""A share of the fuzz finds no fault, and each verdict is given where a fault was planted."""

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from ccnet.cli import main as ccnet_main
from tests.commands import ROOT, environment
from tests.fuzz.__main__ import markdown, read_csv, table, write_csv
from tests.fuzz.case import REFUSED, REPORTED, RIGHT, Box, Case, snapshot
from tests.fuzz.child import MIB, Child, Limits
from tests.fuzz.kinds import KINDS
from tests.fuzz.runner import make, run_all, schedule
from tests.fuzz.template import build
from tests.fuzz.verdict import BAD, VERDICTS, judge

pytestmark = pytest.mark.slow

LIMITS = Limits(cpu_seconds=3, idle_seconds=3, memory=200 * MIB)


@pytest.mark.slow
def test_a_hundred_inputs_find_no_fault(tmp_path):
    command = [sys.executable, "-m", "tests.fuzz", "--count=100", f"--failures={tmp_path / 'bad'}"]
    result = subprocess.run(
        command, cwd=ROOT, env=environment(), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, (tmp_path / "bad").read_text() + result.stderr


@pytest.fixture(scope="module")
def template(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "template"
    build(folder)
    return folder


@pytest.fixture(scope="module")
def picture(tmp_path_factory) -> Path:
    """A template that holds only what every input needs."""
    from PIL import Image

    folder = tmp_path_factory.mktemp("picture")
    Image.fromarray(np.zeros((40, 48, 3), np.uint8)).save(folder / "good.png")
    return folder


def say(*lines: str, status: int = 2) -> None:
    print(*lines, sep="\n", file=sys.stderr)
    sys.exit(status)


def allocate() -> None:
    np.ones(300 * MIB, np.uint8)


def write(path: str) -> None:
    Path(path).parent.mkdir(exist_ok=True)
    Path(path).write_text("changed")


def stop(number: int) -> None:
    os.kill(os.getpid(), number)


def spin() -> None:
    while True:
        pass


def follow_link() -> None:
    Path("out").mkdir()
    Path("out/x").symlink_to("../../outside/precious.txt")
    Path("out/x").write_text("changed")


GOOD_LINE = "ccnet predict: x.png: it is damaged; restore it"
PLANTED = [
    ("refused", lambda: say(GOOD_LINE)),
    ("refused", lambda: say("reading x.png", "warning: it is large", GOOD_LINE)),
    ("traceback", lambda: {}["missing"]),
    ("traceback", lambda: say("Traceback (most recent call last)", GOOD_LINE)),
    ("traceback", lambda: stop(signal.SIGSEGV)),
    ("traceback", lambda: sys.exit(7)),
    pytest.param("hang", spin, marks=pytest.mark.slow),
    pytest.param("hang", lambda: time.sleep(60), marks=pytest.mark.slow),
    ("memory", allocate),
    ("memory", lambda: say("ccnet predict: x.png: cannot be read (MemoryError)")),
    ("code ran", lambda: write("../canary")),
    ("code ran", lambda: subprocess.run(["true"], check=False)),
    ("code ran", lambda: os.system("true")),
    ("wrote outside", lambda: write("../outside/precious.txt")),
    ("wrote outside", lambda: write("../outside/new/x")),
    ("wrote outside", lambda: write("input.png")),
    ("wrote outside", lambda: write("other/new.txt")),
    ("wrote outside", lambda: write("../tmp/left")),
    ("wrote outside", lambda: write("out/.x.png.new")),
    ("wrote outside", lambda: write("out/kept.txt")),
    ("wrote outside", lambda: Path("input.png").unlink()),
    ("wrote outside", follow_link),
    ("silently wrong", lambda: None),
    ("unclear", lambda: say("ccnet predict: it is damaged; restore it")),
    ("unclear", lambda: say(GOOD_LINE, "more")),
    ("unclear", lambda: say("usage: ccnet", GOOD_LINE)),
    ("unclear", lambda: say("x.png is damaged")),
    ("unclear", lambda: say(GOOD_LINE + "!" * 700)),
    ("unclear", lambda: say("ccnet predict: x.png")),
    ("unclear", lambda: say("")),
    ("unclear", lambda: say(GOOD_LINE, status=1)),
]


def verdict_of(function: Callable[[], object], case: Case, picture: Path, folder: Path) -> str:
    box = Box(folder / "box", picture, random.Random(0))
    box.write("input.png", b"x")
    box.write("out/kept.txt", b"x") if case.keep else None
    before = snapshot(box.folder)
    child = Child(lambda _: function(), case.command, box.folder, LIMITS)
    while (result := child.poll()) is None:
        time.sleep(0.01)
    return judge(case, box, result, before, snapshot(box.folder), LIMITS)[0]


@pytest.mark.parametrize(("verdict", "function"), PLANTED)
def test_a_planted_fault_gets_its_verdict(verdict, function, tmp_path, picture):
    keep = ("out/kept.txt",) if verdict == "wrote outside" else ()
    keep = () if function is follow_link else keep
    case = Case("planted", ["predict"], (REFUSED,), ("x.png",), keep=keep)
    assert verdict_of(function, case, picture, tmp_path) == verdict


@pytest.mark.parametrize(
    ("verdict", "function", "expect", "wrong"),
    [
        ("right", lambda: None, (RIGHT,), None),
        ("silently wrong", lambda: None, (RIGHT,), "labels of another size"),
        ("right", lambda: say("skipped x.png: it is damaged", status=1), (REPORTED,), None),
        ("unclear", lambda: say("skipped y.png: it is damaged", status=1), (REPORTED,), None),
        ("unclear", lambda: say("skipped x.png: it is", "damaged", status=1), (REPORTED,), None),
        ("silently wrong", lambda: say("skipped x.png: no", status=1), (REPORTED,), "no labels"),
        ("unclear", lambda: say(GOOD_LINE), (RIGHT, REPORTED), None),
    ],
)
def test_a_result_is_judged_by_what_may_come_of_it(
    verdict, function, expect, wrong, tmp_path, picture
):
    case = Case("planted", ["predict"], expect, ("x.png",), check=lambda work: wrong)
    assert verdict_of(function, case, picture, tmp_path) == verdict


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_command_that_does_nothing_is_found_out(kind, tmp_path, template):
    places = [(kind, index) for index in range(12)]
    outcomes = run_all(places, 0, lambda _: None, (template, tmp_path), LIMITS)
    assert "silently wrong" in [outcome.verdict for outcome in outcomes]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_an_input_depends_on_the_seed_the_kind_and_its_number_alone(kind, tmp_path, template):
    made = []
    for number, seed in enumerate((3, 3, 4)):
        of_seed = []
        for index in range(6):
            box, case = make(kind, index, seed, template, tmp_path / str(number))
            files = sorted((path, facts[0]) for path, facts in snapshot(box.work).items())
            of_seed.append((case.what, case.command, case.expect, case.names, files))
        made.append(of_seed)
    assert made[0] == made[1] != made[2]


@pytest.mark.slow
def test_the_valid_ingredients_are_right(template, tmp_path):
    """What no input damages must succeed, else every refusal would be of the same cause."""
    box = Box(tmp_path / "box", template, random.Random(0))
    for name in ("model", "photos", "data", "config.yaml", "published.pth", "run", "backbone.pth"):
        box.take(name)
    for number, command in enumerate(
        (
            ["predict", "model", "photos", "--output=out", "--device=cpu"],
            ["evaluate", "model", "--root=data", "--device=cpu"],
            ["check-data", "data", "--split=train"],
            ["convert", "published.pth", "converted"],
            ["train", "--config=config.yaml", "--run=new", "--model.pretrained=backbone.pth"],
            ["train", "--resume=run"],
        )
    ):
        child = Child(ccnet_main, command, box.folder, Limits())
        while (result := child.poll()) is None:
            time.sleep(0.01)
        assert result.status == 0, (number, result.stderr)


def test_every_kind_has_its_share_and_all_are_mixed():
    places = schedule(1000, None)
    assert len(places) == pytest.approx(1000, abs=len(KINDS))
    assert len(set(places)) == len(places)
    assert {kind for kind, _ in places} == set(KINDS)
    assert len({kind for kind, _ in places[:50]}) == len(KINDS)


def test_the_table_counts_and_is_read_again(tmp_path):
    verdicts = [("images", "right"), ("images", "hang"), ("runs", "refused")]
    rows = table(verdicts, VERDICTS)
    assert [(row["kind"], row["inputs"], row["hang"]) for row in rows] == [
        ("images", "2", "1"),
        ("runs", "1", "0"),
        ("all", "3", "1"),
    ]
    write_csv(tmp_path / "fuzz.csv", rows)
    assert read_csv(tmp_path / "fuzz.csv") == rows
    assert markdown(rows).splitlines()[2].startswith("| images | 2 | 1 |")


def test_the_page_has_the_table_of_the_csv_file():
    rows = read_csv(ROOT / "benchmarks" / "results" / "fuzz.csv")
    assert int(rows[-1]["inputs"]) >= 1000
    assert all(row[name] == "0" for row in rows for name in BAD)
    assert markdown(rows) in (ROOT / "docs" / "robustness.md").read_text()
