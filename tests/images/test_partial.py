"""Arrays written in parts: what has a line survives, what does not is written again."""

import json

import numpy as np
import pytest

from ccnet.images.partial import PartialArrays, kept_settings, remove_partial

SIZE = (20, 30)
PARTS = [(top, left, 10, 15) for left in (0, 15) for top in (0, 10)]
SETTINGS = {"stamp": "abc", "blocks": 2}
ARRAYS = {
    name: np.random.default_rng(seed).integers(0, 255, SIZE, np.uint8)
    for seed, name in enumerate(("labels", "confidence"))
}


def open_partial(path, settings=SETTINGS, layers=("labels", "confidence")):
    return PartialArrays(path, settings, SIZE, PARTS, layers)


def add_parts(made, number):
    for top, left, height, width in PARTS[made.num_finished : made.num_finished + number]:
        rows, columns = slice(top, top + height), slice(left, left + width)
        made.add({name: array[rows, columns] for name, array in ARRAYS.items()})


def test_parts_that_are_finished_are_kept_and_all_are_read(tmp_path):
    path = tmp_path / "sub" / "a.png"
    with open_partial(path) as made:
        assert made.num_finished == 0
        add_parts(made, 2)
    assert kept_settings(path) == SETTINGS
    with open_partial(path) as made:
        assert made.num_finished == 2
        add_parts(made, 2)
        for name, array in ARRAYS.items():
            np.testing.assert_array_equal(made.read(name, 0, 0, *SIZE), array)
            np.testing.assert_array_equal(made.reader(name)(3, 7, 9, 11), array[3:12, 7:18])
        made.remove()
    assert list(path.parent.iterdir()) == []
    assert kept_settings(path) is None


@pytest.mark.parametrize("settings", [SETTINGS | {"stamp": "abd"}, {"stamp": "abc"}], ids=str)
def test_what_other_settings_left_is_removed(tmp_path, settings):
    with open_partial(tmp_path / "a.png") as made:
        add_parts(made, 3)
    with open_partial(tmp_path / "a.png", settings) as made:
        assert made.num_finished == 0
        assert not made.read("labels", 0, 0, *SIZE).any()
    remove_partial(tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_at_every_length_of_the_journal_the_complete_lines_count(tmp_path):
    with open_partial(tmp_path / "a.png") as made:
        add_parts(made, 3)
    journal = tmp_path / ".a.png.part" / "journal"
    content = journal.read_bytes()
    ends = [end + 1 for end in range(len(content)) if content[end : end + 1] == b"\n"]
    for length in range(0, len(content) + 1, 7):
        journal.write_bytes(content[:length])
        with open_partial(tmp_path / "a.png") as made:
            complete = sum(end <= length for end in ends) - 1
            assert made.num_finished == max(0, complete)
        if complete < 0:  # the arrays were removed with it
            with open_partial(tmp_path / "a.png") as made:
                add_parts(made, 3)


def test_a_part_that_does_not_hold_what_its_line_says_is_made_again(tmp_path):
    with open_partial(tmp_path / "a.png") as made:
        add_parts(made, 3)
    with (tmp_path / ".a.png.part" / "labels").open("rb+") as file:
        file.seek(12 * 30 + 2)
        file.write(bytes([ARRAYS["labels"][12, 2] ^ 1]))
    with open_partial(tmp_path / "a.png") as made:
        assert made.num_finished == 1
        add_parts(made, 3)
        np.testing.assert_array_equal(made.read("labels", 0, 0, *SIZE), ARRAYS["labels"])
    with open_partial(tmp_path / "a.png") as made:
        assert made.num_finished == 4


@pytest.mark.parametrize("line", [b"nonsense\n", b"\xff\xfe\n", b"[1, 2]\n", b"{}\n", b"NaN\n"])
def test_lines_that_are_none_of_ours_end_the_journal(tmp_path, line):
    with open_partial(tmp_path / "a.png") as made:
        add_parts(made, 1)
    with (tmp_path / ".a.png.part" / "journal").open("ab") as file:
        file.write(line)
    with open_partial(tmp_path / "a.png") as made:
        assert made.num_finished == 1
        add_parts(made, 1)
    with open_partial(tmp_path / "a.png") as made:
        assert made.num_finished == 2


def test_pixels_are_on_the_disk_before_their_line(tmp_path, monkeypatch):
    import os

    order = []
    with open_partial(tmp_path / "a.png") as made:
        names = {file.fileno(): name for name, file in made.files.items()}
        names[made.journal.fileno()] = "journal"
        lines = (tmp_path / ".a.png.part" / "journal").read_bytes

        def fsync(descriptor):
            order.append((names[descriptor], lines().count(b"\n")))

        monkeypatch.setattr(os, "fsync", fsync)
        add_parts(made, 1)
    assert order == [("labels", 1), ("confidence", 1), ("journal", 2)]
    assert json.loads(lines().splitlines()[1])["part"] == [0, 0, 10, 15]
