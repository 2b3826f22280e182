"""A training run: set up from a configuration, saved and validated."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric, seed_everything
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torch.optim.swa_utils import AveragedModel

from ccnet.config import TrainConfig
from ccnet.datasets import SegmentationDataset
from ccnet.datasets.pairs import write_lists
from ccnet.losses import SegmentationLoss
from ccnet.metrics import Scores
from ccnet.models.ccnet import CCNet
from ccnet.models.loading import load_model
from ccnet.prediction.evaluate import evaluate
from ccnet.prediction.predictor import Predictor
from ccnet.runtime import engine
from ccnet.runtime.launch import is_restarted
from ccnet.runtime.lock import FolderLock
from ccnet.runtime.processes import broadcast_buffers, num_processes, rank
from ccnet.training.assembly import (
    build_loss,
    build_moving_average,
    build_optimizer,
    build_replica,
    build_scheduler,
    new_model,
    open_data,
    to_training_mode,
)
from ccnet.training.checkpoint import naming, require_checkpoint, what_is_computed
from ccnet.training.failures import require_finite, requiring_finite_output
from ccnet.training.progress import NoProgress, TrainingProgress
from ccnet.training.run_folder import RunFolder
from ccnet.training.samples import AugmentedDataset, Callback, TrainingBatches, new_loader
from ccnet.training.state import TrainingState, gather_full_state


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
        model, state, data = self.validated_model, self.state, self.config.data
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
        is_best = scores.miou > state.best_miou
        state.best_miou = max(scores.miou, state.best_miou)
        measured = {"dataset": data.name, "split": data.val_split, "step": state.step}
        measured["protocol"] = self.config.protocol.to_dict()
        model.metrics = {**measured, **scores.to_dict()}
        if rank() == 0:
            if is_best:
                self.folder.save_model(model, self.folder.best_model)
            self.folder.save_model(model, self.folder.last_model)
        self.progress.log_validation(state.step, scores)
        state.validated = state.step
        self.save()
        return scores


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


def set_up(
    config: TrainConfig,
    path: str | Path,
    *,
    init: str | Path | None = None,
    resume: bool = False,
    transform: Callback | None = None,
    lock: FolderLock | None = None,
) -> Run:
    """Make everything that a run needs, from its last save if it is resumed.

    Takes the arguments of `ccnet.training.loop.train`, and raises its errors.

    Args:
        lock: of the run's folder, which process 0 takes before it writes there.
    """
    own = engine.start(
        config.device, config.devices, config.num_nodes, config.strategy, config.precision
    )
    fabric, config = own.fabric, replace(config, precision=own.precision)
    folder, save, checkpoint = open_folder(path, config, fabric, resume, lock)
    data, validation_data = open_data(config.data)
    seed_everything(config.seed, verbose=False)
    source = None if init is None or checkpoint is not None else load_model(init)
    with naming(save):
        model = new_model(config, data, source, checkpoint)
    place(model, config, fabric.device)
    replica = build_replica(config, data, model) if is_sharded(config) else None
    to_training_mode(model, config.freeze, config.freeze_norms)
    network: Any = torch.compile(model, dynamic=True) if config.compile else model
    network = fabric.setup_module(network)
    optimizer = build_optimizer(config.optimizer, model)
    scheduler = build_scheduler(config.optimizer, optimizer, config.steps)
    average = build_moving_average(config, model)
    others = {"scheduler": scheduler, "scaler": own.scaler, "average": average}
    state = TrainingState(model, optimizer, others)
    if checkpoint is not None:
        with naming(save):
            state.load(checkpoint)
    batches = new_batches(config, len(data), state.step)
    return Run(
        config=config,
        folder=folder,
        fabric=fabric,
        scaler=own.scaler,
        data=data,
        validation_data=validation_data,
        model=model,
        network=network,
        average=average,
        validated_model=replica or (model if average is None else cast(CCNet, average.module)),
        optimizer=cast(Optimizer, fabric.setup_optimizers(optimizer)),
        scheduler=scheduler,
        criterion=build_loss(config).to(fabric.device),
        state=state,
        batches=batches,
        loader=training_loader(config, data, batches, transform, fabric),
        progress=start_progress(
            config, folder, state, (data, validation_data), fabric.device, is_new=checkpoint is None
        ),
        saved_step=-1 if checkpoint is None else state.step,
        saved_time=time.monotonic(),
    )


def is_sharded(config: TrainConfig) -> bool:
    """Whether each process has only a part of the weights."""
    return config.strategy == "fsdp" and num_processes() > 1


def memory_layout(config: TrainConfig) -> torch.memory_format:
    """Of images and features."""
    return torch.channels_last if config.channels_last else torch.contiguous_format


def open_folder(
    path: str | Path,
    config: TrainConfig,
    fabric: Fabric,
    resume: bool,
    lock: FolderLock | None,
) -> tuple[RunFolder, Path | None, dict[str, Any] | None]:
    """The folder of the run, and the save to resume from with its state; None for a new run.

    Process 0 chooses the folder and the save for all.

    Raises:
        FileExistsError: a new run is asked for, and the folder is not empty.
        BlockingIOError: another process writes the run.
        FileNotFoundError, ValueError: a run is to be resumed, and no save is good.
    """
    folder = RunFolder(fabric.broadcast(str(path)), lock)
    resume = resume or (is_restarted() and fabric.broadcast(folder.can_resume()))
    if not resume:
        if rank() == 0:
            folder.require_empty()
        return folder, None, None
    save, checkpoint = Path(), {}
    if rank() == 0:
        if folder.can_resume():
            folder.take()
        save, checkpoint = folder.newest()
        folder.repair()
    save = fabric.broadcast(save)
    if rank() > 0:
        checkpoint = folder.read(save)
    with naming(save):
        require_checkpoint(checkpoint, config)
    return folder, save, checkpoint


def place(model: CCNet, config: TrainConfig, device: torch.device) -> None:
    """Move the model to the device, into its layout, and synchronize its norms if asked to."""
    model.to(device)
    if not is_sharded(config):  # FSDP takes contiguous weights only
        model.to(memory_format=memory_layout(config))  # pyright: ignore[reportCallIssue]
    if device.type == "cuda" and num_processes() > 1 and config.sync_norms:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)


def new_batches(config: TrainConfig, num_samples: int, start: int) -> TrainingBatches:
    return TrainingBatches(
        num_samples,
        config.batch_size,
        config.steps,
        config.seed,
        start=start,
        process=rank(),
        num_processes=num_processes(),
        parts=config.accumulate,
    )


def training_loader(
    config: TrainConfig,
    data: SegmentationDataset,
    batches: TrainingBatches,
    transform: Callback | None,
    fabric: Fabric,
) -> Any:
    """Batches on the device, after the user's transform or that of the configuration."""
    augment = config.data.augment if transform is None else transform
    samples = AugmentedDataset(data, augment, config.seed)
    loader = new_loader(samples, batches, config.num_workers, fabric.device)
    return fabric.setup_dataloaders(loader, use_distributed_sampler=False)


def start_progress(
    config: TrainConfig,
    folder: RunFolder,
    state: TrainingState,
    data: tuple[SegmentationDataset, SegmentationDataset],
    device: torch.device,
    *,
    is_new: bool,
) -> TrainingProgress | NoProgress:
    """Start the files of the run in process 0, which alone shows and logs its progress."""
    if rank() > 0:
        return NoProgress()
    if is_new:
        folder.take()
        folder.require_empty()  # another process may have begun a run in it since
        folder.create(config, device, num_processes())
        write_lists(folder.lists, train=data[0], val=data[1])
    folder.start_log(state.step, state.validated)
    return TrainingProgress(config, folder, state.step, len(data[0]))
