"""What was found and chosen, as a table for the terminal."""

from typing import Any

from rich.console import Group
from rich.table import Table
from rich.text import Text

from ccnet.planning.planner import Planned
from ccnet.runtime.disk import readable_size
from ccnet.runtime.files import printable

CLASSES_SHOWN = 30


def plan_table(planned: Planned) -> Group:
    """The data, the machine, and each choice with its reason."""
    facts, machine = planned.facts, planned.machine
    largest = f"{facts.largest[1]}×{facts.largest[0]}"
    lines = [
        f"{facts.num_images} images to learn from, {facts.num_validation} to validate on",
        f"half of them are at most {facts.width}×{facts.height}, the largest {largest}",
        f"{facts.thin_share:.1%} of the labeled pixels lie in structures thinner than 8 pixels",
        f"{machine.device.type}, {machine.cores} cores, {readable_size(machine.memory)} free",
    ]
    classes = Table("class", "share of labeled pixels")
    shares = list(zip(planned.classes, facts.shares, strict=True))
    for name, share in shares[:CLASSES_SHOWN]:
        missing = Text("never occurs", "bold yellow")
        classes.add_row(Text(printable(name)), missing if share == 0 else f"{share:.2%}")
    if len(shares) > CLASSES_SHOWN:
        classes.add_row(f"and {len(shares) - CLASSES_SHOWN} more", "")
    table = Table("chosen", "value", "why")
    for choice in planned.choices:
        style = "bold yellow" if choice.is_warning else ""
        table.add_row(f"--{choice.flag}", value_text(choice.value), Text(choice.reason, style))
    return Group(*map(Text, lines), classes, table)


def value_text(value: Any) -> str:
    """A value as a flag takes it."""
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value).replace(" ", "")
