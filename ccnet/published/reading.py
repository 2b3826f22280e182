"""Read published networks: the architecture, the weights by our names, what became of each key.

Two families are known: the CCNet authors' files and mmsegmentation's. The architecture is a dict
of arguments of `CCNet`, so that this floor does not depend on the network.
"""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from ccnet.published.architecture import align_corners_of, architecture_of, input_and_rules
from ccnet.published.keys import KeyChange, convert, recognize
from ccnet.published.names import Family
from ccnet.weights import read_weights


@dataclass(frozen=True)
class Published:
    """A published network, ready to be built."""

    path: Path
    family: Family
    architecture: dict[str, Any]
    """Arguments of `CCNet`."""
    state: dict[str, Tensor]
    """The weights by our names."""
    changes: tuple[KeyChange, ...]
    """One entry for every key of the file and of `state`."""
    notes: tuple[str, ...]
    """What the weights alone do not tell, and how it was decided."""
    metadata: dict[str, Any]
    """What was stored in the file besides the weights."""

    def describe(self) -> str:
        """A summary in words: the network, how many keys were changed and how, and the notes."""
        made = self.architecture
        width = made["auxiliary_channels"]
        auxiliary = f"auxiliary head of {width} channels" if width else "no auxiliary head"
        lines = [
            f"{self.family}: {made['backbone']} with stem {made['stem']}, R={made['recurrence']}, "
            f"{made['num_classes']} classes, {auxiliary}"
        ]
        fates = Counter(
            "left out" if not change.key else "added" if not change.source_key else "taken over"
            for change in self.changes
        )
        lines.append("keys: " + ", ".join(f"{count} {fate}" for fate, count in fates.items()))
        changes = Counter(change.change for change in self.changes if change.change)
        lines += [f"  {count} × {change}" for change, count in changes.items()]
        return "\n".join([*lines, *self.notes])

    def save_report(self, path: Path) -> None:
        """Write a CSV file with one row per key: in the file, in our network, what changed."""
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["source_key", "key", "change"])
            writer.writerows((c.source_key, c.key, c.change) for c in self.changes)


def read_published(
    path: str | Path, recurrence: int = 2, *, align_corners: bool | None = None
) -> Published:
    """Read the authors' or mmsegmentation's CCNet; the family is recognized by its keys.

    Args:
        path: the published file; no code in it is run.
        recurrence: R, which the weights do not tell, since all passes share them.
        align_corners: of the upsampling, which the weights do not tell either. None: True for the
            authors'; for mmsegmentation's what a configuration stored in the file says, without
            one True if the file's name contains 769x769 and False otherwise.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file cannot be read, is no CCNet, or has a key of unknown use.
    """
    path = Path(path)
    weights = read_weights(path)
    family = recognize(path, weights.tensors)
    try:
        changes, state = convert(family, weights.tensors, recurrence)
        architecture = architecture_of(state) | {"recurrence": recurrence}
    except KeyError as error:
        raise ValueError(f"{path}: a CCNet of {family}, but it has no {error.args[0]}") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    rules, class_notes = input_and_rules(family, architecture["num_classes"], weights.metadata)
    architecture |= rules
    notes = [
        *class_notes,
        f"recurrence={recurrence}: the weights are the same for any number of passes",
    ]
    if align_corners is not None:
        notes.append(f"align_corners={align_corners}, as asked for")
    elif family == "authors":
        align_corners = True
        notes.append("align_corners=True, as the authors' network")
    else:
        align_corners, reason = align_corners_of(path, weights.metadata)
        notes.append(f"align_corners={align_corners}: {reason}")
    architecture["align_corners"] = align_corners
    return Published(
        path, family, architecture, state, tuple(changes), tuple(notes), weights.metadata
    )
