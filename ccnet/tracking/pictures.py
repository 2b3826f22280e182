"""Pictures of what a network predicts for a few validation images, as a run goes on."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ccnet.config import TrainConfig
from ccnet.datasets import SegmentationDataset
from ccnet.images.colors import as_rgb
from ccnet.prediction.predictor import Predictor
from ccnet.report.pictures import save_comparison

MOST_PICTURES = 64
"""Pictures of a run; with more validations, only each second, third, ... one makes a picture."""
LONGEST_SIDE = 600
"""Pixels of an image that are drawn; the file has 288 for each."""


def picture_is_due(config: TrainConfig, step: int) -> bool:
    """Whether the validation after `step` steps makes a picture; the last one always does."""
    num_validations = math.ceil(config.steps / config.validate_every)
    every = math.ceil(num_validations / (MOST_PICTURES - 1))
    is_chosen = step // config.validate_every % every == 0
    return config.pictures > 0 and (is_chosen or step == config.steps)


def pictured(num_images: int, number: int) -> list[int]:
    """Which images of a data set are shown: at most `number`, at equal distances in it."""
    number = min(number, num_images)
    return [(2 * place + 1) * num_images // (2 * number) for place in range(number)]


def save_predictions(
    path: Path, predictor: Predictor, data: SegmentationDataset, indices: Sequence[int]
) -> None:
    """Draw some images, their labels and predictions to a PNG file.

    The images are predicted once more, so a picture takes as long as a validation of them.
    """
    rows = [reduced(*data[index], predictor) for index in indices]
    save_comparison(path, rows, data.classes, data.palette)


def reduced(
    image: np.ndarray, label: np.ndarray, predictor: Predictor
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An image to look at, its label and its prediction: every N-th pixel of large ones."""
    image, label = np.asarray(image), np.asarray(label)
    step = np.s_[:: math.ceil(max(label.shape) / LONGEST_SIDE)]
    (scores,) = predictor.score([image])
    prediction = predictor.most_likely(scores)
    return as_rgb(image[step, step]), label[step, step], prediction[step, step]
