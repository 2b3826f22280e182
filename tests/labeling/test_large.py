"""Images of any size: bounded memory, the labels of images in memory, and what a kill leaves."""

import os
import random
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
from ccnet.images.windows import open_windows
from ccnet.labeling.large import predict_large
from ccnet.labeling.stamp import inspect_picture
from ccnet.prediction.protocol import PROTOCOLS, Protocol
from ccnet.prediction.views import score_images
from ccnet.runtime.memory import peak_memory
from ccnet.runtime.signals import StopSignals

pytestmark = pytest.mark.slow

CPU = torch.device("cpu")
PLENTY = 1 << 40
TILES = Protocol(tile=64, stride=48)
ROOT = Path(__file__).parents[2]


class Toy:
    """A small convolution of three channels to seven classes, which can wait and count."""

    def __init__(self, seconds=0.0):
        generator = torch.Generator().manual_seed(0)
        self.weights = torch.randn(7, 3, 5, 5, generator=generator)
        self.seconds = seconds
        self.num_tiles = 0

    def normalize(self, images):
        return (images.float() - 100) / 50

    def network(self, images):
        time.sleep(self.seconds)
        self.num_tiles += len(images)
        return torch.nn.functional.conv2d(images, self.weights, padding=2)


def random_pixels(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def save(path, height=200, width=300):
    np.save(path, random_pixels(height, width))
    return path


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def labels_in_memory(pixels, protocol=TILES):
    toy = Toy()
    image = toy.normalize(torch.from_numpy(pixels).movedim(-1, 0)[None])
    (scores,) = score_images(toy.network, [image], protocol)
    return scores.argmax(0).numpy()


def predict(path, output, protocol=TILES, toy=None, **options):
    """Predict, and return the number of tiles that the network saw."""
    toy = toy or Toy()
    options = {"stamp": "s", "memory": PLENTY} | options
    with open_windows(path) as image:
        predict_large(toy, image, output, protocol, **options)
    return toy.num_tiles


def test_labels_and_confidence_of_a_large_image(tmp_path):
    path = save(tmp_path / "a.npy")
    seen = []
    output, confidence = tmp_path / "out" / "a.png", tmp_path / "out" / "a.confidence.png"
    options = {"confidence": confidence, "progress": lambda *state: seen.append(state)}
    protocol = Protocol(tile=64, stride=48, mirror=True)
    num_tiles = predict(path, output, protocol, batch_size=3, **options)
    expected = labels_in_memory(random_pixels(200, 300), protocol)
    np.testing.assert_array_equal(np.array(Image.open(output)), expected)
    certainty = np.array(Image.open(confidence))
    assert certainty.min() >= 255 // 7
    assert len(set(certainty.flat)) > 100
    assert seen[-1] == (num_tiles - 3, num_tiles - 3)  # a batch shows how much memory it takes
    assert names_in(tmp_path / "out") == ["a.confidence.png", "a.png"]


def test_what_is_finished_is_kept(tmp_path):
    path, output = save(tmp_path / "a.npy"), tmp_path / "a.png"
    assert predict(path, output) > 1
    assert predict(path, output) == 0
    assert predict(path, output, stamp="another") > 1
    assert predict(path, output, stamp="another", confidence=tmp_path / "c.png") > 1


def test_a_georeferenced_image_gives_a_georeferenced_tiff(tmp_path):
    rasterio = pytest.importorskip("rasterio")
    ground = rasterio.Affine(0.5, 0, 3e5, 0, -0.5, 5e6)
    pixels = random_pixels(300, 400)
    pixels[100:220, 200:] = 0
    options = {"width": 400, "height": 300, "count": 3, "dtype": "uint8", "nodata": 0}
    options |= {"crs": "EPSG:32632", "transform": ground, "compress": "lzw"}
    with rasterio.open(tmp_path / "a.tif", "w", driver="GTiff", **options) as dataset:
        dataset.write(np.moveaxis(pixels, -1, 0))
    predict(tmp_path / "a.tif", tmp_path / "labels.tif")
    expected = labels_in_memory(pixels)
    expected[(pixels == 0).all(2)] = 255
    with rasterio.open(tmp_path / "labels.tif") as dataset:
        assert (dataset.crs, dataset.transform) == ("EPSG:32632", ground)
        assert (dataset.count, dataset.dtypes, dataset.nodata) == (1, ("uint8",), 255)
        np.testing.assert_array_equal(dataset.read(1), expected)


def interrupt(path, output, after, **options):
    """Stop after so many reports of progress."""
    with StopSignals() as stop:
        counted = iter(range(after))

        def count(done, total):
            if next(counted, None) is None:
                stop.requested = True

        with pytest.raises(KeyboardInterrupt):
            predict(path, output, progress=count, stop=stop, **options)


def test_the_same_call_goes_on_and_another_starts_anew(tmp_path):
    path = save(tmp_path / "a.npy", 500, 300)
    num_tiles = predict(path, tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    output = tmp_path / "a.png"
    interrupt(path, output, 60)
    assert (tmp_path / ".a.png.part").is_dir()
    assert not output.exists()
    assert predict(path, output) < num_tiles - 30
    assert output.read_bytes() == whole
    assert not (tmp_path / ".a.png.part").exists()
    changes = ({"stamp": "t"}, {"batch_size": 2}, {"protocol": Protocol(tile=64, stride=47)})
    for change in changes:
        output.unlink()
        interrupt(path, output, 40)
        assert predict(path, output, **change) >= num_tiles


def test_a_prediction_in_blocks_goes_on_though_the_memory_is_measured_differently(
    tmp_path, monkeypatch
):
    measured = [10**9]
    monkeypatch.setattr("ccnet.labeling.sweep.peak_memory", lambda _: measured[0])
    path, output = save(tmp_path / "a.npy", 300, 3000), tmp_path / "a.png"
    memory = 10**9 + 40 * 10**6
    num_tiles = predict(path, tmp_path / "whole.png", memory=memory)
    interrupt(path, output, 200, memory=memory)
    measured[0] += 10**5
    assert predict(path, output, memory=memory) < num_tiles - 150
    assert output.read_bytes() == (tmp_path / "whole.png").read_bytes()
    assert num_tiles > predict(path, tmp_path / "one_block.png", stamp="t")


def test_the_labels_of_a_predictor_and_its_stamp(tmp_path, predictor):
    path, output = tmp_path / "a.png", tmp_path / "out.png"
    Image.fromarray(random_pixels(150, 200)).save(path)
    protocol = Protocol(tile=64, stride=40, mirror=True, weights="gaussian")
    tiled = Predictor(predictor.model, device="cpu", protocol=protocol)
    predict(path, output, protocol, OfPredictor(tiled), stamp="by whom and of what")
    np.testing.assert_array_equal(np.array(Image.open(output)), tiled.predict(path))
    picture = inspect_picture(output)
    assert picture is not None
    assert picture.has_stamp("by whom and of what")
    assert picture.size == (200, 150)


class OfPredictor:
    """A predictor's network, as an image of any size needs it."""

    num_tiles = 0

    def __init__(self, predictor):
        self.network = predictor.run_network
        self.normalize = lambda images: predictor.model.normalize(predictor.to_device(images))


def test_scores_that_are_not_finite_are_an_error(tmp_path):
    toy = Toy()
    toy.weights[2] = torch.nan
    with pytest.raises(FloatingPointError, match="nan or infinite logits"):
        predict(save(tmp_path / "a.npy"), tmp_path / "a.png", toy=toy)


def test_too_little_memory_says_how_much_is_needed(tmp_path):
    path, output = save(tmp_path / "a.npy"), tmp_path / "a.png"
    with pytest.raises(
        ValueError, match=r"1.0 MB of memory are too few; .* at least (.*) are"
    ) as e:
        predict(path, output, memory=10**6)
    assert "\n" not in str(e.value)
    assert names_in(tmp_path) == ["a.npy"]


@pytest.mark.parametrize("protocol", [Protocol(), PROTOCOLS["multiscale"]], ids=str)
def test_protocols_that_need_the_whole_image_are_refused(tmp_path, protocol):
    path = save(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"needs tiles at scale 1 and not .*--protocol sliding"):
        predict(path, tmp_path / "a.png", protocol)
    with pytest.raises(ValueError, match=r"written as \.png"):
        predict(path, tmp_path / "a.jpg")


def measure(path, output, memory):
    """Predict in this process, which may take so much memory; print the peak."""
    torch.set_num_threads(1)
    predict(path, output, Protocol(tile=128, stride=96), memory=memory)
    print(peak_memory(CPU))


@pytest.mark.slow
def test_the_peak_stays_under_the_memory_and_labels_are_those_in_memory(tmp_path):
    """A TIFF of 3000×2000 pixels; the sums of whole images would be 168 MB."""
    rasterio = pytest.importorskip("rasterio")
    pixels = random_pixels(2000, 3000)
    options = {"width": 3000, "height": 2000, "count": 3, "dtype": "uint8", "compress": "lzw"}
    options |= {"tiled": True, "crs": "EPSG:32632"}
    ground = rasterio.Affine(0.5, 0, 3e5, 0, -0.5, 5e6)
    with rasterio.open(
        tmp_path / "a.tif", "w", driver="GTiff", transform=ground, **options
    ) as dataset:
        dataset.write(np.moveaxis(pixels, -1, 0))
    expected = labels_in_memory(pixels, Protocol(tile=128, stride=96))
    least = run_child(tmp_path / "a.tif", tmp_path / "least.png", 10**6).stderr
    assert "at least" in least
    megabytes = float(least.partition("at least ")[2].split()[0])
    for memory in (1.01 * megabytes, megabytes + 20):
        output = tmp_path / f"{memory}.png"
        result = run_child(tmp_path / "a.tif", output, int(memory * 10**6))
        assert result.returncode == 0, result.stderr
        assert int(result.stdout) < memory * 10**6
        np.testing.assert_array_equal(np.array(Image.open(output)), expected)


def child(*arguments):
    """A program that calls a function of this file, its path arguments and numbers as they are."""
    name, *values = arguments
    shown = ", ".join(repr(str(v)) if isinstance(v, Path) else repr(v) for v in values)
    program = f"from pathlib import Path; import {__name__} as t; "
    program += f"t.{name}(*[Path(a) if isinstance(a, str) else a for a in ({shown},)])"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    return subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"OMP_NUM_THREADS": "1"},
    )


