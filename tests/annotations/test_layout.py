"""Images and label maps written as folders: whole files, nothing replaced, the same bytes."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.annotations import layout
from ccnet.annotations.layout import Entry, write_layout
from ccnet.datasets.folder import FolderDataset
from ccnet.runtime.files import DataError
from tests.annotated import label_of, save_image

DESCRIPTION = {"classes": {"background": [0, 0, 0], "leaf": [0, 200, 0], "wüste": [9, 9, 9]}}


@pytest.fixture
def entries(tmp_path: Path) -> list[Entry]:
    return [
        Entry(split, f"{name}.jpg", save_image(tmp_path / f"in/{name}.jpg"), lambda: label_of("a"))
        for split, name in (("train", "a"), ("train", "deep/b"), ("val", "c"))
    ]


def files_in(folder: Path) -> dict[str, bytes]:
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


def test_what_is_written_is_a_data_set(tmp_path: Path, entries: list[Entry]):
    seen = []
    output = tmp_path / "out"
    assert write_layout(output, entries, DESCRIPTION, progress=lambda *c: seen.append(c)) == 7
    assert seen == [(1, 3), (2, 3), (3, 3)]
    dataset = FolderDataset(output)
    assert dataset.classes == tuple(DESCRIPTION["classes"])
    assert dataset.palette[1] == (0, 200, 0)
    assert [dataset.name(i) for i in range(2)] == [
        "train/images/a.jpg",
        "train/images/deep/b.jpg",
    ]
    np.testing.assert_array_equal(dataset[1][1], label_of("a"))
    assert (output / "val/images/c.jpg").read_bytes() == entries[2].image.read_bytes()
    with Image.open(output / "val/labels/c.png") as picture:
        assert picture.mode == "L"


def test_the_same_call_goes_on_and_gives_the_same_bytes(tmp_path: Path, entries: list[Entry]):
    write_layout(tmp_path / "one", entries, DESCRIPTION)
    for name in ("dataset.yaml", "train/labels/a.png", "val/images/c.jpg"):
        output = tmp_path / "two"
        write_layout(output, entries, DESCRIPTION)
        (output / name).unlink()
        leftover = output / Path(name).parent / f".{Path(name).name}.new"
        leftover.write_text("half")
        assert write_layout(output, entries, DESCRIPTION) == 1
        assert files_in(output) == files_in(tmp_path / "one")
    assert write_layout(output, entries, DESCRIPTION) == 0


@pytest.mark.parametrize(
    "name",
    ["notes.txt", "train/notes.txt", "train/labels/x.png", "empty/", "train/images/.hidden"],
)
def test_a_foreign_file_is_named_and_nothing_is_written(
    tmp_path: Path, entries: list[Entry], name: str
):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    path.mkdir() if name.endswith("/") else path.write_text("mine")
    before = files_in(tmp_path / "out")
    with pytest.raises(DataError, match=r"it is not of this import, .* new folder"):
        write_layout(tmp_path / "out", entries, DESCRIPTION)
    assert files_in(tmp_path / "out") == before


@pytest.mark.parametrize("name", ["train/labels/a.png", "train/images/a.jpg", "dataset.yaml"])
def test_a_file_that_was_edited_is_kept_and_named(tmp_path: Path, entries: list[Entry], name: str):
    output = tmp_path / "out"
    write_layout(output, entries, DESCRIPTION)
    (output / name).write_bytes(b"edited")
    with pytest.raises(DataError, match=rf"{name}: it is there, but is not what this import"):
        write_layout(output, entries, DESCRIPTION)
    assert (output / name).read_bytes() == b"edited"


def test_a_file_in_place_of_the_folder_is_refused(tmp_path: Path, entries: list[Entry]):
    (tmp_path / "out").write_text("")
    with pytest.raises(DataError, match="it is a file; give the name of a new folder"):
        write_layout(tmp_path / "out", entries, DESCRIPTION)


def test_two_images_of_one_label_are_refused_before_anything_is_written(
    tmp_path: Path, entries: list[Entry]
):
    entries.append(replace(entries[0], name="a.png"))
    with pytest.raises(DataError, match=r"its label would be the file .*train/labels/a\.png, as"):
        write_layout(tmp_path / "out", entries, DESCRIPTION)
    assert not (tmp_path / "out").exists()


def test_images_get_a_second_name_on_request(tmp_path: Path, entries: list[Entry], monkeypatch):
    output = tmp_path / "out"
    write_layout(output, entries, DESCRIPTION, link=True)
    assert (output / "val/images/c.jpg").samefile(entries[2].image)
    assert write_layout(output, entries, DESCRIPTION, link=True) == 0

    def refuse(*paths):
        raise OSError(layout.errno.EXDEV, "Invalid cross-device link")

    monkeypatch.setattr(os, "link", refuse)
    with pytest.raises(DataError, match=r"cross-device link\); leave out --link"):
        write_layout(tmp_path / "other", entries, DESCRIPTION, link=True)


def test_a_link_to_an_image_is_copied_as_what_it_leads_to(tmp_path: Path, entries: list[Entry]):
    link = tmp_path / "link.jpg"
    link.symlink_to(entries[0].image)
    for number, is_linked in enumerate((False, True)):
        output = tmp_path / f"out{number}"
        write_layout(output, [replace(entries[0], image=link)], DESCRIPTION, link=is_linked)
        assert not (output / "train/images/a.jpg").is_symlink()
        assert (output / "train/images/a.jpg").read_bytes() == link.read_bytes()
