"""A lock: one process at a time, released at any death, said where it is not there."""

import errno
import os
import signal
import subprocess
import sys

import pytest

from ccnet.runtime.files import DataError
from ccnet.runtime.lock import FolderLock, locked
from tests.commands import environment

HOLDS = """
import os, sys, time
from pathlib import Path
from ccnet.runtime.lock import FolderLock
with FolderLock(Path(sys.argv[1])) as lock:
    lock.take()
    if os.fork() == 0:  # as a worker that outlives the process
        time.sleep(60)
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock, in a group of its own with its child."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path / "run.lock")],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    yield process
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


@pytest.mark.slow
def test_a_second_process_is_told_which_one_holds_it(holder, tmp_path):
    said = f"{tmp_path} is in use: the process {holder.pid} on .* writes it"
    with FolderLock(tmp_path / "run.lock") as lock, pytest.raises(BlockingIOError, match=said):
        lock.take()


@pytest.mark.slow
def test_a_kill_releases_it_although_a_child_lives_on(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    with FolderLock(tmp_path / "run.lock") as lock:
        lock.take()
    assert os.killpg(holder.pid, 0) is None  # the child is still there


def test_it_is_taken_again_after_its_block(tmp_path):
    for _ in range(2):
        with FolderLock(tmp_path / "run.lock") as lock:
            lock.take()
    assert (tmp_path / "run.lock").read_text().startswith(f"{os.getpid()} on ")


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS])
def test_a_file_system_without_locks_is_said(number, tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.lockf", refuse)
    with FolderLock(tmp_path / "run.lock") as lock:
        lock.take()
    assert f"{tmp_path} is not protected" in capsys.readouterr().err


def test_a_system_without_fcntl_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with FolderLock(tmp_path / "run.lock") as lock:
        lock.take()
    assert "this system has no locks" in capsys.readouterr().err


def make_link(path):
    path.with_name("outside").write_text("keep")
    path.symlink_to("outside")


@pytest.mark.parametrize("make", [make_link, os.mkfifo, os.mkdir], ids=["link", "FIFO", "folder"])
def test_what_is_no_file_of_ours_is_refused(make, tmp_path):
    make(tmp_path / "run.lock")
    with (
        FolderLock(tmp_path / "run.lock") as lock,
        pytest.raises(DataError, match=r"run\.lock: it is .*; remove it"),
    ):
        lock.take()
    outside = tmp_path / "outside"
    assert not outside.exists() or outside.read_text() == "keep"


def test_a_folder_is_free_after_an_error_too(tmp_path):
    for _ in range(2):
        with pytest.raises(KeyError), locked(tmp_path):
            raise KeyError
    with locked(tmp_path), pytest.raises(ValueError, match="another command"), locked(tmp_path):
        pass


def test_a_folder_on_a_file_system_without_locks_is_said(tmp_path, monkeypatch, capsys):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with locked(tmp_path):
        pass
    assert "its file system has no locks" in capsys.readouterr().err
