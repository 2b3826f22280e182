"""Scores of a predictor on a data set."""

from collections.abc import Callable
from traceback import clear_frames

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ccnet.datasets import SegmentationDataset
from ccnet.metrics import ConfusionMatrix, Scores, scores
from ccnet.models.loading import require_same_classes
from ccnet.prediction.predictor import Predictor
from ccnet.runtime.processes import num_processes, rank, sum_over_processes
from ccnet.runtime.signals import leave_signals_to_the_main_process


def evaluate(
    predictor: Predictor,
    dataset: SegmentationDataset,
    *,
    num_workers: int = 0,
    progress: Callable[[int, int], object] | None = None,
) -> Scores:
    """Predict every image at its own size and score all pixels with a label together.

    Of N processes each takes every N-th image; their counts are summed, so all return the scores of
    the whole, as one process would. `progress(done, total)` is called after each image of this
    process's share; `num_workers` more processes read ahead.

    Raises:
        ValueError: the data set is empty, its classes aren't the model's, or nothing is labelled.
        DataError: an image or label can't be used.
    """
    if len(dataset) == 0:
        raise ValueError("the data set has no images to evaluate on")
    require_same_classes(predictor.model, dataset.classes)
    confusion = ConfusionMatrix(len(dataset.classes))
    share = range(rank(), len(dataset), num_processes())  # no padding: no image counts twice
    loader = DataLoader(
        Indexed(dataset),
        sampler=share,
        batch_size=None,
        num_workers=num_workers,
        worker_init_fn=leave_signals_to_the_main_process,
        generator=torch.Generator(),  # its own, so that a validation changes no training run
    )
    samples = iter(loader)
    try:
        for index, (image, label) in enumerate(samples):
            prediction = torch.from_numpy(predictor.predict(np.asarray(image)))
            confusion.update(prediction[None].long(), torch.as_tensor(label)[None].long())
            if progress is not None:
                progress(index + 1, len(share))
    except BaseException as error:
        # an error's frames would keep the loader, and its workers keep this process from ending
        clear_frames(error.__traceback__)
        raise
    finally:
        del samples
    counts = sum_over_processes(confusion.counts.to(predictor.device))  # where NCCL wants them
    return scores(counts.cpu(), dataset.classes)


class Indexed(Dataset):
    """A data set as a DataLoader reads it, by index up to its length."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, label = self.dataset[index]  # as tensors, which are never read-only
        return np.require(image, requirements="W"), np.require(label, requirements="W")
