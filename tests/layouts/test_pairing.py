"""Pairs in two folders and in one, and what is passed over in finding them."""

import unicodedata
from pathlib import Path

import pytest

from ccnet.layouts.pairing import LABEL_SUFFIXES, pair_folders, pair_in_one_folder
from ccnet.layouts.rules import SAME_NAME, Rule
from ccnet.runtime.files import DataError


def touch(root: Path, *names: str) -> None:
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def names(root: Path, pairs: tuple[tuple[Path, Path], ...]) -> list[str]:
    return [" ".join(path.relative_to(root).as_posix() for path in pair) for pair in pairs]


@pytest.mark.parametrize("suffix", LABEL_SUFFIXES)
def test_labels_of_every_suffix_are_paired(tmp_path: Path, suffix: str):
    touch(tmp_path, "i/a.jpg", f"l/a{suffix.upper()}", "i/b.jpg", f"l/b{suffix}")
    found = pair_folders(tmp_path, tmp_path / "i", tmp_path / "l")
    assert len(found.pairs) == 2
    assert found.notes == ()


def test_a_suffix_of_labels_is_said_and_companions_are_passed_over(tmp_path: Path):
    for name in ("aachen/a", "bonn/b"):
        touch(tmp_path, f"i/{name}_leftImg8bit.png", f"l/{name}_gtFine_labelIds.png")
        touch(tmp_path, f"l/{name}_gtFine_color.png", f"l/{name}_gtFine_polygons.json")
    found = pair_folders(tmp_path, tmp_path / "i", tmp_path / "l")
    assert names(tmp_path, found.pairs)[0] == (
        "i/aachen/a_leftImg8bit.png l/aachen/a_gtFine_labelIds.png"
    )
    assert not found.unmatched_labels
    assert found.notes[0] == "labels are named IMAGE_leftImg8bit with IMAGE_gtFine_labelIds"
    assert found.notes[1].startswith("pictures beside the labels that are none: 2 (l/aachen/a_gtF")
    assert found.notes[2].startswith("there are 2 .json files beside the images")


def test_several_labels_of_an_image_are_an_error(tmp_path: Path):
    touch(tmp_path, "i/a.jpg", "l/a_labelIds.png", "l/a_mask.png")
    with pytest.raises(DataError, match=r"i \+ l\): several files may be .* a_mask\.png, a_labelI"):
        pair_folders(tmp_path, tmp_path / "i", tmp_path / "l")


def test_forms_of_unicode_pair_with_each_other(tmp_path: Path):
    for name in ("é", "ü_é"):
        touch(tmp_path, f"i/{unicodedata.normalize('NFD', name)}.jpg", f"l/{name}.png")
    found = pair_folders(tmp_path, tmp_path / "i", tmp_path / "l")
    assert len(found.pairs) == 2
    assert not found.unmatched_images + found.unmatched_labels


def test_linked_folders_count_once_and_hidden_ones_not(tmp_path: Path):
    touch(tmp_path, "i/a.jpg", "l/a.png", "more/i/b.jpg", "more/l/b.png")
    for part in ("i", "l"):
        (tmp_path / part / "linked").symlink_to(tmp_path / "more" / part)
        (tmp_path / part / "again").symlink_to(tmp_path / "more" / part)
        (tmp_path / part / "up").symlink_to("..")
    touch(tmp_path, "i/.ipynb_checkpoints/a-checkpoint.jpg", "i/__MACOSX/._a.jpg", "i/._a.jpg")
    found = pair_folders(tmp_path, tmp_path / "i", tmp_path / "l")
    assert names(tmp_path, found.pairs) == ["i/a.jpg l/a.png", "i/again/b.jpg l/again/b.png"]
    assert [path.name for path in found.hidden] == ["._a.jpg", ".ipynb_checkpoints", "__MACOSX"]
    assert found.notes[0] == ("links to folders that are searched already: 2 (i/linked, i/up)")


def test_one_folder_by_suffix(tmp_path: Path):
    touch(tmp_path, "d/a.png", "d/a_mask.png", "d/sub/b.jpg", "d/sub/b_mask.png", "d/c.png")
    touch(tmp_path, "d/e_mask.png")
    found = pair_in_one_folder(tmp_path, tmp_path / "d")
    assert names(tmp_path, found.pairs) == ["d/a.png d/a_mask.png", "d/sub/b.jpg d/sub/b_mask.png"]
    assert [path.name for path in found.unmatched_images] == ["c.png"]
    assert [path.name for path in found.unmatched_labels] == ["e_mask.png"]
    assert found.notes[0] == "images and labels are in one folder: IMAGE with IMAGE_mask"


def test_one_folder_of_photographs_and_pictures(tmp_path: Path):
    touch(tmp_path, "a.jpg", "a.png", "b.jpg", "b.png", "c.jpg", "d.png", "a.json")
    found = pair_in_one_folder(tmp_path, tmp_path)
    assert names(tmp_path, found.pairs) == ["a.jpg a.png", "b.jpg b.png"]
    assert [path.name for path in found.unmatched_images] == ["c.jpg"]
    assert [path.name for path in found.unmatched_labels] == ["d.png"]
    assert found.notes[-1].startswith("there is 1 .json file")


def test_one_folder_of_something_else_has_no_pair(tmp_path: Path):
    touch(tmp_path, "photos/a.jpg", "drawn/a.png", "1.png", "10.png")
    assert pair_in_one_folder(tmp_path, tmp_path).pairs == ()


def test_one_folder_with_two_candidates_is_an_error(tmp_path: Path):
    touch(tmp_path, "a.jpg", "a.png", "a_mask.png")
    with pytest.raises(DataError, match=r"several files may be the label of a\.jpg: a_mask\.png"):
        pair_in_one_folder(tmp_path, tmp_path)


def test_by_given_rules_labels_of_other_kinds_are_passed_over(tmp_path: Path):
    for name in "ab":
        touch(tmp_path, f"i/{name}.jpg", f"l/{name}.png", f"l/{name}_ids.png", f"l/{name}_x.json")
    rules = [Rule("", "_ids"), SAME_NAME]
    for rule in (rules, rules[::-1]):
        found = pair_folders(tmp_path, tmp_path / "i", tmp_path / "l", rule)
        assert [label.stem for _, label in found.pairs] == [f"{n}{rule[0].label}" for n in "ab"]
        assert (found.unmatched_labels, found.notes) == ((), ())
    touch(tmp_path, "l/c_ids.png")
    found = pair_folders(tmp_path, tmp_path / "i", tmp_path / "l", rules)
    assert names(tmp_path, tuple(zip(found.unmatched_labels, strict=True))) == ["l/c_ids.png"]
