"""The table of a plan."""

import torch
from rich.console import Console

from ccnet.config import TrainConfig
from ccnet.planning.choices import Choice
from ccnet.planning.facts import DataFacts
from ccnet.planning.machine import Machine
from ccnet.planning.planner import Planned
from ccnet.planning.table import plan_table, value_text


def test_the_table_says_what_was_found_and_chosen_and_why():
    facts = DataFacts(9, 2, 70, 90, 60, (80, 100), (0.75, 0.25, 0.0), 0.031)
    machine = Machine(torch.device("cpu"), "float32", 8_000_000_000, 4)
    choices = (
        Choice("model.backbone", "mobilenet_v2", "the fastest good one"),
        Choice("model.pretrained", None, "a much lower score", is_warning=True),
    )
    planned = Planned(TrainConfig(), facts, machine, ("sky", "[b]road", "unicorn"), choices)
    console = Console(width=100, record=True)
    console.print(plan_table(planned))
    text = console.export_text()
    for part in (
        "9 images to learn from, 2 to validate on",
        "90×70, the largest 100×80",
        "3.1%",
        "cpu, 4 cores, 8.0 GB free",
        "75.00%",
        "[b]road",
        "never occurs",
        "--model.backbone",
        "the fastest good one",
        "null",
    ):
        assert part in text


def test_values_are_written_as_flags_take_them():
    values = (None, True, 3, 0.5, [352, 352], "auto")
    assert [value_text(value) for value in values] == [
        *("null", "true", "3", "0.5", "[352,352]", "auto")
    ]
