"""Names of files: composed and decomposed, relative to a root; annotation files in passing."""

import unicodedata
from pathlib import Path

from ccnet.layouts.files import composed, existing, notes_on_others, relative_name

NFC, NFD = "Straße-é.png", unicodedata.normalize("NFD", "Straße-é.png")


def test_composed_and_decomposed_names_are_equal():
    assert NFC != NFD
    assert composed(NFD) == NFC


def test_a_name_in_one_form_finds_the_file_in_the_other(tmp_path: Path):
    (tmp_path / NFD).touch()
    assert existing(tmp_path, NFC) == tmp_path / NFD
    (tmp_path / NFC).touch()
    assert existing(tmp_path, NFC) == tmp_path / NFC
    assert existing(tmp_path, "gone") == tmp_path / "gone"


def test_a_name_is_relative_where_it_lies_below_the_root():
    assert relative_name(Path("/data/a/b.png"), Path("/data")) == "a/b.png"
    assert relative_name(Path("/else/b.png"), Path("/data")) == "/else/b.png"


def test_annotation_files_are_counted_in_words():
    assert notes_on_others([(".cfg", 3)]) == []
    (note,) = notes_on_others([(".json", 12)])
    assert note.startswith("there are 12 .json files beside the images, which were not read")
    (note,) = notes_on_others([(".json", 1)])
    assert note.startswith("there is 1 .json file beside")
