"""Saves: named by their content, verified when read, the last two good ones kept."""

import errno
import hashlib
import io
import os
import random
from pathlib import Path
from zipfile import ZIP_DEFLATED, ZipFile

import pytest
import torch

from ccnet.saving.saves import Saves, saved_size, write_state


def state(step: int) -> dict:
    return {"step": step, "weights": torch.full((300,), float(step)), "rates": [0.1, 0.2]}


def steps(saves: Saves) -> list[int]:
    return [int(path.name[5:13]) for path in saves.paths()]


def put(folder: Path, step: int, content: object) -> Path:
    """A file that is named as a save of any content has to be, digest and all."""
    buffer = io.BytesIO()
    torch.save(content, buffer)
    digest = hashlib.sha256(buffer.getvalue()).hexdigest()[:16]
    path = folder / f"step-{step:08d}.{digest}.pt"
    path.write_bytes(buffer.getvalue())
    return path


@pytest.fixture
def saves(tmp_path) -> Saves:
    return Saves(tmp_path / "checkpoints")


def test_a_save_is_named_by_its_step_and_content_and_comes_back(saves):
    path = saves.save(state(123))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert path.name == f"step-00000123.{digest[:16]}.pt"
    assert path.stat().st_size == saved_size(state(123))
    found, read = Saves(saves.folder).newest()
    assert found == path
    assert read["rates"] == [0.1, 0.2]
    assert torch.equal(read["weights"], state(123)["weights"])


def test_the_last_two_are_kept_and_steps_are_numbers(saves):
    for step in (99_999_998, 99_999_999, 100_000_000):
        saves.save(state(step))
    assert [path.name.split(".")[0] for path in saves.paths()] == [
        "step-100000000",
        "step-99999999",
    ]
    assert saves.newest()[1]["step"] == 100_000_000


def test_a_second_save_of_a_step_takes_the_first_one_s_place(saves):
    for step in (1, 2, 2):
        saves.save(state(step))
    saves.save({**state(2), "validated": 2})
    assert steps(saves) == [2, 1]
    assert saves.newest()[1]["validated"] == 2


