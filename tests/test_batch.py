"""Label maps of image files: what is found, where it goes, and what a bad file does."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ccnet import Predictor
from ccnet.batch import find_jobs, predict_files
from ccnet.datasets import Scenes, read_image
from ccnet.visualize import colorize, overlay


def write_images(folder: Path, *names: str) -> None:
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(Scenes()[index][0][: 40 + index]).save(path)


def files_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.*"))


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


def test_labels_are_what_the_predictor_says_at_the_images_size(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png", "sub/ü 東京.png")
    jobs = find_jobs([tmp_path / "in"], tmp_path / "out")
    assert predict_files(predictor, jobs) == []
    assert files_below(tmp_path / "out") == ["a.png", "sub/ü 東京.png"]
    for job in jobs:
        with Image.open(job.labels) as picture:
            assert picture.mode == "L"
            np.testing.assert_array_equal(picture, predictor.predict(read_image(job.image)))


def test_colours_and_overlays_are_written_on_request(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png", "b.c.png")
    jobs = find_jobs([tmp_path / "in"], tmp_path / "out")
    predict_files(predictor, jobs, color=True, overlays=True)
    assert files_below(tmp_path / "out") == sorted(
        f"{name}{kind}.png" for name in ("a", "b.c") for kind in ("", ".color", ".overlay")
    )
    image, labels = read_image(jobs[0].image), np.array(Image.open(jobs[0].labels))
    for kind, expected in (
        ("color", colorize(labels, Scenes.palette)),
        ("overlay", overlay(image, labels, Scenes.palette)),
    ):
        np.testing.assert_array_equal(read_image(tmp_path / "out" / f"a.{kind}.png"), expected)


def test_bad_files_are_reported_and_the_others_written(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png", "b.jpg", "c.png")
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    whole = (tmp_path / "in" / "b.jpg").read_bytes()
    (tmp_path / "in" / "b.jpg").write_bytes(whole[: len(whole) // 2])
    seen = []
    failures = predict_files(
        predictor,
        find_jobs([tmp_path / "in"], tmp_path / "out"),
        progress=lambda *counts: seen.append(counts),
    )
    assert [path.name for path, _ in failures] == ["a.png", "b.jpg"]
    assert all(str(path) in reason for path, reason in failures)
    assert files_below(tmp_path / "out") == ["c.png"]
    assert seen == [(1, 3), (2, 3), (3, 3)]


def test_a_second_run_writes_over_the_first(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png")
    jobs = find_jobs([tmp_path / "in"], tmp_path / "out")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").write_bytes(b"old")
    predict_files(predictor, jobs)
    assert read_image(tmp_path / "out" / "a.png").shape == (40, 64, 3)
    assert files_below(tmp_path / "out") == ["a.png"]


def test_a_failed_write_leaves_nothing_behind(predictor, tmp_path, monkeypatch):
    def stop(self, file, format):
        Path(file).write_bytes(b"half")
        raise OSError("disk full")

    write_images(tmp_path / "in", "a.png")
    jobs = find_jobs([tmp_path / "in"], tmp_path / "out")
    monkeypatch.setattr(Image.Image, "save", stop)
    with pytest.raises(OSError, match="disk full"):
        predict_files(predictor, jobs)
    assert list((tmp_path / "out").iterdir()) == []


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


@pytest.mark.parametrize("option", ["color", "overlays"])
def test_a_model_without_palette_cannot_colour(tiny_model, tmp_path, option):
    tiny_model.palette = None
    with pytest.raises(ValueError, match="no palette"):
        predict_files(Predictor(tiny_model, device="cpu"), [], **{option: True})


def test_labels_in_a_folder_within_the_images_are_no_images_next_time(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png")
    for _ in range(2):
        jobs = find_jobs([tmp_path / "in"], tmp_path / "in" / "labels")
        assert [job.image.name for job in jobs] == ["a.png"]
        predict_files(predictor, jobs)
