"""Files written whole: the old one or the new one, whatever happens in between."""

import errno
import os

import pytest

from ccnet.runtime.disk import disk_error, readable_size, write_json, write_whole


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
