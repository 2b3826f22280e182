"""The manifest: one line a result, whatever was stopped, killed or started again."""

import json
from pathlib import Path

import pytest

from ccnet.prediction.jobs import Job
from ccnet.prediction.manifest import Manifest, read_manifests

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


@pytest.mark.parametrize("line", ["{}", "no JSON", '{"image": "a"}', "[1]", '{"other": 1}'])
def test_a_whole_line_that_is_none_of_ours_is_an_error_with_its_place(line):
    Path("out").mkdir()
    Path("out/manifest.jsonl").write_text(line + "\n")
    with pytest.raises(ValueError, match=r"manifest\.jsonl, line 1: no line of a manifest"):
        manifest()


def test_nothing_to_say_leaves_no_file():
    with manifest():
        pass
    assert not Path("out").exists()


def test_names_that_are_no_text_come_back():
    strange = Job(Path("in/\udcff ü.jpg"), Path("out/\udcff ü.png"))
    with manifest() as m:
        m.add(strange, "written")
    assert read_manifests(Path("out"))["\udcff ü.png"].image == "in/\udcff ü.jpg"
