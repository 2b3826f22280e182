"""The manifest: one line a result, whatever was stopped, killed or started again."""

import errno
import json
import os
from pathlib import Path

import pytest

from ccnet.labeling.jobs import Job
from ccnet.labeling.manifest import Manifest, open_to_append, read_manifests

A, B = (Job(Path(f"in/{name}.jpg"), Path(f"out/{name}.png")) for name in "ab")


@pytest.fixture(autouse=True)
def _folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def manifest(process: int = 0, num_processes: int = 1) -> Manifest:
    return Manifest(Path("out"), {"a.png", "b.png"}, process, num_processes)


def lines(name: str = "manifest.jsonl") -> list[dict]:
    return [json.loads(line) for line in Path("out", name).read_text().splitlines()]


def test_a_line_says_what_became_of_a_file():
    with manifest() as m:
        m.add(A, "written", stamp="s", width=3, height=2, seconds=0.5)
        m.add(B, "failed", reason="no image")
    first, second = lines()
    assert first.pop("finished") <= second.pop("finished")
    nothing = dict.fromkeys(("reason", "stamp", "width", "height", "seconds"))
    assert first == {
        **{"image": "in/a.jpg", "labels": "a.png", "status": "written", "reason": None},
        **{"stamp": "s", "width": 3, "height": 2, "seconds": 0.5, "process": 0},
    }
    assert second == {
        **{"image": "in/b.jpg", "labels": "b.png", "status": "failed", "process": 0},
        **{**nothing, "reason": "no image"},
    }


@pytest.mark.parametrize(
    ("earlier", "later", "is_new"),
    [
        (("written", "s", None), ("kept", "s", None), False),
        (("kept", "s", None), ("kept", "s", None), False),
        (("failed", None, "why"), ("failed", None, "why"), False),
        (("failed", None, "why"), ("failed", None, "other"), True),
        (("failed", None, "why"), ("written", "s", None), True),
        (("written", "s", None), ("written", "t", None), True),
        (("written", "s", None), ("failed", None, "why"), True),
    ],
)
@pytest.mark.parametrize("later_process", [(0, 1), (1, 2)], ids=["same file", "other file"])
def test_only_what_is_new_is_added(earlier, later, is_new, later_process):
    for which, (status, stamp, reason) in (((0, 1), earlier), (later_process, later)):
        with manifest(*which) as m:
            m.add(A, status, stamp=stamp, reason=reason)
    name = "manifest.jsonl" if later_process == (0, 1) else "manifest.0001.jsonl"
    written = lines(name) if Path("out", name).exists() else []
    assert [line["status"] for line in written][(later_process == (0, 1)) :] == [later[0]] * is_new
    assert read_manifests(Path("out"))["a.png"].status == (later if is_new else earlier)[0]


def test_the_last_line_of_all_processes_counts():
    for process, status in ((1, "failed"), (0, "written")):
        with manifest(process, 2) as m:
            m.add(A, status)
    with manifest(1, 2) as m:
        m.add(B, "kept")
    merged = read_manifests(Path("out"))
    assert {name: entry.status for name, entry in merged.items()} == {
        "a.png": "written",
        "b.png": "kept",
    }


@pytest.mark.parametrize("torn", [b'{"image": "in/b.j', b"x" * 10000, b"{}"], ids=len)
def test_a_torn_last_line_is_passed_over_and_cut(torn):
    with manifest() as m:
        m.add(A, "written")
    with Path("out/manifest.jsonl").open("ab") as file:
        file.write(torn)
    assert list(read_manifests(Path("out"))) == ["a.png"]
    with manifest() as m:
        m.add(B, "written")
    assert [line["labels"] for line in lines()] == ["a.png", "b.png"]


def test_a_file_that_is_a_torn_line_only_starts_anew():
    Path("out").mkdir()
    Path("out/manifest.jsonl").write_bytes(b"{")
    with manifest() as m:
        m.add(A, "written")
    assert [line["labels"] for line in lines()] == ["a.png"]


OURS = '{"image": "a", "labels": "a.png", "status": "kept"'


def with_field(name: str, value: str) -> bytes:
    return f'{OURS}, "{name}": {value}}}'.encode()


@pytest.mark.parametrize(
    "line",
    [
        *[b"{}", b"no JSON", b'{"image": "a"}', b"[1]", b"3", b"null", b'"image"', b'{"other": 1}'],
        *[b"", b"\xff\xfe", f"{OURS}}}".encode("utf-16"), b"\0" * 300, b"[" * 10**5],
        with_field("image", "3"),
        with_field("labels", "null"),
        with_field("status", '"done"'),
        with_field("status", "[]"),
        with_field("reason", "{}"),
        with_field("stamp", "1"),
        with_field("width", "2.5"),
        with_field("height", "true"),
        with_field("seconds", "NaN"),
        with_field("seconds", "1e999"),
        with_field("process", "9" * 5000),
        with_field("finished", "7"),
        with_field("finished", "null"),
        with_field("other", "1"),
        with_field("reason", '"' + "x" * 2 * 10**6 + '"'),
    ],
    ids=lambda line: line[-20:].decode("latin-1"),
)
def test_a_whole_line_that_is_none_of_ours_is_one_short_line_with_its_place(line):
    Path("out").mkdir()
    content = f"{OURS}}}\n".encode() + line + b"\n" + 100 * (line[:1000] + b"\n")
    Path("out/manifest.jsonl").write_bytes(content)
    with pytest.raises(
        ValueError, match=r"manifest\.jsonl, line 2: no line of a manifest"
    ) as error:
        manifest()
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 400
    assert Path("out/manifest.jsonl").read_bytes() == content


