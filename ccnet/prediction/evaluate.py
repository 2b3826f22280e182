"""Scores of a predictor on a data set."""

from collections.abc import Callable
from traceback import clear_frames

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from ccnet.datasets import SegmentationDataset
from ccnet.datasets.pairs import PairedDataset
from ccnet.metrics import ConfusionMatrix, Scores, scores
from ccnet.models.loading import require_same_classes
from ccnet.prediction.predictor import Predictor
from ccnet.runtime.processes import (
    num_processes,
    rank,
    require_num_workers,
    sum_over_processes,
)
from ccnet.runtime.signals import leave_signals_to_the_main_process

Observer = Callable[[int, str, np.ndarray, np.ndarray, np.ndarray, np.ndarray], object]
"""Sees each image: number in the data set, name, image, label, predicted class of each pixel, and
its probability in float32."""


def evaluate(
    predictor: Predictor,
    dataset: SegmentationDataset,
    *,
    num_workers: int = 0,
    progress: Callable[[int, int], object] | None = None,
    observer: Observer | None = None,
) -> Scores:
    """Predict every image at its own size and count all labeled pixels in one confusion matrix.

    For a model of chosen bands, these are read of image files, as the model's own were.

    Each of N processes evaluates every N-th image. Their counts are added up, so that all processes
    return the scores that one process alone would.

    Args:
        predictor: predicts the images; its classes must be those of the data set.
        dataset: images and labels.
        num_workers: number of processes that read images ahead; 0 reads in this process.
        progress: called as `progress(done, total)` after each image that this process evaluates.
        observer: called with each image that this process evaluates, and what was predicted.

    Raises:
        ValueError: the data set is empty or has other classes, or no pixel is labeled.
        DataError: an image or label cannot be used.
        FloatingPointError: the network gives nan for an image.
    """
    require_num_workers(num_workers)
    if len(dataset) == 0:
        raise ValueError("the data set has no images to evaluate on")
    require_same_classes(predictor.model, dataset.classes)
    if isinstance(dataset, PairedDataset) and predictor.model.bands is not None:
        dataset = dataset.with_bands(predictor.model.bands)
    confusion = ConfusionMatrix(len(dataset.classes))
    share = range(rank(), len(dataset), num_processes())  # without padding: no image counts twice
    loader = DataLoader(
        Indexed(dataset),
        sampler=share,
        batch_size=None,
        num_workers=num_workers,
        worker_init_fn=leave_signals_to_the_main_process,
        generator=torch.Generator(),  # its own: a validation must not change the training
    )
    samples = iter(loader)
    try:
        for done, (index, (image, label)) in enumerate(zip(share, samples, strict=True), start=1):
            image, label = np.asarray(image), torch.as_tensor(label)
            try:
                (found,) = predictor.score([image])
                labels = predictor.most_likely(found)
            except FloatingPointError as error:
                raise FloatingPointError(f"{dataset.name(index)}: {error}") from None
            confusion.update(torch.from_numpy(labels)[None].long(), label[None].long())
            if observer is not None:
                confidence = predictor.as_probabilities(found).amax(0).cpu().numpy()
                observer(index, dataset.name(index), image, label.numpy(), labels, confidence)
            if progress is not None:
                progress(done, len(share))
    except BaseException as error:
        # the frames of the error would keep the loader's workers alive, and they this process
        clear_frames(error.__traceback__)
        raise
    finally:
        del samples
    counts = sum_over_processes(confusion.counts.to(predictor.device))  # where NCCL expects them
    return scores(counts.cpu(), dataset.classes)


class Indexed(Dataset):
    """A data set with the interface that a DataLoader expects."""

    def __init__(self, dataset: SegmentationDataset) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        image, label = self.dataset[index]  # PyTorch has no read-only tensors
        return np.require(image, requirements="W"), np.require(label, requirements="W")
