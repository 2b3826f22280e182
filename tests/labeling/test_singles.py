"""Large images and videos among the files of one prediction: written, kept, skipped, refused."""

import logging

import numpy as np
import pytest
from PIL import Image

from ccnet import CCNet, Predictor
from ccnet.classes import LABEL_IDS, PUBLISHED
from ccnet.images.reading import read_image
from ccnet.images.video import Video, read_video_stamp
from ccnet.labeling.files import Outcome
from ccnet.labeling.jobs import LargeImages, Products
from ccnet.labeling.manifest import read_manifests
from ccnet.labeling.singles import values_of
from ccnet.prediction.protocol import Protocol
from ccnet.runtime.signals import StopSignals
from tests.images.test_video import write_video
from tests.labeling.test_files import predict, write_images

TILES = Protocol(tile=64, stride=48)
LARGE = LargeImages(max_pixels=10_000)
SIZE = (150, 200)


@pytest.fixture
def tiled(predictor):
    return Predictor(predictor.model, device="cpu", protocol=TILES)


def random_pixels(height=SIZE[0], width=SIZE[1]):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def save_array(folder, name="big.npy", pixels=None):
    folder.mkdir(exist_ok=True)
    np.save(folder / name, random_pixels() if pixels is None else pixels)


def save_tiff(folder, pixels, name="map.tif", **options):
    rasterio = pytest.importorskip("rasterio")
    folder.mkdir(exist_ok=True)
    ground = rasterio.Affine(0.5, 0, 3e5, 0, -0.5, 5e6)
    height, width, _ = pixels.shape
    options = {"dtype": "uint8", "crs": "EPSG:32632", "transform": ground, **options}
    with rasterio.open(
        folder / name, "w", driver="GTiff", width=width, height=height, count=3, **options
    ) as dataset:
        dataset.write(np.moveaxis(pixels, -1, 0))
    return ground


def test_a_large_image_among_small_ones(tiled, tmp_path, caplog):
    write_images(tmp_path / "in", "a.png", "z.png")
    save_array(tmp_path / "in")
    seen, wanted = [], Products(confidence=True)
    options = {"large": LARGE, "products": wanted, "progress": lambda *now: seen.append(now)}
    with caplog.at_level(logging.WARNING):
        assert predict(tiled, tmp_path, **options) == Outcome(written=3)
    assert "big.npy: 200×150 pixels, predicted window by window: tiles 64, stride 48" in caplog.text
    assert seen[-1] == (3, 3)
    labels = np.array(Image.open(tmp_path / "out" / "big.png"))
    np.testing.assert_array_equal(labels, tiled.predict(random_pixels()))
    certainty = np.array(Image.open(tmp_path / "out" / "big.confidence.png"))
    expected = tiled.probabilities(random_pixels()).max(0) * 255
    assert np.abs(certainty - expected).max() <= 0.51
    entry = read_manifests(tmp_path / "out")["big.png"]
    assert (entry.status, entry.width, entry.height) == ("written", 200, 150)
    lines = (tmp_path / "out" / "manifest.jsonl").read_text()
    assert predict(tiled, tmp_path, **options) == Outcome(kept=3)
    assert (tmp_path / "out" / "manifest.jsonl").read_text() == lines


def test_what_changed_is_made_again_and_what_is_foreign_refused(tiled, tmp_path):
    save_array(tmp_path / "in")
    assert predict(tiled, tmp_path, large=LARGE).written == 1
    in_memory = Outcome(written=1)  # where there is nodata, these labels would be others
    assert predict(tiled, tmp_path) == in_memory
    assert predict(tiled, tmp_path, large=LARGE).written == 1
    other = Predictor(tiled.model, device="cpu", protocol=Protocol(tile=64, stride=40))
    assert predict(other, tmp_path, large=LARGE).written == 1
    save_array(tmp_path / "in", pixels=random_pixels(height=149))
    assert predict(other, tmp_path, large=LARGE).written == 1
    Image.new("L", (3, 3)).save(tmp_path / "out" / "big.png")
    with pytest.raises(FileExistsError, match=r"big.png was not written by ccnet predict"):
        predict(other, tmp_path, large=LARGE)
    assert predict(other, tmp_path, large=LARGE, overwrite=True).written == 1


