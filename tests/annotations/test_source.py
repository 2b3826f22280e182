"""Decisions that all readers of annotations share."""

from pathlib import Path

import numpy as np
import pytest

from ccnet.annotations.source import (
    PassedOver,
    decide_classes,
    read_ring,
    require_distinct,
    require_image_name,
    safe_name,
    split_in,
    stated_size,
)
from ccnet.runtime.files import DataError

HERE = Path("a.json")


def test_unlabeled_pixels_are_a_new_class_the_own_one_or_ignored():
    meaning = decide_classes(HERE, ["leaf", "root"], None)
    assert meaning.classes == ("background", "leaf", "root")
    assert (meaning.unlabeled, meaning.index_of) == (0, {"leaf": 1, "root": 2})
    assert "new class 0, 'background'" in meaning.notes[0]
    meaning = decide_classes(HERE, ["leaf", "_Background_"], "background")
    assert (meaning.classes, meaning.unlabeled) == (("leaf", "_Background_"), 1)
    assert "'_Background_'" in meaning.notes[0]
    meaning = decide_classes(HERE, ["leaf", "background"], "ignored")
    assert (meaning.classes, meaning.unlabeled) == (("leaf", "background"), 255)
    assert "ignored (255)" in meaning.notes[0]


def test_a_class_called_ignore_is_none():
    meaning = decide_classes(HERE, ["leaf", "__ignore__"], None)
    assert meaning.classes == ("background", "leaf")
    assert meaning.index_of == {"leaf": 1, "__ignore__": 255}
    assert "pixels of '__ignore__' are ignored (255)" in meaning.notes


def test_wrong_classes_are_refused():
    for names, message in (
        ([], "no classes"),
        (["a", "a"], "the class 'a' is there twice"),
        ([str(i) for i in range(255)], "256 classes with 'background'"),
    ):
        with pytest.raises(DataError, match=message):
            decide_classes(HERE, names, None)
    assert len(decide_classes(HERE, [str(i) for i in range(255)], "ignored").classes) == 255


def test_rings_are_read_from_both_forms():
    passed = PassedOver()
    expected = [[0, 1], [2.5, 3], [4, 5]]
    for values in ([0, 1, 2.5, 3, 4, 5], expected):
        ring = read_ring(values, (9, 9), passed, "p")
        assert ring is not None
        np.testing.assert_array_equal(ring, expected)
    assert not passed.counts
    assert read_ring([0, 1, 2, 3], None, passed, "p") is None
    assert read_ring([], None, passed, "q") is None
    assert read_ring([0, 1, 2.5, 3, 4, 5], (5, 3), passed, "p") is not None
    assert list(passed.notes()) == [
        "polygons of fewer than three points, passed over: 2 (first: p)",
        "shapes that reach outside their image, clipped: 1 (first: p)",
    ]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (None, "a polygon is x and y"),
        ("1 2 3 4 5 6", "no list of numbers"),
        ({"a": 1}, "no list of numbers"),
        ([1, 2, 3, 4, 5], "x and y of each corner"),
        ([[1, 2, 3], [1, 2, 3]], "x and y of each corner"),
        ([[1, 2], [3]], "no list of numbers"),
        ([[[1, 2]], [[3, 4]], [[5, 6]]], "list of numbers"),
        ([1, 2, 3, 4, 5, "6"], "list of numbers"),
        ([1, 2, 3, 4, 5, True], "list of numbers"),
        ([1, 2, 3, 4, 5, None], "list of numbers"),
        ([1, 2, 3, 4, 5, 10**400], "no list of numbers"),
        ([1, 2, 3, 4, 5, float("inf")], "a coordinate is inf"),
        ([1, 2, 3, 4, 5, -1e300], "a coordinate is -1e"),
        ([1, 2, 3, 4, 5, float("nan")], "a coordinate is nan"),
    ],
)
def test_what_is_no_ring_is_refused(values, message):
    with pytest.raises(ValueError, match=message):
        read_ring(values, None, PassedOver(), "p")


def test_names_stay_inside_of_the_source():
    assert safe_name("a/b.png") == "a/b.png"
    assert safe_name("a\\b.png") == "a/b.png"
    assert safe_name("./x/../b.png") == "b.png"
    assert safe_name("../b.png", "jsons") == "b.png"
    for name in ("/etc/a.png", "../a.png", "x/../../a.png", "C:\\a.png", "\\\\host\\a.png"):
        with pytest.raises(ValueError, match="may lie outside of the source"):
            safe_name(name)
    for name in (None, "", " ", 3, "a\0.png"):
        with pytest.raises(ValueError, match="must be text"):
            safe_name(name)
    with pytest.raises(ValueError, match="no file has the name"):
        safe_name("\ud800.png")
    with pytest.raises(ValueError, match=r"'a\.gif' is none of \.jpg"):
        require_image_name("a.gif")


def test_an_image_twice_is_an_error():
    require_distinct(HERE, ["a", "b"])
    with pytest.raises(DataError, match=r"the image 'a' is there twice, and so are 1 others"):
        require_distinct(HERE, ["a", "a", "b", "b", "c"])
    with pytest.raises(DataError, match="is there twice; put"):
        require_distinct(HERE, ["\u00e4", "a\u0308"])


def test_splits_are_found_in_names():
    names = ("instances_val2017", "train", "_annotations.coco", "valid", "my-test_set", "default")
    assert [split_in(name) for name in names] == ["val", "train", None, "val", "test", None]


def test_stated_sizes_are_whole_numbers():
    assert stated_size(3, 4) == (3, 4)
    assert stated_size(None, None) is None
    for size in ((3, None), (0, 4), (3.0, 4), (True, 4), ("3", 4), (-1, 4)):
        with pytest.raises(ValueError, match="no size of an image"):
            stated_size(*size)
