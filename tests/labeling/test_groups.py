"""Which images go to the network together."""

import numpy as np

from ccnet import Predictor
from ccnet.images.reading import read_image
from ccnet.labeling.files import Outcome
from ccnet.labeling.groups import grouped
from ccnet.labeling.jobs import Job
from ccnet.labeling.writer import LoadedImage
from ccnet.prediction.protocol import Protocol
from ccnet.runtime.files import DataError
from tests.labeling.test_files import predict, write_images


def loaded(*sizes):
    """A stream of images of these sizes; an error where the size is None."""
    for number, size in enumerate(sizes):
        job = Job(path := f"{number}.png", path)  # pyright: ignore[reportArgumentType]
        if size is None:
            yield job, DataError("damaged")
        else:
            yield job, LoadedImage(np.zeros((*size, 3), np.uint8), "stamp")


def numbers(groups):
    return [[int(str(job.image).split(".")[0]) for job, _ in group] for group in groups]


A, B, C = (4, 5), (6, 5), (7, 7)


def test_images_of_one_size_fill_a_batch(predictor):
    predictor.batch_size = 3
    images = loaded(A, B, A, None, B, A, A, C)
    assert numbers(grouped(images, predictor)) == [[3], [0, 2, 5], [1, 4], [6], [7]]
    predictor.batch_size = 1
    assert numbers(grouped(loaded(A, None, A), predictor)) == [[0], [1], [2]]


def test_tiles_of_images_of_all_sizes_go_together(predictor):
    predictor.batch_size, predictor.protocol = 3, Protocol(tile=3)
    assert numbers(grouped(loaded(A, B, C, A), predictor)) == [[0, 1, 2], [3]]


def test_what_waits_is_bounded(predictor):
    predictor.batch_size = 2
    sizes = [(1, length) for length in range(1, 9)]
    read = []
    images = (read.append(number) or pair for number, pair in enumerate(loaded(*sizes)))
    for number, group in enumerate(grouped(images, predictor)):
        assert numbers([group]) == [[number]]
        assert len(read) <= number + 4
    predictor.batch_size = 100
    groups = list(grouped(loaded(*[A] * 10), predictor, max_pixels=3 * 20))
    assert numbers(groups) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]


def count_batches(predictor, monkeypatch):
    """The numbers of views in the batches that the network sees."""
    seen, run = [], predictor.run_network
    monkeypatch.setattr(
        predictor, "run_network", lambda images: (seen.append(len(images)), run(images))[1]
    )
    return seen


def compare(batched, single, folder, names):
    assert predict(batched, folder) == Outcome(written=len(names))
    for name in names:
        expected = single.predict(read_image(folder / "in" / name))
        np.testing.assert_array_equal(read_image(folder / "out" / name, 1)[:, :, 0], expected)


def test_labels_of_full_batches_are_those_of_single_images(predictor, tmp_path, monkeypatch):
    write_images(tmp_path, *["in/a.png"] * 1)
    names = [f"{number}.png" for number in range(10)]
    for number, name in enumerate(names):
        write_images(tmp_path / str(number), *["x.png"] * (number % 2 + 1))
        (tmp_path / str(number) / "x.png").rename(tmp_path / "in" / name)
    (tmp_path / "in" / "a.png").unlink()
    batched = Predictor(predictor.model, device="cpu", batch_size=4)
    seen = count_batches(batched, monkeypatch)
    compare(batched, predictor, tmp_path, names)
    assert seen == [4, 4, 1, 1]


def test_tiles_of_several_images_fill_batches(predictor, tmp_path, monkeypatch):
    names = ["a.png", "b.png", "c.png"]
    write_images(tmp_path / "in", *names)  # two tiles each
    protocol = Protocol(tile=48, stride=32)
    batched = Predictor(predictor.model, device="cpu", batch_size=3, protocol=protocol)
    seen = count_batches(batched, monkeypatch)
    single = Predictor(predictor.model, device="cpu", protocol=protocol)
    compare(batched, single, tmp_path, names)
    assert seen == [3, 3]


def test_one_image_of_a_batch_that_fails_does_not_cost_the_others(predictor, tmp_path, monkeypatch):
    write_images(tmp_path / "in", "a.png", "b.png", "c.png", "d.png")
    tiled = Predictor(predictor.model, device="cpu", batch_size=4, protocol=Protocol(tile=64))
    run, bad = tiled.run_network, read_image(tmp_path / "in" / "c.png")[0, :, 0]

    def fail(images):
        pixels = images[:, 0, 0] * predictor.model.std[0] + predictor.model.mean[0]
        for image in pixels:
            if np.array_equal(image.round().numpy(), bad):
                raise RuntimeError("out of memory")
        return run(images)

    monkeypatch.setattr(tiled, "run_network", fail)
    outcome = predict(tiled, tmp_path)
    path = tmp_path / "in" / "c.png"
    assert outcome == Outcome(written=3, failures=[(path, f"{path}: out of memory")])
