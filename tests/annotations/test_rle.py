"""COCO's run-length encoding, against a plain encoder and masks of the COCO tools."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ccnet.annotations.rle import decode, read_runs


def counts_of(mask: np.ndarray) -> list[int]:
    """Runs outside and inside in turn, the first one outside, column by column."""
    flat = np.concatenate([[0], mask.T.ravel(), [2]])
    ends = np.flatnonzero(np.diff(flat))
    counts = np.diff(np.concatenate([[0], ends])).tolist()
    return counts if mask.size == sum(counts) else [0, *counts]


def compressed(counts: list[int]) -> str:
    """The text form: differences, in groups of five bits, with the sign in the last group."""
    text = ""
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            group, value = value & 31, value >> 5
            is_last = value == (-1 if group & 16 else 0)
            text += chr(48 + group + (0 if is_last else 32))
            if is_last:
                break
    return text


@settings(deadline=None)
@given(
    arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 40)), elements=st.integers(0, 1))
)
def test_masks_are_read_from_both_forms(mask):
    size = list(mask.shape)
    for counts in (counts_of(mask), compressed(counts_of(mask))):
        label = np.zeros(mask.shape, np.uint8)
        read_runs({"counts": counts, "size": size}, mask.shape).paint(label, 1, (1.0, 1.0))
        np.testing.assert_array_equal(label, mask)


def test_a_text_of_the_coco_tools_is_read():
    # pycocotools.mask.encode of a 9x10 mask with rows 2 to 4 of columns 3 to 6 inside
    assert decode("m03600000i0") == [29, 3, 6, 3, 6, 3, 6, 3, 31]


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ([3, 3], "they sum to 6"),
        ([13], "they sum to 13"),
        ([-1, 13], "its runs are no mask"),
        ([10**30], "they sum to 1000"),
        ([True, 11], "whole numbers"),
        ([12.0], "whole numbers"),
        (None, "whole numbers"),
        ("", "they sum to 0"),
        ("P", "ends amid a number"),
        ("o" * 50, "no compressed mask"),
        ("\n", "no compressed mask"),
        ("é", "no compressed mask"),
    ],
)
def test_counts_that_are_no_mask_are_refused(counts, message):
    with pytest.raises(ValueError, match=message):
        read_runs({"counts": counts, "size": [3, 4]}, (3, 4))


def test_another_size_is_refused_with_both():
    with pytest.raises(ValueError, match=r"have the size \[4, 3\], its image \[3, 4\]"):
        read_runs({"counts": [12], "size": [4, 3]}, (3, 4))
    with pytest.raises(ValueError, match="have the size None"):
        read_runs({"counts": [12]}, (3, 4))
