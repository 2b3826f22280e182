"""Lists of pairs: separators that are part of names, quotes, forms of Unicode, line ends."""

import unicodedata
from pathlib import Path

import pytest

from ccnet.layouts.lists import MARK, read_list, write_list
from ccnet.runtime.files import DataError

HARD = [
    "a,b.png",
    "a\tb.png",
    "a b.png",
    ' "a".png',
    "#a.png",
    "a\nb.png",
    "a\\b.png",
    "a\udcffb.png",
    "é.png",
    unicodedata.normalize("NFD", "é.png"),
]


def listed(root: Path, content: str | bytes) -> Path:
    content = content if isinstance(content, bytes) else content.encode()
    (root / "train.txt").write_bytes(content)
    return root / "train.txt"


@pytest.mark.parametrize("image", HARD)
@pytest.mark.parametrize("label", ["y.png", "y,z.png", "y z.png"])
def test_every_name_is_read_as_it_was_written(tmp_path: Path, image: str, label: str):
    for name in (image, label):
        (tmp_path / name).touch()
    pairs = [(tmp_path / image, tmp_path / label)]
    write_list(tmp_path / "train.txt", pairs, tmp_path, MARK)
    found = read_list(tmp_path, tmp_path / "train.txt")
    assert found.pairs == tuple(pairs)
    assert not found.missing
    (tmp_path / "train.txt").read_bytes().decode("utf-8")


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("a,b.png,y.png", ("a,b.png", "y.png")),
        ("a\tb.png\ty.png", ("a\tb.png", "y.png")),
        ("a b.png y.png", ("a b.png", "y.png")),
        ("a,b.png y.png", ("a,b.png", "y.png")),
        ("a,b.png\ty.png", ("a,b.png", "y.png")),
        ("y.png a b.png", ("y.png", "a b.png")),
        ('"a,b.png","y.png"', ("a,b.png", "y.png")),
        ('"a b.png" y.png', ("a b.png", "y.png")),
        ('y.png,"a,b.png"', ("y.png", "a,b.png")),
    ],
)
def test_the_separator_that_gives_two_files_counts(
    tmp_path: Path, line: str, names: tuple[str, str]
):
    for name in names:
        (tmp_path / name).touch()
    assert read_list(tmp_path, listed(tmp_path, line)).pairs == (
        (tmp_path / names[0], tmp_path / names[1]),
    )


def test_a_line_that_may_be_read_in_several_ways_is_refused(tmp_path: Path):
    for name in ("a", "b c", "a b", "c"):
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"line 1: may mean 'a' with 'b c' or 'a b' with 'c'\. Put"):
        read_list(tmp_path, listed(tmp_path, "a b c"))


def test_what_was_tried_is_said(tmp_path: Path):
    with pytest.raises(DataError, match="a comma, a tab and blanks were tried, and none leaves"):
        read_list(tmp_path, listed(tmp_path, "a, b, c"))


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("start", ["", "\ufeff"])
def test_line_ends_and_byte_order_marks_do_not_count(tmp_path: Path, start: str, end: str):
    for name in ("x.png", "y.png"):
        (tmp_path / name).touch()
    text = f"{start}x.png,y.png{end}x.png,y.png{end}"
    assert len(read_list(tmp_path, listed(tmp_path, text)).pairs) == 2


@pytest.mark.parametrize("form", ["NFC", "NFD"])
def test_names_in_another_form_of_unicode_are_found(tmp_path: Path, form):
    other = {"NFC": "NFD", "NFD": "NFC"}[form]
    (tmp_path / unicodedata.normalize(other, "é.png")).touch()
    name = unicodedata.normalize(form, "é.png")
    found = read_list(tmp_path, listed(tmp_path, f"{name},{name}"))
    assert len(found.pairs) == 1
    assert not found.missing


def test_a_missing_file_is_named_by_the_usual_separator(tmp_path: Path):
    found = read_list(tmp_path, listed(tmp_path, "x y.png,z.png"))
    assert found.missing == (tmp_path / "x y.png", tmp_path / "z.png")


@pytest.mark.parametrize(
    "line", ["b", "b.jpg", "deep/b", "images/deep/b.jpg", "./images/deep/b", "c d", '"c d"', "é"]
)
def test_a_line_may_name_an_image_alone(tmp_path: Path, line: str):
    names = ["images/a.jpg", "images/deep/b.jpg", "images/c d.jpg", "images/e\u0301.jpg"]
    known = [
        (touched(tmp_path / name), touched(tmp_path / f"{name}_labels.png".replace("images", "x")))
        for name in names
    ]
    found = read_list(tmp_path, listed(tmp_path, f"# of a tool\n{line}\n"), known=lambda: known)
    assert len(found.pairs) == 1
    assert set(found.pairs) <= set(known[1:])
    assert not found.missing


def test_a_name_of_no_image_is_missing_where_others_are_found(tmp_path: Path):
    known = [(touched(tmp_path / "images/a.jpg"), touched(tmp_path / "labels/a.png"))]
    found = read_list(tmp_path, listed(tmp_path, "a\nz\n"), known=lambda: known)
    assert found.pairs == tuple(known)
    assert found.missing == (tmp_path / "z",)
    with pytest.raises(
        DataError, match="1: must hold two paths, image and label, got 'z'"
    ) as caught:
        read_list(tmp_path, listed(tmp_path, "z\ny\n"), known=lambda: known)
    assert caught.value.__notes__[0].startswith("nor is it the name of an image")


def test_a_name_of_several_images_is_refused(tmp_path: Path):
    known = [
        (touched(tmp_path / f"images/{town}/a.jpg"), touched(tmp_path / f"labels/{town}/a.png"))
        for town in ("aachen", "bochum")
    ]
    with pytest.raises(
        DataError, match=r"line 2: 'a' names several images: images/aachen/a.jpg, images/bochum/a"
    ):
        read_list(tmp_path, listed(tmp_path, "bochum/a\na\n"), known=lambda: known)


def test_names_are_not_looked_for_where_a_line_is_a_pair(tmp_path: Path):
    for name in ("x.png", "y.png"):
        (tmp_path / name).touch()
    listing = listed(tmp_path, "x.png y.png\nx.png gone.png\n")
    found = read_list(tmp_path, listing, known=lambda: pytest.fail("not needed"))
    assert len(found.pairs) == 1


def touched(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path
