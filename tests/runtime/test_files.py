"""Files of strangers: regular files only, bounded, in UTF-8, YAML and JSON without surprises."""

import os
import socket

import pytest

from ccnet.runtime.files import (
    MAX_TEXT,
    DataError,
    open_regular,
    parse_yaml,
    printable,
    read_json,
    read_text,
    read_yaml,
    shown,
)


def test_a_regular_file_and_a_link_to_one_are_opened(tmp_path):
    (tmp_path / "file").write_bytes(b"content")
    (tmp_path / "link").symlink_to("file")
    for name in ("file", "link"):
        with open_regular(tmp_path / name) as file:
            assert file.read() == b"content"
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "missing")


def test_what_may_never_end_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    kinds = {"fifo": "FIFO", "folder": "folder", "socket": "socket", "/dev/zero": "device"}
    for name, kind in kinds.items():
        with pytest.raises(DataError, match=f"{name}: it is a {kind}"):
            open_regular(tmp_path / name)


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda path: None, "no such file"),
        (lambda path: path.mkdir(), "it is a folder"),
        (lambda path: path.symlink_to(path), "loop of symbolic links"),
        (lambda path: path.write_bytes(b"a\nb\xff\n"), "line 2: not text in UTF-8"),
        (lambda path: path.write_bytes(b"a" * (MAX_TEXT + 1)), "larger than 1,048,576 bytes"),
    ],
    ids=["missing", "folder", "loop", "latin-1", "large"],
)
def test_a_text_that_cannot_be_read_is_named_with_the_cause(tmp_path, make, cause):
    make(tmp_path / "text")
    with pytest.raises(DataError, match=cause) as caught:
        read_text(tmp_path / "text")
    assert caught.value.path == tmp_path / "text"
    assert str(caught.value).startswith(str(tmp_path / "text"))


BOMB = "a: &a [x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"{new}: &{new} [{', '.join([f'*{old}'] * 9)}]\n"
    for old, new in zip("abcdefgh", "bcdefghi", strict=True)
)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        (BOMB, "line 2: cannot be read as YAML: aliases are not read"),
        ("[" * 30 + "]" * 30, "more than 20 levels"),
        ("[" * 100_000, "more than 20 levels"),
        ("a: 1\nb: 2\na: 3", "the key 'a' is there twice"),
        ("a: !!python/object/apply:os.system [ls]", "could not determine a constructor"),
        ("a: !!bool maybe", "'maybe'"),
        ("a: [1", "line 1"),
        ("a: \x00", "special characters"),
        (f"a: {'9' * 5000}", "cannot be read as YAML"),
        ("? [a]\n: 1", "unhashable"),
    ],
)
def test_yaml_has_plain_values_only(tmp_path, text, cause):
    with pytest.raises(DataError, match=cause) as caught:
        parse_yaml(text, tmp_path / "some.yaml")
    assert len(str(caught.value)) < 400


def test_yaml_is_read(tmp_path):
    path = tmp_path / "some.yaml"
    path.write_text("classes: {grün: [1, 2, 3], b: null}\n", encoding="utf-8-sig")
    assert read_yaml(path) == {"classes": {"grün": [1, 2, 3], "b": None}}


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("{", "cannot be read as JSON"),
        ('{"a": NaN}', "NaN is no number of JSON"),
        ('{"a": 1, "a": 2}', "the key 'a' is there twice"),
        ("[" * 100_000, "too many levels"),
    ],
)
def test_json_has_no_surprises(tmp_path, text, cause):
    path = tmp_path / "some.json"
    path.write_text(text)
    with pytest.raises(DataError, match=cause):
        read_json(path)
    path.write_text('{"a": [1, 2.5, "x", null]}')
    assert read_json(path) == {"a": [1, 2.5, "x", None]}


def test_quoted_values_stay_short():
    deep: list = []
    for _ in range(1000):
        deep = [deep, deep]
    assert len(shown(deep)) < 200
    assert len(shown("x" * 10_000)) < 100
    assert shown([1, "b"]) == "[1, 'b']"


def test_text_for_a_terminal_has_no_control_characters_and_keeps_the_rest():
    assert printable("ü 東京\\ a'\"") == "ü 東京\\ a'\""
    assert printable("a\n\t\x1b[31m\x7f\u202e\udcff") == r"a\n\t\x1b[31m\x7f\u202e\udcff"