def run_child(path, output, memory):
    with child("measure", path, output, memory) as process:
        out, err = process.communicate(timeout=250)
    return subprocess.CompletedProcess([], process.returncode, out, err)


def predict_slowly(path, output, confidence):
    predict(path, output, toy=Toy(seconds=0.005), memory=PLENTY, confidence=confidence)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_kills_at_any_time_change_no_byte(tmp_path, suffix):
    if suffix == ".tif":
        pytest.importorskip("rasterio")
    path = save(tmp_path / "a.npy", 700, 900)
    whole, output = (tmp_path / f"{name}{suffix}" for name in ("whole", "out"))
    predict(path, whole, confidence=tmp_path / "whole.confidence.png")
    rng = random.Random(0)
    num_kills, kept = 0, []
    while num_kills < 8:
        with child("predict_slowly", path, output, tmp_path / "out.confidence.png") as process:
            journal = tmp_path / f".out{suffix}.part" / "journal"
            deadline = time.monotonic() + 60
            before = journal.read_bytes().count(b"\n") if journal.exists() else 0
            while time.monotonic() < deadline and process.poll() is None:
                lines = journal.read_bytes().count(b"\n") if journal.exists() else 0
                if lines > before + rng.random() * 2:
                    break
                time.sleep(0.001)
            time.sleep(rng.random() * 0.1)
            process.send_signal(signal.SIGKILL)
            process.wait()
            num_kills += 1
        kept.append(journal.read_bytes().count(b"\n") if journal.exists() else 0)
        if output.exists():
            break
    assert sum(after > before for before, after in zip([0, *kept], kept, strict=False)) >= 3
    predict(path, output, confidence=tmp_path / "out.confidence.png")
    assert output.read_bytes() == whole.read_bytes()
    for name in ("out", "whole"):
        assert (tmp_path / f"{name}.confidence.png").is_file()
    assert (tmp_path / "out.confidence.png").read_bytes() == (
        tmp_path / "whole.confidence.png"
    ).read_bytes()
    assert not [name for name in names_in(tmp_path) if name.startswith(".")]
