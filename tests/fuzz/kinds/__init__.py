"""The kinds of bad inputs: what makes one of them, and its share of all inputs."""

import random
from collections.abc import Callable

from tests.fuzz.case import Box, Case
from tests.fuzz.kinds import images, labels, models, pickles, yaml_files

KINDS: dict[str, tuple[Callable[[random.Random, Box], Case], int]] = {
    "images": (images.one, 22),
    "labels": (labels.one, 12),
    "dataset.yaml": (yaml_files.description, 9),
    "training YAML": (yaml_files.training, 14),
    "config.json": (models.config, 14),
    "safetensors": (models.weights, 12),
    "pickles": (pickles.one, 14),
}