def test_a_geotiff_becomes_a_geotiff(tiled, tmp_path):
    pixels = random_pixels()
    pixels[60:, 90:] = 0
    ground = save_tiff(tmp_path / "in", pixels, nodata=0)
    rasterio = pytest.importorskip("rasterio")
    wanted = Products(confidence=True)
    assert predict(tiled, tmp_path, large=LARGE, products=wanted) == Outcome(written=1)
    expected = tiled.predict(pixels)
    is_absent = (pixels == 0).all(2)
    for name, nodata in (("map.tif", 255), ("map.confidence.tif", 0)):
        with rasterio.open(tmp_path / "out" / name) as dataset:
            assert (dataset.crs, dataset.transform) == ("EPSG:32632", ground)
            assert dataset.nodata == nodata
            found = dataset.read(1)
        np.testing.assert_array_equal(found == nodata, is_absent)
        if name == "map.tif":
            np.testing.assert_array_equal(found[~is_absent], expected[~is_absent])
    assert predict(tiled, tmp_path, large=LARGE, products=wanted) == Outcome(kept=1)
    save_tiff(tmp_path / "out", pixels)
    with pytest.raises(FileExistsError, match=r"map.tif was not written by ccnet predict"):
        predict(tiled, tmp_path, large=LARGE)
    with pytest.raises(ValueError, match=r"map.tif would be written over it"):
        predict_in_place(tiled, tmp_path / "out")


def predict_in_place(predictor, folder):
    from ccnet.labeling.files import predict_files
    from ccnet.labeling.jobs import find_jobs

    jobs = find_jobs([folder / "map.tif"], folder)
    predict_files(predictor, jobs, folder, large=LARGE, overwrite=True)


def test_small_tiffs_keep_their_place_on_request(tiled, tmp_path):
    rasterio = pytest.importorskip("rasterio")
    ground = save_tiff(tmp_path / "in", random_pixels(40, 50))
    assert predict(tiled, tmp_path, large=LargeImages(tiff=True)) == Outcome(written=1)
    with rasterio.open(tmp_path / "out" / "map.tif") as dataset:
        assert (dataset.transform, dataset.nodata) == (ground, None)
        np.testing.assert_array_equal(dataset.read(1), tiled.predict(random_pixels(40, 50)))


@pytest.mark.parametrize(("ids", "void"), [("cityscapes", 0), ("ade20k", 0), ("voc", 255)])
def test_values_and_void_of_a_data_set(ids, void):
    values = values_of(ids)
    assert tuple(values[: len(LABEL_IDS[ids])]) == LABEL_IDS[ids]
    assert set(values[len(LABEL_IDS[ids]) :]) == {void}
    np.testing.assert_array_equal(values_of(None), np.arange(256))


