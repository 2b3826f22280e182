"""The temporary folder: bounded, and gone at the end."""

import os
from pathlib import Path

from ccnet.app import storage
from ccnet.app.storage import Storage, temporary_storage


def write(kept: Storage, name: str, size: int, age: float) -> Path:
    path = kept.folder / name / "file"
    path.parent.mkdir()
    path.write_bytes(bytes(size))
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_the_oldest_files_are_removed_until_the_others_fit(tmp_path):
    kept = Storage(tmp_path, max_bytes=100)
    old, middle, new = (
        write(kept, name, 40, age) for name, age in zip("abc", (3, 2, 1), strict=True)
    )
    example = kept.examples / "example.png"
    example.write_bytes(bytes(1000))
    os.utime(example, (1, 1))
    kept.prune()
    assert not old.exists()
    assert not old.parent.exists()
    assert not middle.exists()  # down to half, so that the next request need not remove any
    assert new.exists()
    assert example.exists()


def test_files_that_fit_stay(tmp_path):
    kept = Storage(tmp_path, max_bytes=100)
    files = [write(kept, name, 50, 1) for name in "ab"]
    kept.prune()
    assert all(file.exists() for file in files)


def test_no_more_than_so_many_files_are_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(storage, "MAX_FILES", 4)
    kept = storage.Storage(tmp_path)
    files = [write(kept, name, 0, -age) for age, name in enumerate("abcde")]
    kept.prune()
    assert [file.exists() for file in files] == [False, False, False, True, True]


def test_requests_get_folders_of_their_own(tmp_path):
    kept = Storage(tmp_path)
    assert kept.new_folder() != kept.new_folder()


def test_the_folder_and_the_environment_are_as_before_at_the_end(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/elsewhere")
    monkeypatch.delenv("GRADIO_ANALYTICS_ENABLED", raising=False)
    with temporary_storage() as kept:
        (kept.new_folder() / "file").write_bytes(b"1")
        assert os.environ["GRADIO_TEMP_DIR"] == str(kept.folder)
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
    assert not kept.folder.exists()
    assert os.environ["GRADIO_TEMP_DIR"] == "/elsewhere"
    assert "GRADIO_ANALYTICS_ENABLED" not in os.environ
