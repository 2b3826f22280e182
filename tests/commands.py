"""How tests run `ccnet`, in their own process or in others, and a short run for them."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from ccnet.cli import main
from ccnet.config import DataConfig, LossConfig, OptimizerConfig, TrainConfig
from ccnet.datasets import Scenes
from ccnet.demo import SCENES

ROOT = Path(__file__).parents[1]

TRAIN = """
data: {name: folder, augment: {crop_size: [48, 48], scale: [0.8, 1.2]}}
model: {backbone: tiny, channels: 16, kernel_size: 1, auxiliary_channels: null}
optimizer: {name: adamw, lr: 1.0e-3, schedule: one_cycle}
steps: 4
batch_size: 2
validate_every: 2
log_every: 1
device: cpu
"""
"""A configuration of a small run, for `write_scenes`."""

# ten steps of eight scenes, whose ignored borders differ in size; statistics of a batch are frozen
TEN = replace(
    SCENES,
    data=DataConfig(num_images=100),
    model=replace(SCENES.model, channels=16, auxiliary_channels=8),
    optimizer=OptimizerConfig(lr=0.05),
    loss=LossConfig(class_weights=[0.2, 1.0, 1.0, 1.0]),
    steps=10,
    batch_size=8,
    validate_every=10,
    log_every=1,
    freeze_norms=True,
)


def write_scenes(root: Path) -> Path:
    """A data set as a user has it: photographs and palette PNGs beside a dataset.yaml."""
    for split, number in (("train", 6), ("val", 3)):
        scenes = Scenes(split, num_images=number)
        for index in range(number):
            image, label = scenes[index]
            for kind, array in (("images", image), ("labels", label)):
                path = root / split / kind / f"{index}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    description = {"classes": list(Scenes.classes), "palette": [list(c) for c in Scenes.palette]}
    (root / "dataset.yaml").write_text(yaml.safe_dump(description))
    return root


def status(*arguments: object) -> int:
    """The exit status of a command that runs in this process."""
    with pytest.raises(SystemExit) as stop:
        main([str(argument) for argument in arguments])
    return stop.value.code  # pyright: ignore[reportReturnType]


def run_python(program: str) -> str:
    """What a program prints in a process of its own."""
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=environment(),
        check=True,
        capture_output=True,
        text=True,
    )
    return result.stdout


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}


def start(
    *arguments: str, launcher: Sequence[str] = (), variables: Mapping[str, str] | None = None
) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", *launcher, "ccnet", *arguments],
        env={**environment(), **(variables or {})},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def run_command(*arguments: str) -> str:
    process = start(*arguments)
    output, _ = process.communicate(timeout=240)
    assert process.returncode == 0, output
    return output


def write_config(config: TrainConfig, path: Path) -> str:
    path.write_text(yaml.safe_dump(json.loads(json.dumps(asdict(config)))))
    return f"--config={path}"


def weights(run: Path) -> dict[str, torch.Tensor]:
    return load_file(run / "last" / "model.safetensors")


def assert_close(first: Path, second: Path) -> None:
    for name, value in weights(first).items():
        torch.testing.assert_close(weights(second)[name], value, rtol=0, atol=1e-6, msg=name)
