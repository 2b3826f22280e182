"""Which pairs are shown first."""

import numpy as np
import pytest

from ccnet.checking.findings import DataReport
from ccnet.checking.inspection import Observation
from ccnet.checking.suspects import Suspect, chosen, ranked


def observed(counts: list[int], **fields) -> Observation:
    return Observation((1, sum(counts)), np.array(counts), **{"edges": 2.0, **fields})


def new_report(*observations: Observation | str) -> DataReport:
    report = DataReport("root", "train", "", ("a", "b"), num_pairs=len(observations))
    for index, seen in enumerate(observations):
        if isinstance(seen, str):
            report.errors[index] = seen
        else:
            report.observations[index] = seen
    report.num_usable = len(report.observations)
    report.class_images = [
        sum(int(seen.counts[c] > 0) for seen in report.observations.values()) for c in (0, 1)
    ]
    return report


GOOD = observed([5, 5, 0])


@pytest.mark.parametrize(
    ("seen", "reason"),
    [
        (observed([0, 0, 9], edges=None), "nothing is labeled"),
        (observed([9, 0, 0], edges=None), "one class only: a"),
        (observed([1, 1, 8]), "80% ignored"),
        (observed([5, 5, 0], edges=0.9), "borders off the image's edges (0.9, median 2.0)"),
        (observed([5, 5, 0], highest=4095), "16 bits, of which only 0–4095 is used"),
        (
            observed([5, 5, 0], is_turn_open=True, edges_turned=3.0),
            "fits better if it is turned as the EXIF orientation says",
        ),
        (
            observed([5, 5, 0], is_turn_open=True, edges_turned=1.0),
            "the image has an EXIF orientation, the label has none",
        ),
        ("a.png: broken", "a.png: broken"),
    ],
)
def test_a_suspect_comes_first_with_its_reason(seen: Observation | str, reason: str):
    first, *others = ranked(new_report(GOOD, GOOD, GOOD, seen))
    assert (first.index, first.reasons) == (3, (reason,))
    assert all(suspect.weight == 0 for suspect in others)


def test_a_rare_class_makes_its_images_suspects():
    without = observed([9, 0, 1], edges=None)
    report = new_report(*[without] * 40, GOOD)
    assert ranked(report)[0].reasons == ("rare: b",)


def test_errors_come_before_empty_labels_and_these_before_doubts():
    report = new_report(observed([5, 5, 0], edges=0.5), observed([0, 0, 9], edges=None), "e", GOOD)
    assert [suspect.index for suspect in ranked(report)][:2] == [2, 1]


def test_pairs_without_a_reason_fill_up_at_equal_distances():
    suspects = [Suspect(9, ("x",), 1.0), *[Suspect(i, (), 0.0) for i in range(9)]]
    assert [suspect.index for suspect in chosen(suspects, 4)] == [9, 0, 4, 8]
    assert [suspect.index for suspect in chosen(suspects, 1)] == [9]
    assert len(chosen(suspects, 40)) == 10
