"""The folder of label maps: what it may be, where it may lie, and that one command has it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ccnet.labeling.files import Outcome, predict_files
from ccnet.labeling.jobs import find_jobs
from ccnet.labeling.output import require_apart, require_folder
from tests.labeling.test_files import COLOR, pictures_below, predict, write_images


def link_to(target: str):
    return lambda path: path.symlink_to(target)


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("put", "words"),
    [
        (link_to("out"), "it is a loop of symbolic links"),
        (link_to("nowhere"), "a link to a folder that is not there"),
        (link_to("/dev/null"), "it is a device"),
        (Path.touch, "it is a file"),
        (os.mkfifo, "it is a FIFO"),
        (lambda path: path.parent.rmdir() or path.parent.touch(), "no such file, since a part"),
    ],
    ids=["loop", "dangling", "device", "file", "FIFO", "below a file"],
)
def test_what_is_no_folder_is_one_line_before_work_starts(predictor, tmp_path, put, words):
    write_images(tmp_path / "in", "a.png")
    out = tmp_path / "deep" / "out"
    out.parent.mkdir()
    put(out)
    with pytest.raises(ValueError, match=f"^{out}: {words}.*; give a folder for the label maps$"):
        require_folder(out)
    with pytest.raises(ValueError, match=words):
        predict_files(predictor, [], out)


def test_a_link_to_a_folder_is_a_folder(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png")
    (tmp_path / "there").mkdir()
    (tmp_path / "out").symlink_to("there")
    assert predict(predictor, tmp_path) == Outcome(written=1)
    assert pictures_below(tmp_path / "there") == ["a.png"]


@pytest.mark.parametrize("target", ["elsewhere", "out/other", "nowhere", "out/sub"])
def test_nothing_is_written_through_a_link_below_the_folder(predictor, tmp_path, target):
    write_images(tmp_path / "in", "sub/deep/a.png", "b.png")
    jobs = find_jobs([tmp_path / "in"], tmp_path / "out")
    for folder in ("elsewhere", "out/other"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "out" / "sub").symlink_to(tmp_path / target)
    with pytest.raises(ValueError, match=r"out/sub: a link, through which no label maps are"):
        predict_files(predictor, jobs, tmp_path / "out", overwrite=True)
    assert list((tmp_path / "elsewhere").iterdir()) == []
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["other", "sub"]


def test_a_file_in_place_of_a_folder_is_named_before_work_starts(predictor, tmp_path):
    write_images(tmp_path / "in", "sub/a.png", "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "sub").touch()
    with pytest.raises(ValueError, match=r"out/sub: no folder; move it away"):
        predict(predictor, tmp_path)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["sub"]


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        (["photos"], "photos"),
        (["photos"], "other/../photos"),
        (["photos"], "link"),
        (["link"], "photos"),
        (["photos/jpg.jpg", "photos/sub"], "photos/sub"),
        (["photos", "photos/sub"], "photos/sub"),
        (["photos"], "."),
    ],
)
def test_label_maps_among_the_images_are_refused(tmp_path, monkeypatch, inputs, output):
    monkeypatch.chdir(tmp_path)
    write_images(Path("photos"), "jpg.jpg", "sub/a.jpg", "photos/b.jpg")
    Path("link").symlink_to("photos")
    Path("other").mkdir()
    jobs = find_jobs(inputs, Path(output))
    with pytest.raises(ValueError, match=f"^{output}: the label maps would come among the images"):
        require_apart(inputs, jobs, Path(output))


@pytest.mark.parametrize(
    ("inputs", "output"),
    [
        (["photos"], "labels"),
        (["photos"], "photos/labels"),
        (["photos"], "."),
        (["photos/a.jpg"], "."),
        (["photos/a.jpg"], "photos"),
        (["photos/*.jpg"], "photos"),
    ],
)
def test_a_second_call_finds_the_images_of_the_first(
    predictor, tmp_path, monkeypatch, inputs, output
):
    monkeypatch.chdir(tmp_path)
    write_images(Path("photos"), "a.jpg", "sub/b.jpg")
    found = []
    for _ in range(2):
        jobs = find_jobs(inputs, Path(output))
        require_apart(inputs, jobs, Path(output))
        assert not predict_files(predictor, jobs, Path(output), products=COLOR).failures
        found.append(jobs)
    assert found[0] == found[1]


@pytest.mark.parametrize("pattern", ["photos/b*", "link/b*", "photos/b.png"])
def test_label_maps_are_no_images(predictor, tmp_path, monkeypatch, pattern):
    monkeypatch.chdir(tmp_path)
    write_images(Path("photos"), "b.jpg", "c.png")
    Path("link").symlink_to("photos")
    predict_files(predictor, find_jobs(["photos/b.jpg"], Path("photos")), Path("photos"))
    jobs = find_jobs([pattern.replace("b*", "b.p*")], Path("photos/again"))
    with pytest.raises(ValueError, match=r"b\.png: a label map of ccnet predict, no image"):
        require_apart([pattern], jobs, Path("photos"))
    require_apart(["photos/c.png"], find_jobs(["photos/c.png"], Path("out")), Path("photos"))


HOLD = """
import sys
from pathlib import Path
from ccnet.runtime.lock import locked
with locked(Path(sys.argv[1])):
    print("locked", flush=True)
    sys.stdin.read()
"""


@pytest.mark.slow
def test_a_second_command_is_refused_until_the_first_is_gone_however_it_ends(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png")
    (tmp_path / "out").mkdir()
    first = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "out")],
        cwd=Path(__file__).parents[2],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match="out: another command writes there now; wait for its"):
            predict(predictor, tmp_path)
        assert list((tmp_path / "out").iterdir()) == []
    finally:
        first.kill()
        first.communicate()
    assert predict(predictor, tmp_path) == Outcome(written=1)
