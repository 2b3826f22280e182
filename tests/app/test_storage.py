"""The temporary folder: bounded, and gone at the end."""

import os
from pathlib import Path

import pytest

from ccnet.app.storage import Storage, temporary_storage


def write(storage: Storage, name: str, size: int, age: float) -> Path:
    path = storage.folder / name / "file"
    path.parent.mkdir()
    path.write_bytes(bytes(size))
    os.utime(path, (1e9 - age, 1e9 - age))
    return path


def test_the_oldest_files_are_removed_until_the_others_fit(tmp_path):
    storage = Storage(tmp_path, max_bytes=100)
    old, middle, new = (write(storage, name, 40, age) for name, age in zip("abc", (3, 2, 1)))
    example = storage.examples / "example.png"
    example.write_bytes(bytes(1000))
    os.utime(example, (1, 1))
    storage.prune()
    assert not old.exists()
    assert not old.parent.exists()
    assert not middle.exists()  # down to half, so that the next request need not remove any
    assert new.exists()
    assert example.exists()


def test_files_that_fit_stay(tmp_path):
    storage = Storage(tmp_path, max_bytes=100)
    files = [write(storage, name, 50, 1) for name in "ab"]
    storage.prune()
    assert all(file.exists() for file in files)


def test_requests_get_folders_of_their_own(tmp_path):
    storage = Storage(tmp_path)
    assert storage.new_folder() != storage.new_folder()


def test_the_folder_and_the_environment_are_as_before_at_the_end(monkeypatch):
    monkeypatch.setenv("GRADIO_TEMP_DIR", "/elsewhere")
    monkeypatch.delenv("GRADIO_ANALYTICS_ENABLED", raising=False)
    with pytest.raises(KeyboardInterrupt), temporary_storage() as storage:
        (storage.new_folder() / "file").write_bytes(b"1")
        assert os.environ["GRADIO_TEMP_DIR"] == str(storage.folder)
        assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
        raise KeyboardInterrupt
    assert not storage.folder.exists()
    assert os.environ["GRADIO_TEMP_DIR"] == "/elsewhere"
    assert "GRADIO_ANALYTICS_ENABLED" not in os.environ
