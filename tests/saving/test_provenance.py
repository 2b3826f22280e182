"""The data of a run: what is kept of them, and what is said when they changed."""

import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest

from ccnet.datasets import DataError
from ccnet.saving.provenance import Provenance, read_provenance


class Listed:
    """A data set of names alone."""

    palette = ((0, 0, 0), (255, 0, 0))
    ignore_index = 255

    def __init__(self, *names: str, classes: tuple[str, ...] = ("ground", "thing")) -> None:
        self.names = names
        self.classes = classes

    def __len__(self) -> int:
        return len(self.names)

    def name(self, index: int) -> str:
        return self.names[index]


def of(*names: str, validation=("v.png",), name="folder", is_given=False, **options) -> Provenance:
    data = Listed(*names, **options)
    return Provenance.of(data, Listed(*validation), name, is_given=is_given)


BEFORE = of("a.png", "b.png", "c.png")


def resumed(now: Provenance, before: Provenance = BEFORE, accept: bool = False) -> Provenance:
    return now.resumed_from(before, Path("run/data.json"), 7, accept_new_data=accept)


@pytest.mark.unchecked
def test_what_is_written_is_read_back(tmp_path):
    for written in (BEFORE, of("a\udcff.png"), of(name="scenes"), of("a", is_given=True)):
        written.write(tmp_path / "data.json")
        assert read_provenance(tmp_path / "data.json") == written
        assert resumed(written, read_provenance(tmp_path / "data.json")) == written


def test_the_digest_is_the_same_on_every_machine():
    """That of the composed names, each with a NUL after it."""
    found = of("é.png", unicodedata.normalize("NFD", "é.png")).training
    assert found.digest == "fa2d81aec007f734a97748f621ade408ba20e280a9f0ba65ec40fb46f08614ce"
    assert found.names == ("é.png", "é.png")


@pytest.mark.parametrize(
    ("classes", "words"),
    [
        (("ground", "thing", "bird"), "added 'bird';"),
        (("ground",), "removed 'thing';"),
        (("ground", "car"), "added 'car', removed 'thing';"),
        (("thing", "ground"), "class 0 is 'thing' and was 'ground';"),
    ],
)
def test_other_classes_are_refused_and_named(classes, words):
    now = of("a.png", "b.png", "c.png", classes=classes)
    for accept in (False, True):
        with pytest.raises(DataError, match=f"^run/data.json: the classes .* began: {words} rest"):
            resumed(now, accept=accept)


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (of("a.png", "b.png", "c.png", "d.png"), "1 image added to the training data ('d.png')"),
        (
            of(*"abcde"),
            "5 images added to the training data ('a', 'b', 'c' and 2 more), 3 images removed "
            "from the training data ('a.png', 'b.png', 'c.png')",
        ),
        (of("b.png", "a.png", "c.png"), "the training images are in another order"),
        (
            of("a.png", "b.png", "c.png", validation=("w.png",)),
            "1 image added to the validation data ('w.png'), 1 image removed from the validation "
            "data ('v.png')",
        ),
    ],
    ids=["added", "replaced", "order", "validation"],
)
def test_other_images_are_refused_and_named_unless_they_are_accepted(now, words):
    with pytest.raises(DataError) as caught:
        resumed(now)
    assert words in str(caught.value)
    assert "by --accept-new-data" in str(caught.value)
    accepted = resumed(now, accept=True)
    assert accepted == now
    assert [change["step"] for change in accepted.accepted] == [7] * len(accepted.accepted)
    assert words.startswith(accepted.accepted[0]["change"][:40])
    assert resumed(now, accepted).accepted == accepted.accepted


def test_generated_images_are_compared_without_their_names():
    before, now = of(*"abc", name="scenes"), of(*"abd", name="scenes")
    assert before.training.names is None
    with pytest.raises(DataError, match="3 training images instead of 3, or with other names"):
        resumed(now, before)


def test_a_run_of_given_data_is_not_resumed_without_them():
    given = replace(BEFORE, is_given=True)
    with pytest.raises(DataError, match="was given its data sets by a Python program"):
        resumed(BEFORE, given)
    assert resumed(given, given) == given


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "nul", '{"classes": 3, "training": 1}', json.dumps([[[]]] * 9)]
)
def test_another_file_is_named(tmp_path, content):
    path = tmp_path / "data.json"
    path.write_text(content)
    with pytest.raises(DataError, match=r"data\.json: it is not what a run writes there"):
        read_provenance(path)
