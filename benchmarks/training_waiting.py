"""The part "waiting" of training.py: does training have to wait for images?

The share of the time spent waiting is the one that `ccnet train` itself writes to log.csv. On a CPU
the two workers and the network share the cores, so that loading makes the steps slower instead of
making them wait; a GPU would leave the cores to the workers and need many more images. Therefore
the images per second are also measured that two workers deliver when nothing else is computed.
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
from ccnet.saving.run_folder import RunFolder
from ccnet.training.loop import train
from ccnet.training.samples import AugmentedDataset, TrainingBatches, collate

NUM_WORKERS = 2
STEPS_A_ROW = 4
LARGE, CAMVID = (2048, 1024), (480, 360)


@dataclass(frozen=True)
class Job:
    """Images of one size and file format, and a training run on crops of them."""

    size: tuple[int, int]
    kind: str
    crop: int
    batch_size: int
    model: ModelConfig
    color_jitter: float = 0.0
    """Range of the random changes of brightness, contrast and saturation."""

    @property
    def transform(self) -> RandomTransform:
        return RandomTransform(
            (self.crop, self.crop),
            (0.5, 2.0) if self.size == CAMVID else (0.75, 2.0),
            brightness=self.color_jitter,
            contrast=self.color_jitter,
            saturation=self.color_jitter,
        )

    @property
    def input(self) -> str:
        width, height = self.size
        return f"{width}x{height} {self.kind} to {self.crop}x{self.crop}, batch {self.batch_size}"


SMALL = ModelConfig(backbone="mobilenet_v2", channels=256, auxiliary_channels=96)
RUNS = (
    Job(LARGE, "JPEG", 321, 1, ModelConfig(backbone="resnet50")),
    Job(CAMVID, "PNG", 352, 8, SMALL, color_jitter=0.3),
)
DELIVERIES = (
    Job(LARGE, "JPEG", CROP, 8, ModelConfig()),
    Job(LARGE, "PNG", CROP, 8, ModelConfig()),
    RUNS[1],
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("waiting")
    group.add_argument("--steps", type=int, default=32, help="steps of each training run")
    group.add_argument(
        "--batches", type=int, default=12, help="batches of 8 that the workers alone deliver"
    )


def rows(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Rows of each training run, then of workers whose images nobody processes."""
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
            rates = delivery_rates(job, Path(folder), arguments.batches)
            row = {"form": f"{NUM_WORKERS} workers alone", "quantity": "images/s"}
            yield {"input": job.input, **row, **summary(rates), "turns": len(rates)}


def write_files(folder: Path, job: Job, num_images: int) -> None:
    write_photographs(folder, job.kind, num_images, job.size)
    write_photographs(folder, job.kind, 1, (64, 64), "val")  # every run ends with a validation
    names = [f"class {i}" for i in range(NUM_CLASSES)]
    (folder / "dataset.yaml").write_text(yaml.safe_dump({"classes": names}))


def rows_of_run(job: Job, folder: Path, steps: int) -> Iterator[dict[str, object]]:
    """Train, and read the share of waiting and the images per second from log.csv."""
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
        log = [row for row in csv.DictReader(file) if row["waiting"]][1:]  # without the start
    shares = [100 * float(row["waiting"]) for row in log]
    rates = [float(row["images_per_second"]) for row in log]
    weights = [1 / rate for rate in rates]  # proportional to the time of each row
    mean = sum(w * share for w, share in zip(weights, shares, strict=True)) / sum(weights)
    turns = {"turns": len(log)}
    yield {"quantity": "waiting, % of the time", **summary(shares), "value": f"{mean:.3g}", **turns}
    yield {"quantity": "images/s", **summary(rates), **turns}


def delivery_rates(job: Job, folder: Path, num_batches: int) -> list[float]:
    """Images per second of each round of the workers, without the first two rounds.

    In one round each worker delivers one batch.
    """
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
    # workers often deliver at almost the same time, so that only whole rounds are meaningful
    spans = [b - a for a, b in itertools.pairwise(times[::NUM_WORKERS])]
    return [NUM_WORKERS * job.batch_size / span for span in spans]