class Hostile:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def changed(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def replaced_by_an_older(path: Path) -> None:
    path.write_bytes(min(path.parent.glob("step-*")).read_bytes())


def replaced_by_a_hostile(path: Path) -> None:
    path.unlink()
    put(path.parent, 3, {"step": Hostile(path.parent / "victim")})


def replaced_by_another_step_s(path: Path) -> None:
    path.unlink()
    put(path.parent, 3, state(4))


def replaced_by_no_state(path: Path) -> None:
    path.unlink()
    put(path.parent, 3, [3])


def replaced_by_a_tensor_for_a_step(path: Path) -> None:
    path.unlink()
    put(path.parent, 3, {"step": torch.tensor([3, 3])})


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncated, "truncated or changed"),
        (emptied, "truncated or changed"),
        (changed, "truncated or changed"),
        (replaced_by_an_older, "truncated or changed"),
        (replaced_by_a_hostile, "is not loaded: it holds other things than tensors"),
        (replaced_by_another_step_s, "holds no state of step 3"),
        (replaced_by_no_state, "holds no state of step 3"),
        (replaced_by_a_tensor_for_a_step, "holds no state of step 3"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_bad_newest_save_is_named_and_the_one_before_is_used(saves, capsys, damage, reason):
    for step in (1, 2, 3):
        good = saves.paths()[:1]
        saves.save(state(step))
    damage(saves.paths()[0])
    bad = saves.paths()[0]

    resumed = Saves(saves.folder)
    path, read = resumed.newest()
    assert [path] == good
    assert read["step"] == 2
    warning = capsys.readouterr().err
    assert warning.startswith(f"warning: {bad} ")
    assert reason in warning
    assert warning.endswith(f"; {path.name} is used instead\n")
    assert not (saves.folder / "victim").exists()

    assert bad.exists()
    resumed.save(state(3))
    assert steps(resumed) == [3, 2]
    assert not bad.exists() or bad == resumed.paths()[0]
    assert Saves(saves.folder).newest()[1]["step"] == 3


def test_a_bad_save_is_not_kept_as_the_one_before(saves):
    for step in (1, 2):
        saves.save(state(step))
    changed(saves.paths()[0])
    Saves(saves.folder).save(state(3))
    assert steps(saves) == [3, 1]


def test_any_changed_byte_is_noticed(saves):
    path = saves.save(state(1))
    whole = path.read_bytes()
    for position in random.Random(0).sample(range(len(whole)), 100):
        content = bytearray(whole)
        content[position] ^= 1 << position % 8
        path.write_bytes(content)
        with pytest.raises(ValueError, match="truncated or changed"):
            saves.read(path)
    path.write_bytes(whole)
    assert saves.read(path)["step"] == 1


def test_without_a_good_save_all_are_named(saves):
    with pytest.raises(FileNotFoundError, match=r"no run to resume: there is no save in .*check"):
        saves.newest()
    for step in (1, 2):
        saves.save(state(step))
    for path in saves.paths():
        truncated(path)
    with pytest.raises(ValueError, match=r"no save is good") as error:
        saves.newest()
    assert all(str(path) in str(error.value) for path in saves.paths())


def test_only_what_is_named_as_a_save_is_one(saves):
    path = saves.save(state(1))
    (saves.folder / "copy.pt").write_bytes(path.read_bytes())
    half = saves.folder / ".step-00000002.new"
    half.write_bytes(b"half")
    assert saves.paths() == [path]
    assert saves.unfinished() == [half]
    with pytest.raises(ValueError, match="not named as a save"):
        saves.read(saves.folder / "copy.pt")
    saves.save(state(2))
    assert not half.exists()
    assert (saves.folder / "copy.pt").exists()


def test_a_save_that_fails_leaves_those_before_and_nothing_else(saves, monkeypatch):
    for step in (1, 2):
        saves.save(state(step))
    before = sorted(saves.folder.iterdir())

    def broken(_):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("os.fsync", broken)
    with pytest.raises(OSError, match="Input/output"):
        saves.save(state(3))
    assert sorted(saves.folder.iterdir()) == before


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_torch_hides_no_error_of_the_disk():
    with (
        pytest.raises(OSError, match="No space left") as error,
        Path("/dev/full").open("wb") as file,
    ):
        write_state({"step": 1, "weights": torch.zeros(100_000)}, file)
    assert error.value.errno == errno.ENOSPC


def make_fifo(path: Path) -> None:
    os.mkfifo(path)


def make_loop(path: Path) -> None:
    path.symlink_to(path.name)


@pytest.mark.parametrize("make", [make_fifo, make_loop], ids=["FIFO", "loop"])
def test_what_only_has_the_name_of_a_save_is_not_waited_for(saves, make, capsys):
    good = saves.save(state(1))
    make(saves.folder / f"step-00000002.{'0' * 16}.pt")
    (saves.folder / f"step-00000003.{'0' * 16}.pt").mkdir()
    assert Saves(saves.folder).newest()[0] == good
    assert "step-00000002" in capsys.readouterr().err
    again = Saves(saves.folder)
    again.save(state(4))
    assert steps(again) == [4, 1]


def test_a_temporary_name_that_is_a_link_is_not_written_through(saves, tmp_path):
    (tmp_path / "outside").write_text("keep")
    saves.folder.mkdir()
    (saves.folder / ".step-00000001.new").symlink_to(tmp_path / "outside")
    saves.save(state(1))
    assert (tmp_path / "outside").read_text() == "keep"
    assert Saves(saves.folder).newest()[1]["step"] == 1


def test_an_archive_that_says_to_hold_more_than_the_file_is_not_unpacked(saves):
    saves.folder.mkdir()
    content, packed = io.BytesIO(), io.BytesIO()
    torch.save({"step": 1, "weights": torch.zeros(10**7)}, content)
    with ZipFile(content) as source, ZipFile(packed, "w", ZIP_DEFLATED) as target:
        for name in source.namelist():
            target.writestr(name, source.read(name))
    assert len(packed.getvalue()) < 10**6
    digest = hashlib.sha256(packed.getvalue()).hexdigest()[:16]
    path = saves.folder / f"step-00000001.{digest}.pt"
    path.write_bytes(packed.getvalue())
    with pytest.raises(ValueError, match="cannot be read: its parts are compressed or overlap"):
        saves.read(path)
