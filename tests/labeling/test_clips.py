"""Videos of labels: every frame, bounded memory, and never half a file under the final name."""

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

from ccnet.images.colors import overlay
from ccnet.images.video import Video, read_video_stamp
from ccnet.labeling.clips import predict_clip
from ccnet.labeling.stamp import inspect_picture
from ccnet.runtime.files import DataError
from ccnet.runtime.memory import peak_memory
from ccnet.runtime.signals import StopSignals
from tests.images.test_video import picture, write_video

pytestmark = pytest.mark.slow

pytest.importorskip("av")
ROOT = Path(__file__).parents[2]


class Toy:
    """Labels pixels by their brightest channel, and may wait."""

    palette = ((255, 255, 0), (0, 255, 255), (255, 0, 255))

    def __init__(self, seconds=0.0):
        self.seconds = seconds

    def predict(self, image):
        time.sleep(self.seconds)
        return image.argmax(2).astype(np.uint8)


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_an_overlay_video_and_the_labels_of_each_frame(tmp_path):
    path = write_video(tmp_path / "clip.mkv", 20)
    output, labels, seen = tmp_path / "out" / "clip.overlay.mp4", tmp_path / "labels", []
    outcome = predict_clip(
        Toy(),
        path,
        output,
        stamp="model and clip",
        labels=labels,
        progress=lambda *state: seen.append(state),
    )
    assert (outcome.num_frames, outcome.num_damaged) == (20, 0)
    assert seen == [(number, 20) for number in range(1, 21)]
    assert names_in(labels) == [f"{number:06d}.png" for number in range(20)]
    assert names_in(tmp_path / "out") == ["clip.overlay.mp4"]
    assert read_video_stamp(output) == "model and clip"
    with Video(path) as source, Video(output) as written:
        frames = list(zip(source.frames(), written.frames(), strict=True))
    for number, (frame, shown) in enumerate(frames):
        found = Toy().predict(frame.pixels)
        np.testing.assert_array_equal(np.array(Image.open(labels / f"{number:06d}.png")), found)
        expected = overlay(frame.pixels, found, Toy.palette).astype(int)
        assert np.abs(shown.pixels - expected).mean() < 15
        assert np.abs(shown.pixels - picture(number).astype(int)).mean() > 30


def test_label_maps_of_a_longer_video_are_removed_and_other_files_are_not(tmp_path):
    labels = tmp_path / "labels"
    for num_frames in (12, 7):
        path = write_video(tmp_path / "clip.mp4", num_frames)
        predict_clip(Toy(), path, tmp_path / "o.mp4", stamp="s", labels=labels)
        assert names_in(labels) == [f"{number:06d}.png" for number in range(num_frames)]
    Image.new("L", (3, 3)).save(labels / "000007.png")
    (labels / "notes.txt").write_text("mine")
    predict_clip(Toy(), path, tmp_path / "o.mp4", stamp="t", labels=labels)
    assert names_in(labels)[-2:] == ["000007.png", "notes.txt"]
    picture = inspect_picture(labels / "000006.png")
    assert picture is not None
    assert picture.stamp == "t"


def test_a_damaged_video_leaves_the_old_file(tmp_path):
    path = write_video(tmp_path / "clip.mp4")
    output = tmp_path / "o.mp4"
    predict_clip(Toy(), path, output, stamp="s")
    before = output.read_bytes()
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = np.random.default_rng(0).bytes(300)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"clip.mp4: cannot be decoded after frame"):
        predict_clip(Toy(), path, output, stamp="s")
    assert output.read_bytes() == before
    assert names_in(tmp_path) == ["clip.mp4", "o.mp4"]


def test_what_cannot_be_written_is_said_before_any_work(tmp_path):
    path = write_video(tmp_path / "clip.mp4", 3)
    with pytest.raises(ValueError, match=r"o.avi: videos are written as .mp4"):
        predict_clip(Toy(), path, tmp_path / "o.avi", stamp="s")
    plain = Toy()
    plain.palette = None
    with pytest.raises(ValueError, match="no palette"):
        predict_clip(plain, path, tmp_path / "o.mp4", stamp="s")


def test_a_request_to_stop_ends_it_without_a_file(tmp_path):
    path = write_video(tmp_path / "clip.mp4", 20)
    with StopSignals() as stop:

        def count(done, total):
            stop.requested = done == 5

        with pytest.raises(KeyboardInterrupt):
            predict_clip(Toy(), path, tmp_path / "o.mp4", stamp="s", progress=count, stop=stop)
    assert names_in(tmp_path) == ["clip.mp4"]


def label_slowly(path, output):
    print("ready", flush=True)
    predict_clip(Toy(0.01), Path(path), Path(output), stamp="s")


def measure(path, output):
    predict_clip(Toy(), Path(path), Path(output), stamp="s")
    print(peak_memory(torch.device("cpu")))


def child(function, *paths):
    program = f"import {__name__} as t; t.{function}(*{tuple(map(str, paths))})"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env=environment
    )


@pytest.mark.slow
def test_a_kill_leaves_no_half_video_and_the_next_call_makes_it_whole(tmp_path):
    path, output = write_video(tmp_path / "clip.mp4", 100), tmp_path / "out" / "o.mp4"
    for seconds in (0.1, 0.3, 0.6):
        with child("label_slowly", path, output) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            time.sleep(seconds)
            process.send_signal(signal.SIGKILL)
        assert not output.exists()
    predict_clip(Toy(), path, output, stamp="s")
    with Video(output) as video:
        assert len(list(video.frames())) == 100
    assert names_in(output.parent) == ["o.mp4"]


@pytest.mark.slow
def test_the_memory_does_not_grow_with_the_length(tmp_path):
    peaks = []
    for num_frames in (150, 600):
        path = write_video(tmp_path / f"{num_frames}.mp4", num_frames, sizes=((240, 320),))
        with child("measure", path, tmp_path / "o.mp4") as process:
            peaks.append(int(process.communicate(timeout=250)[0]))
    frame = 240 * 320 * 3
    assert peaks[1] - peaks[0] < 60 * frame < 450 * frame
