"""Label maps of image files: what is written, kept, refused, and what a stop or a bad file does."""

import errno
import json
import os
import signal
import subprocess
import sys
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
from tests.kills import killed

ROOT = Path(__file__).parents[2]
COLOR = Products(color=True)
PICTURES = Products(color=True, overlay=True)
NUM_MANY = 41
MANY = [f"{index:02d}.png" for index in range(NUM_MANY)]


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


def command(folder: Path, output: str, *more: str) -> list[str]:
    arguments = [str(folder / "model"), str(folder / "in"), "--output", str(folder / output)]
    return [sys.executable, "-m", "ccnet", "predict", *arguments, "--device", "cpu", *more]


def stop_midway(folder: Path, output: str, number: int, *more: str) -> subprocess.Popen:
    """Start the command and send it a signal when three pictures are there."""
    process = subprocess.Popen(
        command(folder, output, *more), cwd=ROOT, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while len(list((folder / output).glob("*.png"))) < 3:
        assert process.poll() is None, process.communicate()[1]
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(number)
    return process


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    """A model, and enough images that a command is at work for seconds."""
    folder = tmp_path_factory.mktemp("many")
    torch.manual_seed(0)
    new_tiny_model().save_pretrained(folder / "model")
    (folder / "in").mkdir()
    for index in range(NUM_MANY):
        scene = np.tile(Scenes()[index][0], (6, 6, 1))
        Image.fromarray(scene).save(folder / "in" / f"{index:02d}.png")
    return folder


def run(*arguments: str) -> str:
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    return result.stdout


def labels_in(manifest: Path) -> list[str]:
    return [json.loads(line)["labels"] for line in manifest.read_text().splitlines()]


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "stopped"])
def test_a_command_that_was_ended_midway_goes_on(many, number):
    output = many / f"out{int(number)}"
    process = stop_midway(many, output.name, number)
    errors = process.communicate()[1]
    assert process.returncode == (130 if number == signal.SIGTERM else -number)
    if number == signal.SIGTERM:
        assert "stopped; the same command goes on" in errors
    before = times_of_change(output)
    assert 3 <= len(before) < NUM_MANY
    said = run(*command(many, output.name))
    assert f"{NUM_MANY - len(before)} label maps written" in said
    assert f"{len(before)} kept" in said
    assert before.items() <= times_of_change(output).items()
    assert pictures_below(output) == MANY
    for name in MANY:
        Image.open(output / name).load()
    assert sorted(labels_in(output / "manifest.jsonl")) == MANY
    assert [path for path in output.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_twenty_kills_leave_no_partial_label_map(many):
    output = many / "killed"
    words = ("predict", many / "model", many / "in", "--output", "{output}", "--device", "cpu")
    for number, _ in enumerate(killed(20, output, *words)):
        for name in pictures_below(output):
            if not name.startswith("."):
                Image.open(output / name).load()
                if number % 2:  # so that there is something left to do
                    (output / name).unlink()
    run(*command(many, output.name))
    assert pictures_below(output) == MANY
    for name in MANY:
        assert (output / name).read_bytes() == (many / "measured" / name).read_bytes()
    assert set(labels_in(output / "manifest.jsonl")) == set(MANY)
    assert [path for path in output.iterdir() if path.name.startswith(".")] == []


@pytest.mark.slow
def test_two_processes_stop_go_on_and_write_what_one_writes(many):
    run(*command(many, "one"))
    process = stop_midway(many, "two", signal.SIGINT, "--devices", "2")
    process.communicate()
    assert process.returncode == 130
    before = times_of_change(many / "two")
    assert 3 <= len(before) < NUM_MANY
    said = run(*command(many, "two", "--devices", "2", "--num-workers", "1"))
    assert f"{NUM_MANY - len(before)} label maps written" in said
    assert before.items() <= times_of_change(many / "two").items()
    for number in (0, 1):
        listed = labels_in(many / "two" / f"manifest.{number:04d}.jsonl")
        assert sorted(listed) == MANY[number::2]
    for name in MANY:
        assert (many / "two" / name).read_bytes() == (many / "one" / name).read_bytes()


LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
from ccnet.cli import main
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_the_command_ends_in_one_line_when_the_disk_takes_no_more(many):
    """With a limit on the size of files, which the manifest or a label map reaches."""
    words = command(many, "limited")
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, *words[3:]], cwd=ROOT, capture_output=True, text=True
    )
    assert result.returncode == 2
    lines = [line for line in result.stderr.splitlines() if "could not be written" in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"ccnet predict: {many / 'limited'}/")
    assert "skipped" not in result.stderr
    assert [path for path in (many / "limited").iterdir() if path.name.startswith(".")] == []
    run(*words)
    assert pictures_below(many / "limited") == MANY


@pytest.mark.slow
def test_a_process_that_fails_ends_the_others_with_its_error(many):
    output = many / "blocked"
    output.mkdir()
    (output / MANY[7]).mkdir()  # in the way of one file of the second process
    process = subprocess.run(
        command(many, output.name, "--devices", "2"),
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 2
    assert f"process 1: {output / MANY[7]} is in the way of a label map" in process.stderr
    assert [path.name for path in output.iterdir()] == [MANY[7]]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere they work on to their end")
def test_processes_end_with_a_launcher_that_is_killed(many):
    process = stop_midway(many, "orphans", signal.SIGSTOP, "--devices", "2")
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.communicate()  # ends when all have closed its standard error
    assert len(children) == 2
    assert 3 <= len(pictures_below(many / "orphans")) < NUM_MANY
