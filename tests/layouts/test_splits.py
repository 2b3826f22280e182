"""Shares by the hash of a name."""

import unicodedata

import pytest

from ccnet.layouts.splits import Division, divide
from ccnet.runtime.files import DataError

NAMES = [f"images/{index:04}.jpg" for index in range(1000)]


def test_the_share_is_nearly_that_and_the_same_for_ever():
    parts = divide(NAMES, Division(0.2, 0.1))
    assert sorted(index for part in parts.values() for index in part) == list(range(1000))
    assert 160 < len(parts["val"]) < 240
    assert 70 < len(parts["test"]) < 130
    # written down, so that no change of the code moves images of a user's data
    assert divide(NAMES[:20], Division())["val"] == [6, 12, 14, 19]


def test_images_that_are_added_move_none():
    before = divide(NAMES[::2], Division())
    after = divide(NAMES, Division())
    for split in before:
        assert {NAMES[::2][index] for index in before[split]} <= {
            NAMES[index] for index in after[split]
        }


def test_forms_of_unicode_and_the_order_do_not_count():
    names = [f"é{index}.jpg" for index in range(50)]
    decomposed = [unicodedata.normalize("NFD", name) for name in names]
    assert divide(names, Division()) == divide(decomposed, Division())
    moved = divide(names[::-1], Division())["val"]
    assert {names[::-1][i] for i in moved} == {names[i] for i in divide(names, Division())["val"]}


def test_names_that_are_no_unicode_are_divided():
    assert len(divide(["a\udcff.jpg", "b.jpg"], Division())["val"]) == 1


@pytest.mark.parametrize("count", range(2, 12))
def test_no_split_is_empty(count: int):
    for offset in range(20):
        parts = divide(NAMES[offset : offset + count], Division(0.05))
        assert all(parts.values())
        parts = divide(NAMES[offset : offset + count], Division(0.9))
        assert all(parts.values())


def test_too_few_images_are_told():
    with pytest.raises(DataError, match="1 images cannot be divided into train, val, each"):
        divide(["a.jpg"], Division())
    with pytest.raises(DataError, match="2 images cannot be divided into train, val, test"):
        divide(["a.jpg", "b.jpg"], Division(0.2, 0.2))
    with pytest.raises(DataError, match="1 groups by 'x' cannot be divided"):
        divide(["x1.jpg", "x2.jpg"], Division(group_by="x"))


@pytest.mark.parametrize("pattern", [r"drive\d+", r"(drive\d+)_", r"^images/(.+)_\d+\.jpg$"])
def test_groups_stay_together(pattern: str):
    names = [f"images/drive{drive}_{frame}.jpg" for drive in range(30) for frame in range(5)]
    parts = divide(names, Division(0.3, group_by=pattern))
    drives = {split: {names[i].split("_")[0] for i in part} for split, part in parts.items()}
    assert not drives["train"] & drives["val"]
    assert len(drives["train"]) + len(drives["val"]) == 30
    assert len(parts["val"]) == 5 * len(drives["val"])


@pytest.mark.parametrize("pattern", [r"drive(\d+)", r"(x)?a", "z*"])
def test_a_name_without_a_group_is_told(pattern: str):
    with pytest.raises(DataError, match=r"'a\.jpg': the pattern .* finds nothing in this name"):
        divide(["a.jpg", "b.jpg"], Division(group_by=pattern))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"val_share": 0.0}, "must be above 0, got 0.0"),
        ({"val_share": float("nan")}, "must be above 0, got nan"),
        ({"val_share": 0.5, "test_share": 0.5}, "leave no training"),
        ({"group_by": "("}, r"'\(' is no regular expression"),
    ],
)
def test_a_division_that_cannot_be_is_refused(arguments: dict, words: str):
    with pytest.raises(ValueError, match=words):
        Division(**arguments)
