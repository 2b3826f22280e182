"""COCO's run-length encoding of masks: runs outside and inside in turn, column by column.

The compressed form writes each count as groups of five bits in printable characters, the least
significant group first, and from the third on the difference to the count two before (the format
of `maskApi.c` of the COCO tools).
"""

import numpy as np

from ccnet.annotations.drawing import Runs
from ccnet.runtime.files import shown

FIRST_CHARACTER = 48
MORE, SIGN = 0x20, 0x10
"""In a group: another one follows; in the last one: the number is negative."""
MOST_GROUPS = 7
"""Of one count; an image has fewer than 2³¹ pixels."""


def read_runs(segmentation: dict[str, object], size: tuple[int, int]) -> Runs:
    """The mask of an annotation, `{"counts": ..., "size": [height, width]}`.

    Args:
        segmentation: counts are a list of numbers, or text in the compressed form.
        size: height and width of the image.

    Raises:
        ValueError: its size is another one, or the counts do not sum to the pixels of the image.
    """
    stated, counts = segmentation.get("size"), segmentation.get("counts")
    if stated != list(size):
        raise ValueError(
            f"its runs have the size {shown(stated)}, its image [{size[0]}, {size[1]}]"
        )
    if isinstance(counts, str):
        numbers = decode(counts)
    elif isinstance(counts, list) and all(type(count) is int for count in counts):
        numbers = counts
    else:
        raise ValueError(f"`counts` must be text or whole numbers, got {shown(counts)}")
    if any(count < 0 for count in numbers) or sum(numbers) != size[0] * size[1]:
        raise ValueError(
            f"its runs are no mask of {size[1]}×{size[0]} pixels: they sum to {sum(numbers)}"
        )
    return Runs(np.array(numbers, np.int64), size)


def decode(text: str) -> list[int]:
    """The counts in a text of the compressed form.

    Raises:
        ValueError: it has other characters, or ends amid a count.
    """
    counts: list[int] = []
    value = shift = 0
    for character in text:
        group = ord(character) - FIRST_CHARACTER
        if not 0 <= group < 2 * MORE or shift >= 5 * MOST_GROUPS:
            raise ValueError(f"`counts` is no compressed mask: {shown(text)}")
        value |= (group & (MORE - 1)) << shift
        shift += 5
        if group & MORE:
            continue
        if group & SIGN:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value = shift = 0
    if shift:
        raise ValueError(f"`counts` ends amid a number: {shown(text)}")
    return counts
