"""The kinds of bad inputs: what makes one of them, and its share of all inputs."""

import random
from collections.abc import Callable

from tests.fuzz.case import Box, Case
from tests.fuzz.kinds import (
    images,
    labels,
    lines,
    models,
    outputs,
    pickles,
    runs,
    tiffs,
    yaml_files,
)

KINDS: dict[str, tuple[Callable[[random.Random, Box], Case], int]] = {
    "images": (images.one, 18),
    "TIFF": (tiffs.one, 10),
    "labels": (labels.one, 12),
    "dataset.yaml": (yaml_files.description, 9),
    "training YAML": (yaml_files.training, 13),
    "config.json": (models.config, 12),
    "safetensors": (models.weights, 10),
    "pickles": (pickles.one, 13),
    "predictions": (outputs.prediction, 12),
    "outputs": (outputs.other_results, 8),
    "runs": (runs.one, 14),
    "lists": (lines.list_file, 6),
    "command lines": (lines.command_line, 14),
}
