"""Files written whole: the old one or the new one, whatever happens in between."""

import errno
import os
from pathlib import Path

import pytest

from ccnet.runtime.disk import (
    beside,
    disk_error,
    readable_size,
    repair_folder,
    replaced_path,
    require_replaceable,
    write_folder,
    write_json,
    write_whole,
)
from ccnet.runtime.files import read_json


def test_failed_writing_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "file"
    write_whole(path, lambda file: file.write_text("old"))

    def fail(file):
        file.write_text("half")
        raise OSError("No space left on device")

    with pytest.raises(OSError, match="No space left"):
        write_whole(path, fail)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_file_and_new_name_are_flushed_in_this_order(tmp_path, monkeypatch):
    flushed = []

    def note(descriptor):
        flushed.append(os.fstat(descriptor).st_ino)

    monkeypatch.setattr(os, "fsync", note)
    write_json(tmp_path / "new" / "file.json", {"grün": 1})
    assert (tmp_path / "new" / "file.json").read_text(encoding="utf-8") == '{\n  "grün": 1\n}\n'
    assert flushed == [(tmp_path / p).stat().st_ino for p in ("new/file.json", "new")]


def test_the_disk_s_error_is_found_in_what_libraries_make_of_it():
    full = OSError(errno.ENOSPC, "No space left on device")
    assert disk_error(full) is full
    found = disk_error(Exception("serializing: I/O error: No space left on device (os error 28)"))
    assert found is not None
    assert found.errno == errno.ENOSPC
    assert disk_error(RuntimeError("shapes don't fit")) is None


@pytest.mark.parametrize(
    ("num_bytes", "text"),
    [(0, "0 bytes"), (999, "999 bytes"), (1234, "1.2 kB"), (71_288_000, "71.3 MB")],
)
def test_sizes_are_readable(num_bytes, text):
    assert readable_size(num_bytes) == text


def test_links_are_replaced_and_not_followed(tmp_path):
    outside = tmp_path / "outside"
    outside.write_text("theirs")
    path = tmp_path / "out" / "file"
    path.parent.mkdir()
    path.symlink_to(outside)
    beside(path).symlink_to(outside)
    write_whole(path, lambda file: file.write_text("ours"))
    assert outside.read_text() == "theirs"
    assert path.read_text() == "ours"
    assert not path.is_symlink()
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("length", [1, 249, 250, 251, 255])
def test_a_name_of_any_length_is_written(tmp_path, length):
    path = tmp_path / ("a" * length)
    write_whole(path, lambda file: file.write_text("content"))
    assert path.read_text() == "content"
    write_folder(tmp_path / ("b" * length), lambda fresh: (fresh / "x").touch(), own=["x"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a" * length, "b" * length]


def test_only_a_regular_file_is_replaced(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    for name, error in (("fifo", FileExistsError), ("folder", IsADirectoryError)):
        with pytest.raises(error, match=f"{name} is"):
            write_whole(tmp_path / name, lambda file: file.write_text("x"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["fifo", "folder"]


def test_a_full_disk_names_the_file(tmp_path):
    def fill(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(
        OSError, match=r"scores.json could not be written: no space.*make room"
    ) as e:
        write_whole(tmp_path / "scores.json", fill)
    assert e.value.errno == errno.ENOSPC
    with pytest.raises(OSError, match="model could not be written: no space"):
        write_folder(tmp_path / "model", fill, own=[])
    assert list(tmp_path.iterdir()) == []


def files_in(folder):
    return {
        p.relative_to(folder).as_posix(): p.read_text() for p in folder.rglob("*") if p.is_file()
    }


def test_a_folder_is_replaced_whole_and_keeps_what_is_not_its_own(tmp_path):
    folder = tmp_path / "model"
    write_folder(folder, lambda fresh: (fresh / "weights").write_text("1"), own=["weights", "card"])
    (folder / "card").write_text("old")
    (folder / "notes").mkdir()
    (folder / "notes" / "mine.txt").write_text("mine")
    (folder / "link").symlink_to(tmp_path / "nowhere")

    def fail(fresh):
        (fresh / "weights").write_text("half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        write_folder(folder, fail, own=["weights", "card"])
    assert files_in(folder) == {"weights": "1", "card": "old", "notes/mine.txt": "mine"}
    write_folder(folder, lambda fresh: (fresh / "weights").write_text("2"), own=["weights", "card"])
    assert files_in(folder) == {"weights": "2", "notes/mine.txt": "mine"}
    assert (folder / "link").is_symlink()
    assert list(tmp_path.iterdir()) == [folder]


def test_a_link_to_a_folder_is_replaced_and_its_target_left(tmp_path):
    target = tmp_path / "target"
    target.mkdir()
    (target / "weights").write_text("theirs")
    (tmp_path / "model").symlink_to(target)
    write_folder(tmp_path / "model", lambda f: (f / "weights").write_text("ours"), own=["weights"])
    assert (target / "weights").read_text() == "theirs"
    assert (tmp_path / "model" / "weights").read_text() == "ours"


def test_a_link_that_leads_nowhere_is_no_folder_to_replace(tmp_path):
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(FileExistsError, match="loop is a link that leads nowhere"):
        write_folder(tmp_path / "loop", lambda fresh: (fresh / "x").touch(), own=["x"])
    assert [path.name for path in tmp_path.iterdir()] == ["loop"]


def test_a_folder_that_was_renamed_when_the_process_was_killed_comes_back(tmp_path):
    folder = tmp_path / "model"
    for leftover in (beside(folder), replaced_path(folder)):
        leftover.mkdir()
        (leftover / "weights").write_text(leftover.suffix)
    repair_folder(folder)
    assert files_in(tmp_path) == {"model/weights": ".old"}


@pytest.mark.parametrize("name", ["file/report.json", "loop/report.json", "file/deep/report.json"])
def test_what_lies_below_no_folder_is_refused_before_work_begins(tmp_path, name):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(NotADirectoryError, match=r"cannot be written, since .* is no folder"):
        require_replaceable(tmp_path / name)
    require_replaceable(tmp_path / "new" / "report.json")
    require_replaceable(Path("report.json"))


def test_names_that_are_not_utf_8_come_back(tmp_path):
    name = os.fsdecode(b"caf\xe9")
    write_json(tmp_path / "a.json", {"command": [name]})
    assert read_json(tmp_path / "a.json") == {"command": [name]}
