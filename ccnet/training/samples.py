"""The samples of a training run: their order and their transforms, from (seed, step) alone."""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Int64, UInt8, UInt16
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from ccnet.classes import IGNORE_INDEX
from ccnet.datasets.dataset import SegmentationDataset
from ccnet.datasets.transforms import RandomTransform
from ccnet.runtime.signals import leave_signals_to_the_main_process

Callback = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


class TrainingBatches:
    """The batches of steps `start` to `steps`, as lists of (epoch, index): a DataLoader's sampler.

    The order of an epoch is a permutation drawn from (seed, epoch); a batch may span two epochs.
    The batch of a step does not depend on `start`, so a resumed run sees the same batches as one
    that was never stopped. Each process has an equal share of a batch, and takes it in `parts`
    lists.

    Args:
        num_samples: images in the data set.
        batch_size: images per step, of all processes together.
        steps: the step after the last one.
        seed: of the order.
        start: the first step.
        process: rank of this process.
        num_processes: that share the batches.
        parts: lists per step and process.

    Raises:
        ValueError: the data set is empty, or the batch cannot be divided equally.
    """

    def __init__(
        self,
        num_samples: int,
        batch_size: int,
        steps: int,
        seed: int,
        start: int = 0,
        *,
        process: int = 0,
        num_processes: int = 1,
        parts: int = 1,
    ) -> None:
        if num_samples < 1:
            raise ValueError("the data set has no images to train on")
        if batch_size % (num_processes * parts):
            raise ValueError(
                f"batch_size {batch_size} cannot be shared by {num_processes} processes in {parts} "
                f"parts each (accumulate); multiples of {num_processes * parts} can"
            )
        self.num_samples = num_samples
        self.batch_size = batch_size
        self.steps = steps
        self.seed = seed
        self.start = start
        self.process = process
        self.num_processes = num_processes
        self.parts = parts
        self._epoch, self._order = -1, np.empty(0, int)

    def __len__(self) -> int:
        return (self.steps - self.start) * self.parts

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:
        for step in range(self.start, self.steps):
            yield from self.parts_of(step)

    def parts_of(self, step: int) -> list[list[tuple[int, int]]]:
        """This process's samples of a step, one list per part."""
        size = self.batch_size // (self.num_processes * self.parts)
        start = step * self.batch_size + self.process * self.parts * size
        return [
            [self._sample(position) for position in range(first, first + size)]
            for first in range(start, start + self.parts * size, size)
        ]

    def _sample(self, position: int) -> tuple[int, int]:
        epoch, place = divmod(position, self.num_samples)
        if epoch != self._epoch:
            order = np.random.default_rng((self.seed, epoch)).permutation(self.num_samples)
            self._epoch, self._order = epoch, order
        return epoch, int(self._order[place])


class AugmentedDataset(Dataset[tuple[Tensor, Tensor]]):
    """The samples of a data set as tensors, after a random transform; a key is (epoch, index).

    The random numbers of a sample follow from (seed, epoch, index) alone, so they do not depend on
    the number of workers or on the samples read before.

    Args:
        dataset: gives images and labels as arrays.
        transform: a `RandomTransform`, None, or any `callable(image, label)` on arrays that returns
            an image of the same type and bands, and an integer label of the same size. For a
            callable, the global generators of Python, NumPy and torch are seeded, and restored
            afterwards. A generator of its own it has to seed from one of these.
        seed: 0 or more.
    """

    def __init__(
        self,
        dataset: SegmentationDataset,
        transform: RandomTransform | Callback | None,
        seed: int = 0,
    ):
        if seed < 0:
            raise ValueError(f"seed must be 0 or more, got {seed}")
        self.dataset = dataset
        self.transform = transform
        self.seed = seed

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(
        self, key: tuple[int, int]
    ) -> tuple[UInt8[Tensor, "c h w"] | UInt16[Tensor, "c h w"], Int64[Tensor, "h w"]]:
        """An image from 0 to 255 or 65535, and its label: 0 to classes - 1, or 255.

        Raises DataError for a file that cannot be read, and ValueError if a callable returns
        something unsuitable. Every error has a note that names the sample.
        """
        epoch, index = key
        try:
            image, label = self._transform(*self.dataset[index], epoch, index)
        except Exception as error:
            error.add_note(f"in sample {index} ({self.dataset.name(index)}), epoch {epoch}")
            raise
        return (
            torch.from_numpy(np.array(image.transpose(2, 0, 1), order="C")),
            torch.from_numpy(label.astype(np.int64)),
        )

    def _transform(
        self, image: np.ndarray, label: np.ndarray, epoch: int, index: int
    ) -> tuple[np.ndarray, np.ndarray]:
        if self.transform is None:
            return image, label
        entropy = np.random.SeedSequence((self.seed, epoch, index))
        if isinstance(self.transform, RandomTransform):
            return self.transform(image, label, np.random.default_rng(entropy))
        with seeded_globals(int(entropy.generate_state(1)[0])):
            result = self.transform(image, label)
        kind = image.dtype, image.shape[2]
        _check_result(result, len(self.dataset.classes), self.dataset.name(index), kind)
        return result


