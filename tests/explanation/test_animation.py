"""The animation: what its frames uncover, and files that players read."""

import numpy as np
import pytest
from PIL import Image

from ccnet import Predictor
from ccnet.explanation import explain
from ccnet.explanation.animation import STRIP, frames, save_animation
from ccnet.images.video import Video
from ccnet.prediction.protocol import Protocol
from tests.conftest import new_tiny_model, noise

pytestmark = pytest.mark.slow

IMAGE, _ = noise(40, 72)
POINT = (50, 21)


def colored(frame: np.ndarray) -> np.ndarray:
    """Which pixels of a frame have colors, beside the text and the ring."""
    picture = frame[STRIP:]
    magenta = (picture[..., 0] > 150) & (picture[..., 1] < 120) & (picture[..., 2] < 180)
    return (np.ptp(picture.astype(int), axis=2) > 2) & ~magenta


def test_the_cross_grows_first_and_then_everything():
    explanation = explain(new_tiny_model(2), IMAGE, POINT)
    shown = [frame for frame, _ in frames(IMAGE, explanation)]
    assert len({frame.shape for frame in shown}) == 1
    areas = [colored(frame).sum() for frame in shown]
    assert areas[0] == 0
    assert areas == sorted(areas)
    cross = colored(shown[15])
    side = 520 / 72
    row, column = round((5 * 4 + 2) * side), round((12 * 4 + 2) * side)
    assert cross[row].mean() > 0.9
    assert cross[:, column].mean() > 0.85
    assert cross[: round(16 * side), : round(40 * side)].sum() == 0
    assert colored(shown[-1]).mean() > 0.95


@pytest.mark.parametrize("recurrence", [1, 3])
def test_a_gif_plays_in_a_loop(recurrence, tmp_path):
    explanation = explain(new_tiny_model(recurrence), IMAGE, POINT)
    save_animation(tmp_path / "a.gif", IMAGE, explanation)
    with Image.open(tmp_path / "a.gif") as gif:
        assert gif.n_frames > 8 * recurrence
        assert gif.info["loop"] == 0
        colors = np.asarray(gif.convert("RGB"))
        expected, _ = next(frames(IMAGE, explanation))
        assert np.abs(colors.astype(int) - expected).mean() < 6
        assert gif.width == 520


def test_a_video_has_all_frames_at_their_times(tmp_path):
    explanation = explain(new_tiny_model(2), IMAGE, POINT)
    save_animation(tmp_path / "a.mp4", IMAGE, explanation)
    expected = sum(seconds for _, seconds in frames(IMAGE, explanation))
    with Video(tmp_path / "a.mp4") as video:
        shown = list(video.frames())
        assert len(shown) * 0.1 == pytest.approx(expected, abs=0.15)
        assert colored(shown[-1].pixels).mean() > 0.8


def test_of_a_tile_only_the_tile_is_shown():
    predictor = Predictor(new_tiny_model(2), device="cpu", protocol=Protocol(tile=32, stride=16))
    explanation = explain(predictor, IMAGE, (60, 30))
    frame, _ = next(frames(IMAGE, explanation))
    assert frame.shape == (520 + STRIP, 520, 3)


def test_another_suffix_is_refused(predictor, tmp_path):
    with pytest.raises(ValueError, match=r"\.gif or \.mp4"):
        save_animation(tmp_path / "a.webp", IMAGE, explain(predictor, IMAGE, POINT))
