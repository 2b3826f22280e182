"""The samples of a run: which, in what order, how transformed; all from (seed, step) alone."""

import itertools
import random
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from ccnet.datasets import DataError
from ccnet.datasets.transforms import RandomTransform
from ccnet.training.samples import AugmentedDataset, TrainingBatches, collate
from tests.conftest import noise


class Noise:
    """Six random images of different sizes; the last cannot be read."""

    classes = ("a", "b", "c", "d", "e")

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        if index == 5:
            raise DataError("noise5.png: cannot be read")
        return noise(30 + index, 40 - index, seed=index)

    def name(self, index: int) -> str:
        return f"noise{index}.png"


def test_sample_without_transform_is_the_data_as_tensors():
    image, label = AugmentedDataset(Noise(), None)[0, 1]
    expected, target = Noise()[1]
    assert (image.dtype, label.dtype) == (torch.uint8, torch.int64)
    assert image.is_contiguous()
    np.testing.assert_array_equal(image.permute(1, 2, 0), expected)
    np.testing.assert_array_equal(label, target)


def test_read_only_arrays_are_taken():
    class Frozen(Noise):
        def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
            image, label = super().__getitem__(index)
            image.setflags(write=False)
            label.setflags(write=False)
            return image, label

    for transform in (None, RandomTransform((8, 8))):
        AugmentedDataset(Frozen(), transform)[0, 0]


