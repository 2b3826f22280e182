"""Label maps of image files: what is written, kept, refused, and what a stop or a bad file does."""

import errno
import os
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ccnet import Predictor
from ccnet.datasets import Scenes
from ccnet.images.colors import colorize, overlay
from ccnet.images.reading import read_image
from ccnet.labeling.files import Outcome, map_ahead, predict_files
from ccnet.labeling.jobs import Products, find_jobs
from ccnet.labeling.manifest import read_manifests
from ccnet.runtime.signals import StopSignals
from tests.conftest import in_processes, new_tiny_model

ROOT = Path(__file__).parents[2]
COLOR = Products(color=True)
PICTURES = Products(color=True, overlay=True)


def write_images(folder: Path, *names: str) -> None:
    for index, name in enumerate(names):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(Scenes()[index][0][: 40 + index]).save(path)


def pictures_below(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*.png"))


def times_of_change(folder: Path) -> dict[str, int]:
    return {name: (folder / name).stat().st_mtime_ns for name in pictures_below(folder)}


def predict(predictor: Predictor, folder: Path, **options) -> Outcome:
    """The images in folder/in to folder/out."""
    return predict_files(
        predictor, find_jobs([folder / "in"], folder / "out"), folder / "out", **options
    )


def test_labels_are_what_the_predictor_says_at_the_images_size(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png", "sub/ü 東京.png")
    assert predict(predictor, tmp_path) == Outcome(written=2)
    assert pictures_below(tmp_path / "out") == ["a.png", "sub/ü 東京.png"]
    for name in ("a.png", "sub/ü 東京.png"):
        with Image.open(tmp_path / "out" / name) as picture:
            assert picture.mode == "L"
            labels = predictor.predict(read_image(tmp_path / "in" / name))
            np.testing.assert_array_equal(picture, labels)


def test_colors_and_overlays_are_written_on_request(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png", "b.c.png")
    predict(predictor, tmp_path, products=PICTURES)
    assert pictures_below(tmp_path / "out") == sorted(
        f"{name}{kind}.png" for name in ("a", "b.c") for kind in ("", ".color", ".overlay")
    )
    image = read_image(tmp_path / "in" / "a.png")
    labels = np.array(Image.open(tmp_path / "out" / "a.png"))
    for kind, expected in (
        ("color", colorize(labels, Scenes.palette)),
        ("overlay", overlay(image, labels, Scenes.palette)),
    ):
        np.testing.assert_array_equal(read_image(tmp_path / "out" / f"a.{kind}.png"), expected)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_bad_files_are_reported_and_the_others_written(predictor, tmp_path, num_workers):
    write_images(tmp_path / "in", "a.png", "b.jpg", "c.png")
    (tmp_path / "in" / "a.png").write_bytes(b"no image")
    whole = (tmp_path / "in" / "b.jpg").read_bytes()
    (tmp_path / "in" / "b.jpg").write_bytes(whole[: len(whole) // 2])
    seen = []
    outcome = predict(
        predictor,
        tmp_path,
        num_workers=num_workers,
        progress=lambda *counts: seen.append(counts),
    )
    assert (outcome.written, outcome.kept) == (1, 0)
    assert [path.name for path, _ in outcome.failures] == ["a.png", "b.jpg"]
    assert all(str(path) in reason for path, reason in outcome.failures)
    assert pictures_below(tmp_path / "out") == ["c.png"]
    assert seen == [(1, 3), (2, 3), (3, 3)]
    entries = read_manifests(tmp_path / "out")
    assert {name: entry.status for name, entry in entries.items()} == {
        "a.png": "failed",
        "b.png": "failed",
        "c.png": "written",
    }
    assert entries["a.png"].reason == outcome.failures[0][1]
    assert (entries["c.png"].width, entries["c.png"].height) == (64, 42)


def test_an_image_that_is_too_much_for_the_device_stops_no_other(predictor, tmp_path, monkeypatch):
    score = predictor.score

    def score_small_ones(images):
        if len(images[0]) == 41:
            raise RuntimeError("out of memory")
        return score(images)

    write_images(tmp_path / "in", "a.png", "b.png", "c.png")
    monkeypatch.setattr(predictor, "score", score_small_ones)
    outcome = predict(predictor, tmp_path)
    path = tmp_path / "in" / "b.png"
    assert outcome == Outcome(written=2, failures=[(path, f"{path}: out of memory")])


def test_a_second_run_keeps_what_is_there_and_adds_no_lines(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png", "b.png", "bad.png")
    (tmp_path / "in" / "bad.png").write_bytes(b"no image")
    first = predict(predictor, tmp_path, products=COLOR)
    times = times_of_change(tmp_path / "out")
    lines = (tmp_path / "out" / "manifest.jsonl").read_text()
    seen = []
    second = predict(
        predictor,
        tmp_path,
        products=COLOR,
        progress=lambda *counts: seen.append(counts),
    )
    assert second == Outcome(kept=2, failures=first.failures)
    assert times_of_change(tmp_path / "out") == times
    assert (tmp_path / "out" / "manifest.jsonl").read_text() == lines
    assert seen == [(2, 3), (3, 3)]
    (tmp_path / "out" / "manifest.jsonl").unlink()
    predict(predictor, tmp_path, products=COLOR)
    kept = read_manifests(tmp_path / "out")["b.png"]
    assert (kept.status, kept.width, kept.height) == ("kept", 64, 41)


def change_model(folder, predictor):
    with torch.no_grad():
        predictor.model.head.classifier.bias += torch.tensor([9.0, 0, 0, 0])


def change_precision(folder, predictor):
    predictor.dtype = torch.bfloat16


def change_image(folder, predictor):
    Image.fromarray(Scenes()[9][0]).save(folder / "in" / "a.png")


def tear_labels(folder, predictor):
    path = folder / "out" / "a.png"
    path.write_bytes(path.read_bytes()[:-8])


def damage_labels(folder, predictor):
    path = folder / "out" / "a.png"
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 20] ^= 1
    path.write_bytes(content)


def remove_labels(folder, predictor):
    (folder / "out" / "a.png").unlink()


def remove_colors(folder, predictor):
    (folder / "out" / "a.color.png").unlink()


def take_colors_of_another(folder, predictor):
    (folder / "out" / "b.color.png").replace(folder / "out" / "a.color.png")


@pytest.mark.parametrize(
    ("change", "made_anew"),
    [
        (change_model, {"a", "b"}),
        (change_precision, {"a", "b"}),
        (change_image, {"a"}),
        (tear_labels, {"a"}),
        (damage_labels, {"a"}),
        (remove_labels, {"a"}),
        (remove_colors, {"a"}),
        (take_colors_of_another, {"a", "b"}),
    ],
)
def test_what_does_not_fit_any_more_is_made_anew(predictor, tmp_path, change, made_anew):
    write_images(tmp_path / "in", "a.png", "b.png")
    predict(predictor, tmp_path, products=COLOR)
    before = times_of_change(tmp_path / "out")
    change(tmp_path, predictor)
    outcome = predict(predictor, tmp_path, products=COLOR)
    assert (outcome.written, outcome.kept) == (len(made_anew), 2 - len(made_anew))
    after = times_of_change(tmp_path / "out")
    assert {name for name in "ab" if after[f"{name}.png"] != before[f"{name}.png"]} == made_anew
    for name in "ab":
        image = read_image(tmp_path / "in" / f"{name}.png")
        labels = np.array(Image.open(tmp_path / "out" / f"{name}.png"))
        np.testing.assert_array_equal(labels, predictor.predict(image))
        colors = read_image(tmp_path / "out" / f"{name}.color.png")
        np.testing.assert_array_equal(colors, colorize(labels, Scenes.palette))


@pytest.mark.parametrize("name", ["b.png", "b.color.png"])
def test_what_is_none_of_ours_is_not_written_over_unless_asked(predictor, tmp_path, name):
    write_images(tmp_path / "in", "a.png", "b.png")
    write_images(tmp_path / "out", name)
    theirs = (tmp_path / "out" / name).read_bytes()
    with pytest.raises(FileExistsError, match=rf"out/{name} was not written by .* --overwrite"):
        predict(predictor, tmp_path, products=COLOR)
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]
    assert (tmp_path / "out" / name).read_bytes() == theirs
    assert predict(predictor, tmp_path, products=COLOR, overwrite=True) == Outcome(written=2)
    assert predict(predictor, tmp_path, products=COLOR) == Outcome(kept=2)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_full_disk_stops_at_once_and_leaves_nothing_behind(
    predictor, tmp_path, monkeypatch, num_workers
):
    whole, seen = Path.write_bytes, []

    def write_half_of_the_second(self, content):
        seen.append(self)
        if len(seen) == 1:
            return whole(self, content)
        whole(self, content[:30])
        raise OSError(errno.ENOSPC, "No space left on device")

    write_images(tmp_path / "in", *[f"{index}.png" for index in range(9)])
    monkeypatch.setattr(Path, "write_bytes", write_half_of_the_second)
    with pytest.raises(OSError, match=r"^\S*/out/1\.png could not be written: no space is left"):
        predict(predictor, tmp_path, num_workers=num_workers)
    assert len(seen) in (2, 3 if num_workers else 2)  # one more may be in the thread that writes
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["0.png", "manifest.jsonl"]
    monkeypatch.undo()
    assert predict(predictor, tmp_path, num_workers=num_workers) == Outcome(written=8, kept=1)


def test_a_link_in_place_of_labels_is_replaced_only_when_asked_and_not_followed(
    predictor, tmp_path
):
    write_images(tmp_path / "in", "a.png")
    write_images(tmp_path, "theirs.png")
    theirs = (tmp_path / "theirs.png").read_bytes()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").symlink_to(tmp_path / "theirs.png")
    with pytest.raises(FileExistsError, match=r"out/a.png was not written by .* --overwrite"):
        predict(predictor, tmp_path)
    assert predict(predictor, tmp_path, overwrite=True) == Outcome(written=1)
    assert not (tmp_path / "out" / "a.png").is_symlink()
    assert (tmp_path / "theirs.png").read_bytes() == theirs


@pytest.mark.timeout(60)
@pytest.mark.parametrize("put", [Path.mkdir, os.mkfifo], ids=["folder", "FIFO"])
def test_what_is_no_file_is_not_replaced_even_when_asked(predictor, tmp_path, put):
    write_images(tmp_path / "in", "a.png", "b.png")
    (tmp_path / "out").mkdir()
    put(tmp_path / "out" / "b.png")
    with pytest.raises(FileExistsError, match=r"out/b.png is in the way of a label map"):
        predict(predictor, tmp_path, overwrite=True)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["b.png"]


@pytest.mark.parametrize("products", [COLOR, Products(overlay=True)], ids=["color", "overlay"])
def test_a_model_without_palette_cannot_color(tiny_model, tmp_path, products):
    tiny_model.palette = None
    with pytest.raises(ValueError, match="no palette"):
        predict_files(Predictor(tiny_model, device="cpu"), [], tmp_path, products=products)


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_stop_comes_after_the_file_in_hand_and_the_same_call_goes_on(
    predictor, tmp_path, num_workers
):
    write_images(tmp_path / "in", "a.png", "b.png", "c.png", "d.png")
    stop = StopSignals()

    def progress(done, _):
        stop.requested = done == 2

    with pytest.raises(KeyboardInterrupt):
        predict(predictor, tmp_path, progress=progress, stop=stop, num_workers=num_workers)
    times = times_of_change(tmp_path / "out")
    assert list(times) in (["a.png", "b.png"], ["a.png", "b.png", "c.png"][: 2 + num_workers])
    left = Outcome(written=4 - len(times), kept=len(times))
    assert predict(predictor, tmp_path, num_workers=num_workers) == left
    assert times.items() <= times_of_change(tmp_path / "out").items()


def test_reading_ahead_keeps_the_order_and_goes_no_further_than_asked():
    started = []

    def slow_first(item: int) -> int:
        started.append(item)
        time.sleep(0.2 if item == 0 else 0)
        return -item

    pairs = map_ahead(slow_first, range(6), 3)
    assert next(pairs) == (0, 0)
    assert set(started) == {0, 1, 2, 3}  # made while the first was waited for
    assert list(pairs) == [(1, -1), (2, -2), (3, -3), (4, -4), (5, -5)]
    assert sorted(started) == list(range(6))


@pytest.mark.parametrize("number", [-1, 10**9])
def test_a_number_of_workers_that_cannot_be_is_refused(predictor, tmp_path, number):
    write_images(tmp_path / "in", "a.png")
    with pytest.raises(ValueError, match=f"num_workers must be from 0 to 256, got {number}"):
        predict(predictor, tmp_path, num_workers=number)
    assert not (tmp_path / "out").exists()


def predict_in_one_of_two(folder: Path) -> dict[str, object]:
    """What this process returns, writes or refuses for several folders."""
    torch.manual_seed(0)
    predictor = Predictor(new_tiny_model(), device="cpu")
    results: dict[str, object] = {
        name: predict(predictor, folder / name) for name in ("odd", "one")
    }
    rank = torch.distributed.get_rank()
    other_images = folder / "odd" / "in" / ("a.png" if rank else "b.png")
    calls = {
        "foreign": lambda: predict(predictor, folder / "foreign"),
        "different": lambda: predict_files(
            predictor, find_jobs([other_images], folder / "new"), folder / "new"
        ),
    }
    for name, call in calls.items():
        try:
            results[name] = call()
        except (FileExistsError, ValueError) as error:
            results[name] = error
    return results


@pytest.mark.slow
def test_two_processes_share_the_files_and_refuse_together(tmp_path):
    write_images(tmp_path / "odd" / "in", "a.png", "b.png", "c.png", "d.png", "e.png")
    (tmp_path / "odd" / "in" / "d.png").write_bytes(b"no image")
    write_images(tmp_path / "one" / "in", "a.png")
    write_images(tmp_path / "foreign" / "in", "a.png", "b.png")
    write_images(tmp_path / "foreign" / "out", "b.png")  # only the second process's concern
    first, second = in_processes(2, predict_in_one_of_two, tmp_path)
    for name in ("odd", "one"):
        assert first[name] == second[name]
    assert (first["odd"].written, first["one"]) == (4, Outcome(written=1))
    assert [path.name for path, _ in first["odd"].failures] == ["d.png"]
    assert pictures_below(tmp_path / "odd" / "out") == ["a.png", "b.png", "c.png", "e.png"]
    by_process = {e.labels[0]: e.process for e in read_manifests(tmp_path / "odd" / "out").values()}
    assert by_process == {"a": 0, "b": 1, "c": 0, "d": 1, "e": 0}
    for result in (first, second):
        assert isinstance(result["foreign"], FileExistsError)
        assert "see different images (1, 1" in str(result["different"])
    assert pictures_below(tmp_path / "foreign" / "out") == ["b.png"]
    assert not (tmp_path / "new").exists()