def new_loader(
    samples: AugmentedDataset, batches: TrainingBatches, num_workers: int, device: torch.device
) -> DataLoader:
    """A loader that reads ahead in `num_workers` processes; their number changes no batch.

    Args:
        samples: are read.
        batches: which of them, in what order.
        num_workers: 0: this process reads.
        device: that the batches go to; for CUDA they are read into page-locked memory.
    """
    return DataLoader(
        samples,
        batch_sampler=cast(Any, batches),
        collate_fn=collate,
        num_workers=num_workers,
        generator=torch.Generator(),  # the global one is dropout's
        worker_init_fn=leave_signals_to_the_main_process,
        pin_memory=device.type == "cuda",
    )


def collate(samples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """A batch of samples. Raises ValueError if their sizes differ."""
    sizes = {tuple(label.shape) for _, label in samples}
    if len(sizes) > 1:
        given = ", ".join(f"{width}×{height}" for height, width in sorted(sizes))
        raise ValueError(
            f"the images of a batch differ in size ({given}); crops of one size "
            "(data.augment.crop_size) or batch_size 1 would work"
        )
    images, labels = zip(*samples, strict=True)
    return torch.stack(images), torch.stack(labels)


@contextmanager
def seeded_globals(seed: int) -> Iterator[None]:
    """Seed the CPU generators of Python, NumPy and torch inside the block, and restore them.

    Args:
        seed: 0 to 2³² - 1.
    """
    states = random.getstate(), np.random.get_state(), torch.get_rng_state()
    random.seed(seed)
    np.random.seed(seed)
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(states[0])
        np.random.set_state(states[1])
        torch.set_rng_state(states[2])


def _check_result(
    result: object, num_classes: int, name: str, kind: tuple[np.dtype, int] = (np.dtype("u1"), 3)
) -> None:
    """Raises ValueError unless it is an image of a type and number of bands, and its label."""
    if not isinstance(result, tuple | list) or len(result) != 2:
        raise ValueError(f"{name}: the transform must return (image, label), got {type(result)}")
    image, label = result
    for part, value in (("image", image), ("label", label)):
        if not isinstance(value, np.ndarray):
            raise ValueError(f"{name}: the transform's {part} must be an array, got {type(value)}")
    dtype, bands = kind
    if image.dtype != dtype or image.ndim != 3 or image.shape[2] != bands or image.size == 0:
        raise ValueError(
            f"{name}: the transform's image must be {dtype} (h, w, {bands}), "
            f"0–{np.iinfo(dtype).max}, got {image.dtype} {image.shape}; the model normalizes it"
        )
    if not np.issubdtype(label.dtype, np.integer) or label.shape != image.shape[:2]:
        raise ValueError(
            f"{name}: the transform's label must be integer {image.shape[:2]}, "
            f"got {label.dtype} {label.shape}"
        )
    wrong = label[((label < 0) | (label >= num_classes)) & (label != IGNORE_INDEX)]
    if wrong.size:
        raise ValueError(
            f"{name}: the transform's label holds {wrong[0]}; it may hold 0–{num_classes - 1} and "
            f"{IGNORE_INDEX}. Resize labels by nearest neighbor and pad them with {IGNORE_INDEX}"
        )
