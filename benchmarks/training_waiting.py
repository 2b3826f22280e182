"""The waiting part of training.py: do the images come in time?

The share is what `ccnet train` itself writes to log.csv: seconds without images over seconds. On a
CPU the two workers take their cores from the network, so what they cost shows in the steps' time
and not as waiting; a GPU would leave the cores alone and want far more images. Hence, beside it,
what two workers deliver to a reader that does nothing else.
"""

import argparse
import csv
import itertools
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from torch.utils.data import DataLoader
from training_loader import CROP, NUM_CLASSES, summary, write_photographs

from ccnet.config import DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from ccnet.datasets import FolderDataset
from ccnet.datasets.transforms import RandomTransform
from ccnet.runtime.signals import leave_signals_to_the_main_process
from ccnet.training.loop import train
from ccnet.training.run_folder import RunFolder
from ccnet.training.samples import AugmentedDataset, TrainingBatches, collate

NUM_WORKERS = 2
STEPS_A_ROW = 4
LARGE, CAMVID = (2048, 1024), (480, 360)


@dataclass(frozen=True)
class Job:
    """Files of one size, and a training run on crops of them."""

    size: tuple[int, int]
    kind: str
    crop: int
    batch_size: int
    model: ModelConfig
    colour: float = 0.0
    """Deviation of brightness, contrast and saturation."""

    @property
    def transform(self) -> RandomTransform:
        return RandomTransform(
            (self.crop, self.crop),
            (0.5, 2.0) if self.size == CAMVID else (0.75, 2.0),
            brightness=self.colour,
            contrast=self.colour,
            saturation=self.colour,
        )

    @property
    def input(self) -> str:
        width, height = self.size
        return f"{width}x{height} {self.kind} to {self.crop}x{self.crop}, batch {self.batch_size}"


SMALL = ModelConfig(backbone="mobilenet_v2", channels=256, auxiliary_channels=96)
RUNS = (
    Job(LARGE, "JPEG", 321, 1, ModelConfig(backbone="resnet50")),
    Job(CAMVID, "PNG", 352, 8, SMALL, colour=0.3),
)
DELIVERIES = (
    Job(LARGE, "JPEG", CROP, 8, ModelConfig()),
    Job(LARGE, "PNG", CROP, 8, ModelConfig()),
    RUNS[1],
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--steps", type=int, default=32, help="of each training run that may wait")
    parser.add_argument("--batches", type=int, default=12, help="of eight, that workers deliver")


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    torch.set_num_threads(os.cpu_count() or 1)
    common = {"threads": torch.get_num_threads()}
    for job in RUNS:
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), job, num_images=24)
            form = f"CCNet, {job.model.backbone}, {NUM_WORKERS} workers"
            for row in rows_of_run(job, Path(folder), arguments.steps):
                yield {**common, "input": job.input, "form": form, **row}
    for job in DELIVERIES:
        with tempfile.TemporaryDirectory() as folder:
            write_files(Path(folder), job, num_images=24)
            rates = delivered(job, Path(folder), arguments.batches)
            row = {"form": f"{NUM_WORKERS} workers alone", "quantity": "images/s"}
            yield {"input": job.input, **row, **summary(rates), "turns": len(rates)}


def write_files(folder: Path, job: Job, num_images: int) -> None:
    write_photographs(folder, job.kind, num_images, job.size)
    write_photographs(folder, job.kind, 1, (64, 64), "val")  # every run ends with a validation
    names = [f"class {i}" for i in range(NUM_CLASSES)]
    (folder / "dataset.yaml").write_text(yaml.safe_dump({"classes": names}))


def rows_of_run(job: Job, folder: Path, steps: int) -> Iterator[dict[str, object]]:
    config = TrainConfig(
        data=DataConfig(name="folder", root=str(folder), augment=job.transform),
        model=job.model,
        optimizer=OptimizerConfig(lr=1e-4),
        steps=steps,
        batch_size=job.batch_size,
        validate_every=steps,
        save_every=steps,
        log_every=STEPS_A_ROW,
        num_workers=NUM_WORKERS,
        precision="float32",
    )
    train(config, folder / "run")
    with RunFolder(folder / "run").log.open(newline="") as file:
        log = [row for row in csv.DictReader(file) if row["waiting"]][1:]  # after the start-up
    shares = [100 * float(row["waiting"]) for row in log]
    rates = [float(row["images_per_second"]) for row in log]
    weights = [1 / rate for rate in rates]  # a row's time
    mean = sum(w * share for w, share in zip(weights, shares, strict=True)) / sum(weights)
    turns = {"turns": len(log)}
    yield {"quantity": "waiting, % of the time", **summary(shares), "value": f"{mean:.3g}", **turns}
    yield {"quantity": "images/s", **summary(rates), **turns}


def delivered(job: Job, folder: Path, num_batches: int) -> list[float]:
    """Images/s of each round of the workers, after the rounds of their start."""
    skipped = 2 * NUM_WORKERS
    data = FolderDataset(folder, "train")
    loader = DataLoader(
        AugmentedDataset(data, job.transform),
        batch_sampler=TrainingBatches(len(data), job.batch_size, skipped + num_batches, seed=0),
        collate_fn=collate,
        num_workers=NUM_WORKERS,
        worker_init_fn=leave_signals_to_the_main_process,
    )
    times = [time.perf_counter() for _ in loader][skipped - 1 :]
    # workers deliver in turn, often together: a rate is that of a whole round
    spans = [b - a for a, b in itertools.pairwise(times[::NUM_WORKERS])]
    return [NUM_WORKERS * job.batch_size / span for span in spans]
