"""Image files and where their labels go: what is found, and what would be written over."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet.images.reading import read_image
from ccnet.labeling.jobs import find_jobs
from ccnet.runtime.files import DataError


def write_images(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(path)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (["a.jpg"], {"a.jpg": "a.png"}),
        (["."], {"a.jpg": "a.png", "b.PNG": "b.png", "sub/c.bmp": "sub/c.png"}),
        (["sub"], {"sub/c.bmp": "c.png"}),
        (["*.jpg"], {"a.jpg": "a.png"}),
        (["**/*.[bj][mp][pg]"], {"a.jpg": "a.png", "sub/c.bmp": "c.png"}),
        (["b.PNG", "b.PNG", "sub"], {"b.PNG": "b.png", "sub/c.bmp": "c.png"}),
    ],
    ids=str,
)
def test_files_folders_and_patterns_are_found(tmp_path, monkeypatch, inputs, expected):
    write_images(tmp_path, "a.jpg", "b.PNG", "sub/c.bmp")
    (tmp_path / "notes.txt").touch()
    monkeypatch.chdir(tmp_path)
    jobs = find_jobs(inputs, Path("out"))
    assert {job.image.as_posix(): job.labels.as_posix() for job in jobs} == {
        image: f"out/{labels}" for image, labels in expected.items()
    }


@pytest.mark.parametrize(
    ("inputs", "output", "words"),
    [
        (["in"], "out", "in/a.jpg and in/a.png would both be written to out/a.png"),
        (["in/sub/b.png", "other/b.jpg"], "out", "would both be written to out/b.png"),
        (["other/c.png"], "other", "labels of other/c.png would be written over other/c.png"),
        (["other/c.png"], "in/../other", "labels of other/c.png would be written over"),
        (["out/sub/b.png", "other/deep"], "out", "other/deep/sub/b.jpg would be .* out/sub/b.png"),
    ],
)
def test_no_image_is_written_over_and_no_labels_twice(tmp_path, monkeypatch, inputs, output, words):
    write_images(tmp_path, "in/a.jpg", "in/a.png", "in/c.jpg", "in/sub/b.png", "out/sub/b.png")
    write_images(tmp_path, "other/b.jpg", "other/c.png", "other/deep/sub/b.jpg")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=words):
        find_jobs(inputs, Path(output))


@pytest.mark.parametrize("given", ["missing.jpg", "*.gif", "empty", "missing/*.png"])
def test_nothing_found_is_an_error_that_names_the_input(tmp_path, monkeypatch, given):
    (tmp_path / "empty").mkdir()
    write_images(tmp_path, "a.jpg")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(FileNotFoundError) as caught:
        find_jobs(["a.jpg", given], Path("out"))
    assert f"no images at {given}; known are .jpg" in str(caught.value)


def test_labels_in_a_folder_within_the_images_are_no_images_next_time(tmp_path):
    write_images(tmp_path / "in", "a.png")
    for _ in range(2):
        jobs = find_jobs([tmp_path / "in"], tmp_path / "in" / "labels")
        assert [job.image.name for job in jobs] == ["a.png"]
        write_images(tmp_path / "in" / "labels", "a.png")


@pytest.mark.parametrize("link", [Path.symlink_to, Path.hardlink_to])
def test_two_names_of_one_image_are_two_images(tmp_path, monkeypatch, link):
    write_images(tmp_path, "real.png", "in/other.png")
    link(tmp_path / "in" / "a.png", tmp_path / "real.png")
    link(tmp_path / "in" / "b.png", tmp_path / "real.png")
    monkeypatch.chdir(tmp_path)
    jobs = find_jobs(["in"], Path("out"))
    assert [job.labels.name for job in jobs] == ["a.png", "b.png", "other.png"]


def test_hidden_files_and_folders_are_left_out_and_counted_and_links_followed(tmp_path):
    write_images(tmp_path, "in/a.png", "in/.ipynb_checkpoints/a.png", "in/__MACOSX/._a.png")
    write_images(tmp_path, "in/._a.jpg", "far/b.png")
    (tmp_path / "in" / "far").symlink_to(tmp_path / "far")
    hidden: list[Path] = []
    jobs = find_jobs([tmp_path / "in"], tmp_path / "out", hidden)
    assert [job.labels.relative_to(tmp_path).as_posix() for job in jobs] == [
        "out/a.png",
        "out/far/b.png",
    ]
    assert [path.name for path in hidden] == ["._a.jpg", ".ipynb_checkpoints", "__MACOSX"]


def test_one_name_given_in_several_ways_is_one_image(tmp_path, monkeypatch):
    write_images(tmp_path, "in/a.png")
    (tmp_path / "linked").symlink_to("in")
    monkeypatch.chdir(tmp_path)
    inputs = ["in", "in/a.png", "./in/../in/a.png", str(tmp_path / "in"), "linked", "in/*.png"]
    assert len(find_jobs(inputs, Path("out"))) == 1


@pytest.mark.parametrize("given", ["in", "in/*.png", "in/**/*.png", "in/gone.png"])
def test_links_without_a_target_are_found_and_fail(tmp_path, monkeypatch, given):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "gone.png").symlink_to("nothing")
    monkeypatch.chdir(tmp_path)
    (job,) = find_jobs([given], Path("out"))
    with pytest.raises(DataError, match=r"in/gone\.png: it is a link to nothing, which does not"):
        read_image(job.image)


@pytest.mark.parametrize("given", ["in", "in/**/*.png", "in/*/*.png"])
def test_folders_without_permission_are_found_and_fail(tmp_path, monkeypatch, given):
    write_images(tmp_path, "in/a.png", "in/sub.png", "in/sub/b.png", "in/other/c.png")
    monkeypatch.chdir(tmp_path)
    scandir = os.scandir

    def refuse(path):
        if not isinstance(path, int) and Path(path).name == "sub":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    jobs = {job.image.as_posix(): job for job in find_jobs([given], Path("out"))}
    assert {"in/sub", "in/other/c.png"} <= jobs.keys()
    with pytest.raises(DataError, match="in/sub: it cannot be read, since this user has no perm"):
        read_image(jobs["in/sub"].image)
    with pytest.raises(DataError, match="in/sub: it cannot be read"):
        find_jobs(["in/sub"], Path("out"))


def test_a_file_in_a_folder_without_permission_is_not_called_missing(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    stat = os.stat

    def refuse(path, **options):
        if str(path).startswith("sub/"):
            raise PermissionError(13, "Permission denied", str(path))
        return stat(path, **options)

    monkeypatch.setattr(os, "stat", refuse)
    (job,) = find_jobs(["sub/a.png"], Path("out"))
    with pytest.raises(DataError, match=r"sub/a\.png: it cannot be read, since this user has no"):
        read_image(job.image)


def test_an_image_that_a_link_leads_to_is_not_written_over(tmp_path, monkeypatch):
    write_images(tmp_path, "real/a.png")
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.png").symlink_to("../real/a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"labels of in/a\.png would be written over real/a\.png"):
        find_jobs(["in"], Path("real"))


def test_an_empty_path_is_an_error(tmp_path, monkeypatch):
    write_images(tmp_path, "a.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="an empty path among the images"):
        find_jobs(["a.png", ""], Path("out"))