def test_ids_of_a_large_image_with_pixels_without_a_picture(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    pixels = random_pixels()
    pixels[60:, 90:] = 0
    save_tiff(tmp_path / "in", pixels, nodata=0)
    model = CCNet(19, "tiny", channels=16, classes=list(PUBLISHED[19]))
    predictor = Predictor(model, device="cpu", protocol=TILES)
    predict(predictor, tmp_path, large=LARGE, products=Products(ids="cityscapes"))
    expected = np.array(LABEL_IDS["cityscapes"])[predictor.predict(pixels)]
    expected[(pixels == 0).all(2)] = 0
    with rasterio.open(tmp_path / "out" / "map.tif") as dataset:
        assert dataset.nodata == 0
        np.testing.assert_array_equal(dataset.read(1), expected)


def test_failures_are_one_line_each_and_stop_no_other(tiled, tmp_path, monkeypatch):
    write_images(tmp_path / "in", "a.png")
    save_array(tmp_path / "in", "b.npy")
    Image.fromarray(random_pixels()).save(tmp_path / "in" / "c.png")
    Image.fromarray(random_pixels()).save(tmp_path / "in" / "d.tif")
    (tmp_path / "in" / "e.mp4").write_bytes(b"no video")
    for name in ("rasterio", "av"):
        monkeypatch.setitem(__import__("sys").modules, name, None)
    monkeypatch.setattr("ccnet.images.windows.find_spec", lambda _: None)
    monkeypatch.setattr("ccnet.labeling.sorting.find_spec", lambda _: None)
    outcome = predict(tiled, tmp_path, large=LARGE)
    folder = tmp_path / "in"
    expected = {
        "c.png": "200×150 pixels, more than the limit of 0.01 million per image; the file is fine, "
        "and --max-pixels 30000 reads it, if you trust its source",
        "d.tif": "TIFFs of any size need rasterio, which cannot be imported here (import of "
        "rasterio halted; None in sys.modules): pip install 'criss-cross[geo]'",
        "e.mp4": "videos need PyAV, which cannot be imported here (import of av halted; None in "
        "sys.modules): pip install 'criss-cross[video]'",
    }
    assert outcome.written == 2
    assert dict(outcome.failures) == {
        folder / name: f"{folder / name}: {words}" for name, words in expected.items()
    }
    entry = read_manifests(tmp_path / "out")["e.overlay.mp4"]
    assert entry.reason == dict(outcome.failures)[folder / "e.mp4"]
    raised = LargeImages(max_pixels=30_000)
    outcome = predict(tiled, tmp_path, large=raised)
    assert [path.name for path, _ in outcome.failures] == ["e.mp4"]


def test_a_protocol_of_the_whole_image_and_too_little_memory_are_told(predictor, tmp_path):
    save_array(tmp_path / "in")
    whole = Predictor(predictor.model, device="cpu", protocol="whole")
    ((path, reason),) = predict(whole, tmp_path, large=LARGE).failures
    assert reason.startswith(f"{path}: 200×150 pixels are predicted window by window")
    assert reason.endswith("give --protocol sliding")
    little = LargeImages("100MB")
    ((_, reason),) = predict(predictor, tmp_path, large=little).failures
    assert "100.0 MB of memory are too few; with tiles of 769 pixels at least" in reason


def test_what_large_images_do_not_have_is_refused_before_anything_is_computed(tiled, tmp_path):
    write_images(tmp_path / "in", "a.png")
    save_array(tmp_path / "in")
    with pytest.raises(ValueError, match=r"big.npy: an image .* which --color cannot be had of"):
        predict(tiled, tmp_path, large=LARGE, products=Products(color=True))
    with pytest.raises(ValueError, match=r"which --polygons cannot be had of"):
        predict(tiled, tmp_path, large=LARGE, has_polygons=True)
    assert not (tmp_path / "out").exists()


def test_a_stop_within_a_large_image_goes_on(tiled, tmp_path):
    save_array(tmp_path / "in", pixels=random_pixels(400, 100))
    with StopSignals() as stop, pytest.raises(KeyboardInterrupt):
        predict(tiled, tmp_path, large=LARGE, stop=stop, details=lambda _: Stopping(stop))
    assert (tmp_path / "out" / ".big.png.part").is_dir()
    assert predict(tiled, tmp_path, large=LARGE) == Outcome(written=1)
    labels = np.array(Image.open(tmp_path / "out" / "big.png"))
    np.testing.assert_array_equal(labels, tiled.predict(random_pixels(400, 100)))
    assert not (tmp_path / "out" / ".big.png.part").exists()


class Stopping:
    """A progress that requests a stop after four calls."""

    def __init__(self, stop):
        self.stop, self.num_calls = stop, 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def __call__(self, done, total):
        self.num_calls += 1
        self.stop.requested = self.num_calls >= 4


@pytest.fixture
def clips(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "in" / "sub").mkdir(parents=True)
    write_video(tmp_path / "in" / "clip.mp4", 6)
    write_video(tmp_path / "in" / "sub" / "clip.mkv", 4)
    return tmp_path


@pytest.mark.slow
def test_videos_among_images(predictor, clips):
    write_images(clips / "in", "clip.png")
    assert predict(predictor, clips) == Outcome(written=3)
    for name, num_frames in (("clip.overlay.mp4", 6), ("sub/clip.overlay.mp4", 4)):
        with Video(clips / "out" / name) as video:
            assert len(list(video.frames())) == num_frames
        stamp = read_video_stamp(clips / "out" / name)
        assert stamp is not None
        assert stamp.startswith("model=")
        entry = read_manifests(clips / "out")[name]
        assert (entry.stamp, entry.width, entry.height) == (stamp, 64, 48)
    assert predict(predictor, clips) == Outcome(kept=3)
    write_video(clips / "in" / "clip.mp4", 5)
    assert predict(predictor, clips) == Outcome(written=1, kept=2)
    write_video(clips / "out" / "clip.overlay.mp4", 3)
    with pytest.raises(FileExistsError, match=r"clip.overlay.mp4 was not written by ccnet"):
        predict(predictor, clips)
    assert predict(predictor, clips, overwrite=True) == Outcome(written=1, kept=2)
    with pytest.raises(ValueError, match=r"clip.mp4: a video, which --confidence cannot be had of"):
        predict(predictor, clips, products=Products(confidence=True))
    content = (clips / "in" / "clip.mp4").read_bytes()
    (clips / "in" / "clip.mp4").write_bytes(content[: len(content) // 2])
    outcome = predict(predictor, clips)
    assert (outcome.written, outcome.kept, len(outcome.failures)) == (0, 2, 1)
    assert "restore the file" in outcome.failures[0][1]


@pytest.mark.slow
def test_damaged_frames_are_counted_and_frames_beyond_the_limit_name_the_flag(
    predictor, clips, monkeypatch, caplog
):
    frames = Video.frames

    def damage(video):
        for number, frame in enumerate(frames(video)):
            yield frame if number else type(frame)(frame.pixels, frame.place, is_damaged=True)

    monkeypatch.setattr(Video, "frames", damage)
    with caplog.at_level(logging.WARNING):
        assert predict(predictor, clips).written == 2
    assert "clip.mp4: 1 of 6 frames are damaged, and a part of them was invented" in caplog.text
    small = LargeImages(max_pixels=3000)
    reasons = [
        reason for _, reason in predict(predictor, clips, large=small, overwrite=True).failures
    ]
    assert reasons == []  # kept, since they were made with a higher limit
    write_video(clips / "in" / "clip.mp4", 5)
    ((_, reason),) = predict(predictor, clips, large=small).failures
    assert reason.endswith(
        "the file is fine, and --max-pixels 3072 reads it, if you trust its source"
    )


def test_overlays_of_this_command_are_no_videos_to_predict(predictor, tmp_path):
    from ccnet.labeling.jobs import find_jobs
    from ccnet.labeling.output import require_apart

    pytest.importorskip("av")
    (tmp_path / "in").mkdir()
    write_video(tmp_path / "in" / "clip.mp4", 2)
    predict(predictor, tmp_path)
    inputs = [str(tmp_path / "out" / "*.mp4")]
    with pytest.raises(ValueError, match=r"clip.overlay.mp4: a label map of ccnet predict"):
        require_apart(inputs, find_jobs(inputs, tmp_path / "out"), tmp_path / "out")


def test_images_in_memory_have_the_limit_too(predictor, tmp_path):
    write_images(tmp_path / "in", "a.png")
    assert read_image(tmp_path / "in" / "a.png").size < 10_000 * 3
    ((_, reason),) = predict(predictor, tmp_path, large=LargeImages(max_pixels=100)).failures
    assert "the file is fine, and --max-pixels 2560 reads it" in reason
