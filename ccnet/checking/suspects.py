"""Which pairs of a data set a person should look at first, and why."""

from dataclasses import dataclass

import numpy as np

from ccnet.checking.findings import MOSTLY_IGNORED, DataReport
from ccnet.checking.inspection import Observation

RARE_IMAGES = 3
"""A class that occurs in no more images than this is rare, where there are ten times as many."""
LOW_EDGES = 0.65
"""Borders agree badly with the edges of an image below this share of the data set's median. On
CamVid 1 % of the labels are below it, and 95 % of labels that are given to other images."""


@dataclass(frozen=True)
class Suspect:
    """A pair and what is suspicious about it."""

    index: int
    """Its number in the data set."""
    reasons: tuple[str, ...]
    """The worst one first; empty for a pair without any."""
    weight: float
    """How suspicious it is; 0 without a reason."""


def ranked(report: DataReport) -> list[Suspect]:
    """All pairs of a report that was made with `compare_edges`, the worst suspects first."""
    median = report.median_edges or 0.0
    found = [Suspect(index, (error,), 1000.0) for index, error in report.errors.items()]
    for index, seen in report.observations.items():
        weighted = sorted(_reasons(report, seen, median), reverse=True)
        reasons = tuple(text for _, text in weighted)
        found.append(Suspect(index, reasons, sum(weight for weight, _ in weighted)))
    return sorted(found, key=lambda suspect: (-suspect.weight, suspect.index))


def chosen(suspects: list[Suspect], number: int) -> list[Suspect]:
    """The first `number` suspects; where there are fewer, pairs at equal distances besides."""
    with_reason = [suspect for suspect in suspects if suspect.reasons][:number]
    others = sorted((s for s in suspects if not s.reasons), key=lambda suspect: suspect.index)
    room = number - len(with_reason)
    places = np.linspace(0, len(others) - 1, min(room, len(others))).astype(int)
    return with_reason + [others[place] for place in places.tolist()]


def _reasons(report: DataReport, seen: Observation, median: float) -> list[tuple[float, str]]:
    """What is suspicious about a pair that can be used, each with its weight."""
    if not seen.labeled:
        return [(80.0, "nothing is labeled")]
    reasons = []
    if seen.is_turn_open and (seen.edges_turned or 0) > (seen.edges or 0):
        reasons.append((60.0, "fits better if it is turned as the EXIF orientation says"))
    elif seen.is_turn_open:
        reasons.append((30.0, "the image has an EXIF orientation, the label has none"))
    if seen.highest is not None:
        reasons.append((30.0, f"16 bits, of which only 0–{seen.highest} is used"))
    limit = LOW_EDGES * median
    if seen.edges is not None and seen.edges < limit:
        text = f"borders off the image's edges ({seen.edges:.1f}, median {median:.1f})"
        reasons.append((40.0 + 10 * (limit - seen.edges), text))
    present = np.flatnonzero(seen.counts[:-1]).tolist()
    if len(present) == 1 and sum(count > 0 for count in report.class_images) > 1:
        reasons.append((10.0, f"one class only: {report.classes[present[0]]}"))
    ignored = seen.ignored / (seen.ignored + seen.labeled)
    if ignored > MOSTLY_IGNORED:
        reasons.append((20.0 * ignored, f"{ignored:.0%} ignored"))
    if report.num_usable >= 10 * RARE_IMAGES:
        rare = [c for c in present if report.class_images[c] <= RARE_IMAGES]
        names = ", ".join(report.classes[c] for c in rare)
        reasons += [(25.0, f"rare: {names}")] if rare else []
    return reasons