def shaky(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Draws from all three global generators."""
    x = random.randrange(8) + np.random.randint(8) + int(torch.randint(8, ()))
    return image[:10, x : x + 10], label[:10, x : x + 10]


TRANSFORMS = [RandomTransform((16, 16), brightness=0.2, hue=0.1), shaky]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
@pytest.mark.parametrize("transform", TRANSFORMS, ids=["own", "callable"])
def test_samples_do_not_depend_on_the_number_of_workers(transform: Any):
    dataset = AugmentedDataset(Noise(), transform, seed=3)
    keys: Any = [(epoch, index) for epoch in range(2) for index in range(5)]
    alone, shared = (
        list(DataLoader(dataset, sampler=keys, batch_size=3, num_workers=workers))
        for workers in (0, 2)
    )
    for (image, label), (other_image, other_label) in zip(alone, shared, strict=True):
        assert torch.equal(image, other_image)
        assert torch.equal(label, other_label)


@pytest.mark.parametrize("transform", TRANSFORMS, ids=["own", "callable"])
def test_sample_follows_from_seed_epoch_and_index_alone(transform: Any):
    dataset = AugmentedDataset(Noise(), transform, seed=3)
    first = dataset[4, 1][0]
    random.seed(5)
    np.random.seed(6)
    torch.manual_seed(7)
    dataset[0, 2]
    assert torch.equal(dataset[4, 1][0], first)
    others = [dataset[epoch, 1][0] for epoch in range(5, 10)]
    others += [AugmentedDataset(Noise(), transform, seed)[4, 1][0] for seed in range(4, 9)]
    assert sum(torch.equal(first, other) for other in others) < 4


@pytest.mark.parametrize("fails", [False, True])
def test_global_generators_are_put_back_after_a_callable(fails: bool):
    def transform(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if fails:
            raise RuntimeError("no")
        return shaky(image, label)

    def draws() -> tuple[float, float, float]:
        return random.random(), np.random.rand(), torch.rand(()).item()

    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    expected = draws()
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    try:
        AugmentedDataset(Noise(), transform)[0, 0]
    except RuntimeError:
        assert fails
    assert draws() == expected


GOOD_IMAGE, GOOD_LABEL = np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.int64)


@pytest.mark.parametrize(
    ("result", "message"),
    [
        (None, r"must return \(image, label\), got .*NoneType"),
        ((GOOD_IMAGE,), r"must return \(image, label\)"),
        ((torch.zeros(3, 4, 5), GOOD_LABEL), "image must be an array, got .*Tensor"),
        ((GOOD_IMAGE, [[0]]), "label must be an array, got .*list"),
        ((GOOD_IMAGE / 255, GOOD_LABEL), r"uint8 \(h, w, 3\), 0–255, got float64 \(4, 5, 3\)"),
        ((GOOD_IMAGE[..., 0], GOOD_LABEL), r"got uint8 \(4, 5\)"),
        ((GOOD_IMAGE.transpose(2, 0, 1), GOOD_LABEL), r"got uint8 \(3, 4, 5\)"),
        ((GOOD_IMAGE, GOOD_LABEL.astype(float)), r"integer \(4, 5\), got float64 \(4, 5\)"),
        ((GOOD_IMAGE, GOOD_LABEL[:3]), r"integer \(4, 5\), got int64 \(3, 5\)"),
        ((GOOD_IMAGE, GOOD_LABEL - 1), "label holds -1; it may hold 0–4 and 255"),
        ((GOOD_IMAGE, GOOD_LABEL + 7), "label holds 7; it may hold 0–4 and 255"),
    ],
)  # fmt: skip
def test_callable_that_returns_something_else_is_told(result: Any, message: str):
    dataset = AugmentedDataset(Noise(), lambda image, label: result)
    with pytest.raises(ValueError, match=rf"noise2\.png: .*{message}"):
        dataset[0, 2]


def test_callable_may_return_any_integer_label():
    result = GOOD_IMAGE, np.full((4, 5), 255, np.int32)
    _, label = AugmentedDataset(Noise(), lambda image, label: result)[0, 2]
    assert label.unique().tolist() == [255]


def test_errors_name_the_sample():
    def transform(image: np.ndarray, label: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        raise KeyError("color")

    with pytest.raises(KeyError) as caught:
        AugmentedDataset(Noise(), transform)[3, 2]
    assert caught.value.__notes__ == ["in sample 2 (noise2.png), epoch 3"]


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_data_error_comes_through_a_worker():
    keys: Any = [(0, 5), (0, 1)]
    dataset = AugmentedDataset(Noise(), RandomTransform((8, 8)))
    batches = iter(DataLoader(dataset, sampler=keys, num_workers=1))
    with pytest.raises(DataError, match=r"(?s)noise5\.png: cannot be read.*in sample 5"):
        next(batches)
    assert len(list(batches)) == 1


def test_negative_seed_is_refused():
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        AugmentedDataset(Noise(), None, seed=-1)


# Which samples, in what order


def positions(batches: TrainingBatches) -> list[tuple[int, int]]:
    return [key for batch in batches for key in batch]


def test_each_epoch_is_a_permutation_of_its_own():
    keys = positions(TrainingBatches(7, 3, 14, seed=0))  # 42 samples, six epochs
    assert [epoch for epoch, _ in keys] == [epoch for epoch in range(6) for _ in range(7)]
    orders = [tuple(index for _, index in keys[7 * n : 7 * n + 7]) for n in range(6)]
    assert all(sorted(order) == list(range(7)) for order in orders)
    assert len(set(orders)) == 6


@pytest.mark.parametrize(("num_samples", "batch_size"), [(7, 3), (2, 5), (1, 4), (4, 4)])
def test_batches_are_full_and_span_epochs(num_samples, batch_size):
    batches = list(TrainingBatches(num_samples, batch_size, 9, seed=0))
    assert [len(batch) for batch in batches] == [batch_size] * 9
    spans = [len({epoch for epoch, _ in batch}) > 1 for batch in batches]
    assert any(spans) == (batch_size % num_samples != 0 or batch_size > num_samples)


@pytest.mark.parametrize("start", [1, 4, 10])
def test_a_later_start_gives_the_batches_it_would_have_seen(start):
    whole, rest = TrainingBatches(7, 3, 10, 5), TrainingBatches(7, 3, 10, 5, start=start)
    assert list(rest) == list(itertools.islice(whole, start, None))
    assert len(rest) == len(list(rest)) == 10 - start


def test_batches_depend_on_the_seed_and_not_on_when_they_are_read():
    batches = TrainingBatches(9, 4, 12, seed=1)
    first = list(batches)
    np.random.seed(3)
    assert list(batches) == first
    assert list(TrainingBatches(9, 4, 12, seed=2)) != first


def test_a_longer_run_begins_like_a_shorter_one():
    longer = TrainingBatches(7, 3, 20, seed=0)
    assert list(TrainingBatches(7, 3, 6, seed=0)) == list(itertools.islice(longer, 6))


def test_an_empty_data_set_is_an_error():
    with pytest.raises(ValueError, match="no images to train on"):
        TrainingBatches(0, 3, 10, seed=0)


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_workers_give_the_same_batches():
    dataset = AugmentedDataset(Noise(), RandomTransform((16, 16)), seed=3)
    batches = TrainingBatches(5, 2, 6, seed=0, start=1)
    alone, shared = (
        list(DataLoader(dataset, batch_sampler=batches, num_workers=workers))  # pyright: ignore[reportArgumentType]
        for workers in (0, 2)
    )
    assert len(alone) == len(shared) == 5
    for batch, other in zip(alone, shared, strict=True):
        assert all(map(torch.equal, batch, other))


def test_a_batch_of_different_sizes_says_what_would_work():
    def sample(height: int, width: int):
        return torch.zeros(3, height, width, dtype=torch.uint8), torch.zeros(height, width)

    images, labels = collate([sample(4, 5), sample(4, 5)])
    assert images.shape == (2, 3, 4, 5)
    assert labels.shape == (2, 4, 5)
    with pytest.raises(ValueError, match=r"5×4, 6×4.*crop_size"):
        collate([sample(4, 5), sample(4, 6)])