@pytest.mark.parametrize("size", range(1, 200, 13))
def test_a_kill_anywhere_in_the_first_line_loses_nothing(size):
    strange = Job(Path('in/\udcff "ü\\.jpg'), Path("out/b.png"))
    with manifest() as m:
        m.add(strange, "written")
    path = Path("out/manifest.jsonl")
    path.write_bytes(path.read_bytes()[:size])
    with manifest() as m:
        m.add(A, "written")
    assert [line["labels"] for line in lines()] == ["a.png"]


@pytest.mark.parametrize(
    "content",
    [
        *[b"notes of somebody", b'{"video": "a.mp4"}', b"[1, 2", b"\0\0\0"],
        *[b'{"image": "a.jpg", "caption": "a cat"}', b'{"image": "a.jpg", "caption": "a c'],
    ],
)
def test_the_only_line_of_somebody_else_s_file_is_not_cut(content):
    Path("out").mkdir()
    path = Path("out/manifest.jsonl")
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"^out/manifest\.jsonl, line 1: no line of a manifest"):
        manifest()
    path.unlink()
    with manifest() as m:
        path.write_bytes(content)  # while the command already runs
        with pytest.raises(ValueError, match=r"^out/manifest\.jsonl: no manifest of ccnet predict"):
            m.add(A, "written")
    assert path.read_bytes() == content


def put_link(path: Path) -> None:
    path.symlink_to(Path("elsewhere.jsonl").resolve())


@pytest.mark.parametrize(
    ("put", "words"),
    [
        (put_link, "a symbolic link, which is not written through"),
        (lambda path: path.symlink_to(path.name), "a symbolic link"),
        (Path.mkdir, "it is a folder"),
        (os.mkfifo, "it is a FIFO"),
        (lambda path: path.symlink_to("/dev/zero"), "a symbolic link"),
    ],
    ids=["link", "loop", "folder", "FIFO", "device"],
)
@pytest.mark.parametrize("exists", [True, False])
def test_a_manifest_that_is_no_file_of_this_folder_is_neither_read_nor_written(put, words, exists):
    if exists:
        Path("elsewhere.jsonl").write_bytes(b'{"image": "')
    Path("out").mkdir()
    path = Path("out/manifest.jsonl")
    put(path)
    with pytest.raises(ValueError, match=f"^out/manifest.jsonl: {words}"):
        manifest()
    with pytest.raises(ValueError, match=r"^out/manifest.jsonl: "):
        open_to_append(path)
    assert Path("elsewhere.jsonl").exists() == exists
    if exists:
        assert Path("elsewhere.jsonl").read_bytes() == b'{"image": "'


def test_a_list_with_a_similar_name_is_not_ours_to_read():
    Path("out").mkdir()
    Path("out/manifest_of_photos.jsonl").write_text("anything\n")
    with manifest() as m:
        m.add(A, "written")
    assert list(read_manifests(Path("out"))) == ["a.png"]


def test_a_full_disk_names_the_manifest_and_loses_no_line(monkeypatch):
    with manifest() as m:
        m.add(A, "written")
        assert m.file is not None
        limited = LimitedFile(m.file, 10)
        monkeypatch.setattr(m, "file", limited)
        with pytest.raises(OSError, match=r"^out/manifest\.jsonl could not be written: no"):
            m.add(B, "written")
        limited.room = 1000
    with manifest() as m:
        m.add(B, "written")
    assert [line["labels"] for line in lines()] == ["a.png", "b.png"]


class LimitedFile:
    """A file on a disk with little room: a write takes a part, and the next one fails."""

    def __init__(self, file, room):
        self.file, self.room = file, room

    def write(self, content):
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = self.file.write(content[: self.room])
        self.room -= written
        return written

    def close(self):
        self.file.close()


def test_nothing_to_say_leaves_no_file():
    with manifest():
        pass
    assert not Path("out").exists()


def test_names_that_are_no_text_come_back():
    strange = Job(Path("in/\udcff ü.jpg"), Path("out/\udcff ü.png"))
    with manifest() as m:
        m.add(strange, "written")
    assert read_manifests(Path("out"))["\udcff ü.png"].image == "in/\udcff ü.jpg"
