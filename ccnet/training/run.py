"""A training run: its objects, how it is saved, and how it is validated."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from lightning_fabric import Fabric
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from ccnet.config import TrainConfig
from ccnet.datasets import SegmentationDataset
from ccnet.losses import SegmentationLoss
from ccnet.metrics import Scores
from ccnet.models.ccnet import CCNet
from ccnet.prediction.evaluate import evaluate
from ccnet.prediction.predictor import Predictor
from ccnet.runtime.processes import broadcast_buffers, num_processes, rank
from ccnet.saving.checkpoint import what_is_computed
from ccnet.saving.run_folder import RunFolder
from ccnet.tracking.pictures import picture_is_due, pictured, save_predictions
from ccnet.tracking.progress import NoProgress, TrainingProgress
from ccnet.training.failures import require_finite, requiring_finite_output
from ccnet.training.samples import TrainingBatches
from ccnet.training.state import TrainingState, gather_full_state

DataSets = tuple[SegmentationDataset, SegmentationDataset]
"""Training and validation data."""


@dataclass
class Run:
    """One process's objects of a training run."""

    config: TrainConfig
    """Its precision is resolved: never "auto"."""
    folder: RunFolder
    fabric: Fabric
    scaler: torch.amp.GradScaler | None
    """The loss scaler of float16."""
    data: SegmentationDataset
    validation_data: SegmentationDataset
    validated_on: dict[str, str]
    """The data set and the split that the model's metrics name."""
    model: CCNet
    """The network that learns."""
    network: Any
    """The same, compiled if the configuration says so, and wrapped by Fabric: what is called."""
    average: AveragedModel | None
    """The moving average of the model."""
    validated_model: CCNet
    """What is validated and written: the moving average, a full replica of a sharded model, or
    `model` itself."""
    optimizer: Optimizer
    scheduler: LRScheduler
    criterion: SegmentationLoss
    state: TrainingState
    batches: TrainingBatches
    loader: Any
    progress: TrainingProgress | NoProgress
    saved_step: int
    """Step of the last save; -1 if there is none."""
    saved_time: float
    """Of the last save, or of the start, on the monotonic clock."""

    @property
    def layout(self) -> torch.memory_format:
        return memory_layout(self.config)

    def save(self) -> None:
        """Write a save; all processes have to call it.

        Raises FloatingPointError if the network is not finite; the earlier saves then stay.
        """
        require_finite(self.model, self.state.step)
        content = {**self.state.to_dict(), "config": what_is_computed(self.config)}
        if rank() == 0:
            self.folder.save(content)
        self.saved_step, self.saved_time = self.state.step, time.monotonic()

    def save_is_due(self) -> bool:
        """Whether process 0 has made so many steps, or computed so long, that it should save."""
        steps = self.state.step - self.saved_step
        seconds = time.monotonic() - self.saved_time
        is_due = steps >= self.config.save_every or seconds >= self.config.save_seconds
        return rank() == 0 and is_due

    def validate(self) -> Scores:
        """Score the model on the validation data, and write it, also as the best if it is; saves.

        All processes have to call it; each of them predicts a share of the images.
        """
        model, state = self.validated_model, self.state
        if is_sharded(self.config):
            model.load_state_dict(gather_full_state(self.model.state_dict()))
        broadcast_buffers(model)
        require_finite(model, state.step)
        with evaluation_mode(model), requiring_finite_output(model, state.step):
            predictor = Predictor(
                model,
                device=str(self.fabric.device),
                precision=self.config.precision,
                protocol=self.config.protocol,
            )
            scores = evaluate(
                predictor,
                self.validation_data,
                num_workers=self.config.num_workers,
                progress=self.progress.show_validation,
            )
            self.draw(predictor)
        is_best = scores.miou > state.best_miou
        state.best_miou = max(scores.miou, state.best_miou)
        measured = {"step": state.step, "protocol": self.config.protocol.to_dict()}
        model.metrics = {**self.validated_on, **measured, **scores.to_dict()}
        if rank() == 0:
            if is_best:
                self.folder.save_model(model, self.folder.best_model)
            self.folder.save_model(model, self.folder.last_model)
        self.progress.log_validation(state.step, scores)
        state.validated = state.step
        self.save()
        return scores

    def draw(self, predictor: Predictor) -> None:
        """Draw predictions for some validation images, in process 0, if a picture is due."""
        if rank() > 0 or not picture_is_due(self.config, self.state.step):
            return
        path = self.folder.pictures / f"step-{self.state.step:08d}.png"
        indices = pictured(len(self.validation_data), self.config.pictures)
        with self.folder.explaining_full_disk("a picture of predictions", lambda: 1_000_000):
            save_predictions(path, predictor, self.validation_data, indices)
        self.progress.log_picture(self.state.step, path)


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside the block; every module then has the mode again that it had before."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def is_sharded(config: TrainConfig) -> bool:
    """Whether each process has only a part of the weights."""
    return config.strategy == "fsdp" and num_processes() > 1


def memory_layout(config: TrainConfig) -> torch.memory_format:
    """Of images and features."""
    return torch.channels_last if config.channels_last else torch.contiguous_format
