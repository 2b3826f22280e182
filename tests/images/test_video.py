"""Videos: frames in order, upright and at their times; and what is no video, damaged or hostile."""

import os
import struct
from fractions import Fraction

import numpy as np
import pytest

from ccnet.images.video import Video, VideoWriter, read_video_stamp
from ccnet.runtime.files import DataError

pytestmark = pytest.mark.slow

av = pytest.importorskip("av")
RATE = 25


def picture(number, height=48, width=64):
    """Quarters of four colors, of which one changes from frame to frame."""
    pixels = np.zeros((height, width, 3), np.uint8)
    pixels[: height // 2, : width // 2] = (240, 20, 20)
    pixels[: height // 2, width // 2 :] = (20, 240, 20)
    pixels[height // 2 :, : width // 2] = (20, 20, 240)
    pixels[height // 2 :, width // 2 :] = number * 8 % 256
    return pixels


def write_video(path, num_frames=30, codec="libx264", step=1, sizes=((48, 64),), **options):
    """Frames of `picture`, `step` units of 1/25 s after each other."""
    with av.open(str(path), "w", **options) as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.height, stream.width = sizes[0]
        stream.pix_fmt, stream.codec_context.gop_size = "yuv420p", 10
        for number in range(num_frames):
            frame = av.VideoFrame.from_ndarray(picture(number, *sizes[0]))
            frame.pts, frame.time_base = number * step, Fraction(1, RATE)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def read_video(path):
    with Video(path) as video:
        return list(video.frames())


def seconds(path):
    with Video(path) as video:
        return [float(frame.place * video.time_base) for frame in video.frames()]


@pytest.mark.parametrize(
    ("suffix", "codec"),
    [(".mp4", "libx264"), (".mkv", "libx264"), (".avi", "mpeg4"), (".ts", "libx264")],
)
def test_frames_come_in_order_and_at_their_times(tmp_path, suffix, codec):
    path = write_video(tmp_path / f"a{suffix}", codec=codec)
    frames = read_video(path)
    assert len(frames) == 30
    for number, frame in enumerate(frames):
        assert np.abs(frame.pixels.astype(int) - picture(number)).mean() < 12
        assert not frame.is_damaged
    times = seconds(path)
    np.testing.assert_allclose(np.diff(times), 1 / RATE, atol=0.002)
    with Video(path) as video:
        assert video.num_frames == pytest.approx(30, abs=2)
        assert video.rate == RATE


def test_times_that_are_not_regular_are_kept(tmp_path):
    path = write_video(tmp_path / "a.mkv", num_frames=12, step=7)
    np.testing.assert_allclose(seconds(path), np.arange(12) * 7 / RATE, atol=0.002)
    with Video(path) as video:
        writer = VideoWriter(tmp_path / "b.mp4", video, "stamp")
        for frame in video.frames():
            writer.write(frame.pixels, frame.place)
        writer.close()
    np.testing.assert_allclose(seconds(tmp_path / "b.mp4"), seconds(path), atol=0.002)


def turn(path, degrees):
    """Give a video a display matrix: what is stored is shown turned clockwise."""
    sine, cosine = {90: (1, 0), 180: (0, -1), 270: (-1, 0)}[degrees]
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40
    one = 1 << 16
    matrix = (cosine * one, sine * one, 0, -sine * one, cosine * one, 0, 0, 0, 1 << 30)
    content[place : place + 36] = struct.pack(">9i", *matrix)
    path.write_bytes(content)


@pytest.mark.parametrize("degrees", [90, 180, 270])
def test_frames_are_turned_upright(tmp_path, degrees):
    path = write_video(tmp_path / "a.mp4", num_frames=3)
    turn(path, degrees)
    for number, frame in enumerate(read_video(path)):
        expected = np.rot90(picture(number), -degrees // 90)
        assert np.abs(frame.pixels.astype(int) - expected).mean() < 12


def test_frames_of_another_size_are_given_as_they_are_and_written_at_the_first_size(tmp_path):
    parts = [
        write_video(tmp_path / "a.ts", 10).read_bytes(),
        write_video(tmp_path / "b.ts", 10, sizes=((96, 80),)).read_bytes(),
    ]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))
    with Video(tmp_path / "both.ts") as video:
        writer, shapes = VideoWriter(tmp_path / "c.mp4", video, "s"), set()
        for frame in video.frames():
            shapes.add(frame.pixels.shape)
            writer.write(frame.pixels, frame.place)
        writer.close()
    assert shapes == {(48, 64, 3), (96, 80, 3)}
    assert {frame.pixels.shape for frame in read_video(tmp_path / "c.mp4")} == {(48, 64, 3)}


def test_odd_sizes_get_a_row_and_a_column(tmp_path):
    source = write_video(tmp_path / "a.mp4", 5)
    with Video(source) as video:
        writer = VideoWriter(tmp_path / "b.mp4", video, "s")
        for frame in video.frames():
            writer.write(frame.pixels[:47, :63], frame.place)
        writer.close()
    assert {frame.pixels.shape for frame in read_video(tmp_path / "b.mp4")} == {(48, 64, 3)}


def test_a_build_without_h264_takes_mpeg4(tmp_path, monkeypatch):
    source = write_video(tmp_path / "a.mp4", 5)
    for available, codec in ((set(av.codecs_available), "h264"), ({"mpeg4"}, "mpeg4")):
        monkeypatch.setattr(av, "codecs_available", available)
        with Video(source) as video:
            writer = VideoWriter(tmp_path / "b.mp4", video, "stamp of it")
            for frame in video.frames():
                writer.write(frame.pixels, frame.place)
            writer.close()
        with Video(tmp_path / "b.mp4") as video:
            assert video.stream.codec_context.name == codec
        assert read_video_stamp(tmp_path / "b.mp4") == "stamp of it"
    assert read_video_stamp(source) is None
    assert read_video_stamp(tmp_path / "missing.mp4") is None


def refusal(path, *limit):
    with pytest.raises(DataError, match=f"^{path}: ") as error, Video(path, *limit) as video:
        list(video.frames())
    assert "\n" not in str(error.value)
    return str(error.value)


def test_truncated_files_are_errors(tmp_path):
    for suffix, share in ((".mp4", 0.6), (".mkv", 0.3), (".mkv", 0.7), (".avi", 0.6)):
        codec = "mpeg4" if suffix == ".avi" else "libx264"
        path = write_video(tmp_path / f"a{suffix}", num_frames=100, codec=codec)
        content = path.read_bytes()
        path.write_bytes(content[: int(share * len(content))])
        assert "restore the file" in refusal(path)
    assert "of 4.0 seconds" in refusal(tmp_path / "a.mkv") or "decoded" in refusal(
        tmp_path / "a.mkv"
    )


def test_damage_in_the_middle_says_where(tmp_path):
    path = write_video(tmp_path / "a.mp4")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 300] = np.random.default_rng(0).bytes(300)
    path.write_bytes(content)
    assert "cannot be decoded after frame" in refusal(path)


def test_what_is_no_video(tmp_path):
    for name, content in {"empty.mp4": b"", "text.mp4": b"Hello, world. " * 99}.items():
        (tmp_path / name).write_bytes(content)
        refusal(tmp_path / name)
    refusal(tmp_path / "missing.mp4")
    os.mkfifo(tmp_path / "fifo.mp4")
    assert "FIFO" in refusal(tmp_path / "fifo.mp4")
    with av.open(str(tmp_path / "sound.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=48000)
        frame = av.AudioFrame.from_ndarray(
            np.zeros((1, 1024), np.float32), format="fltp", layout="mono"
        )
        frame.rate = 48000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert "no video in it" in refusal(tmp_path / "sound.mp4")


def test_lists_of_other_files_are_not_followed(tmp_path):
    """An HLS or concat list could make FFmpeg read any file or address."""
    write_video(tmp_path / "secret.ts")
    lists = {
        "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nsecret.ts\n#EXT-X-ENDLIST\n",
        "b.mp4": "ffconcat version 1.0\nfile 'secret.ts'\n",
    }
    for name, text in lists.items():
        (tmp_path / name).write_text(text)
        refusal(tmp_path / name)


def test_frames_that_are_too_large_are_refused(tmp_path):
    path = write_video(tmp_path / "a.mp4", 3)
    assert "64×48" in refusal(path, 1000) or "cannot be read" in refusal(path, 1000)
    parts = [
        write_video(tmp_path / "a.ts", 10, sizes=((16, 32),)).read_bytes(),
        write_video(tmp_path / "b.ts", 10).read_bytes(),
    ]
    (tmp_path / "both.ts").write_bytes(b"".join(parts))  # grows in the middle
    refusal(tmp_path / "both.ts", 1000)


def test_without_pyav_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "av", None)
    with pytest.raises(ImportError, match=r"a.mp4: .* pip install 'criss-cross\[video\]'"):
        Video(tmp_path / "a.mp4")
