"""How a training run starts: everything that it needs, made from a configuration or a save."""

import math
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric, seed_everything
from torch import nn
from torch.optim import Optimizer

from ccnet.checking.requirements import require_usable
from ccnet.config import OF_THE_MACHINE, TrainConfig, read_config
from ccnet.datasets import SegmentationDataset
from ccnet.datasets.pairs import say_notes, warn_of_shared, write_lists
from ccnet.models.ccnet import CCNet
from ccnet.models.loading import load_model
from ccnet.runtime import engine
from ccnet.runtime.launch import is_restarted
from ccnet.runtime.lock import FolderLock
from ccnet.runtime.processes import num_processes, rank
from ccnet.runtime.values import MOST
from ccnet.saving.checkpoint import naming, require_checkpoint
from ccnet.saving.provenance import Provenance, read_provenance
from ccnet.saving.run_folder import RunFolder
from ccnet.tracking.progress import NoProgress, TrainingProgress
from ccnet.tracking.trackers import require_tracker
from ccnet.training.assembly import (
    build_loss,
    build_moving_average,
    build_optimizer,
    build_scheduler,
    open_data,
    to_training_mode,
    warn_of_ohem,
    with_class_weights,
)
from ccnet.training.bands import BandsOfRun, choose_bands_of_run
from ccnet.training.network import build_replica, config_from, describe_start, new_model
from ccnet.training.run import DataSets, Run, is_sharded, memory_layout
from ccnet.training.samples import AugmentedDataset, Callback, TrainingBatches, new_loader
from ccnet.training.state import TrainingState


def set_up(
    config: TrainConfig,
    path: str | Path,
    *,
    init: str | Path | None = None,
    resume: bool = False,
    transform: Callback | None = None,
    data: DataSets | None = None,
    accept_new_data: bool = False,
    lock: FolderLock | None = None,
) -> Run:
    """Make everything that a run needs, from its last save if it is resumed.

    Takes the arguments of `ccnet.training.loop.train`, and raises its errors.

    Args:
        lock: of the run's folder, which process 0 takes before it writes there.
    """
    require_tracker(config.logger)
    own = engine.start(
        config.device, config.devices, config.num_nodes, config.strategy, config.precision
    )
    fabric, config = own.fabric, replace(config, precision=own.precision)
    folder, config, save, checkpoint = open_folder(path, config, fabric, resume, lock)
    source = None if init is None or checkpoint is not None else load_model(init)
    config, sets, bands = usable_data(config, data, transform, source, save, checkpoint)
    provenance = Provenance.of(*sets, config.data.name, is_given=data is not None)
    provenance, changed = compared(provenance, folder, checkpoint, accept_new_data)
    seed_everything(config.seed, verbose=False)
    config, model = first_network(config, sets[0], init, source, bands, save, checkpoint)
    place(model, config, fabric.device)
    replica = build_replica(config, sets[0], model) if is_sharded(config) else None
    network, average = wrapped(model, config, fabric), build_moving_average(config, model)
    optimizer = build_optimizer(config.optimizer, model)
    scheduler = build_scheduler(config.optimizer, optimizer, config.steps)
    others = {"scheduler": scheduler, "scaler": own.scaler, "average": average}
    state = TrainingState(model, optimizer, others)
    if checkpoint is not None:
        with naming(save):
            state.load(checkpoint)
    if "validation" in changed:
        state.best_miou = -math.inf  # scores on other images do not compare
    batches = new_batches(config, len(sets[0]), state.step)
    return Run(
        config=config,
        folder=folder,
        fabric=fabric,
        scaler=own.scaler,
        data=sets[0],
        validation_data=sets[1],
        validated_on=name_of_validation(config, data),
        model=model,
        network=network,
        average=average,
        validated_model=replica or (model if average is None else cast(CCNet, average.module)),
        optimizer=cast(Optimizer, fabric.setup_optimizers(optimizer)),
        scheduler=scheduler,
        criterion=build_loss(config).to(fabric.device),
        state=state,
        batches=batches,
        loader=training_loader(config, sets[0], batches, transform, fabric),
        progress=start_progress(
            config, folder, state, provenance, sets, fabric.device, is_new=checkpoint is None
        ),
        saved_step=-1 if checkpoint is None or changed else state.step,
        saved_time=time.monotonic(),
    )


def open_folder(
    path: str | Path,
    config: TrainConfig,
    fabric: Fabric,
    resume: bool,
    lock: FolderLock | None,
) -> tuple[RunFolder, TrainConfig, Path | None, dict[str, Any] | None]:
    """The folder of the run, its configuration, and the save to resume from with its state.

    Process 0 chooses the folder and the save for all; a new run has no save. Processes that a
    launcher has started again go on by the configuration that the run has written.

    Raises:
        FileExistsError: a new run is asked for, and the folder is not empty.
        BlockingIOError: another process writes the run.
        FileNotFoundError, ValueError: a run is to be resumed, and no save is good.
    """
    folder = RunFolder(fabric.broadcast(str(path)), lock)
    if not resume and is_restarted() and fabric.broadcast(folder.can_resume()):
        given = {name: getattr(config, name) for name in OF_THE_MACHINE}
        resume, config = True, replace(read_config(folder.config), **given)
    if not resume:
        if rank() == 0:
            folder.require_empty()
        if config.minutes is not None:  # until `fit_into_minutes` has measured
            config = replace(config, steps=MOST)
        return folder, config, None, None
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
    return folder, config, save, checkpoint


def usable_data(
    config: TrainConfig,
    data: DataSets | None,
    transform: Callback | None,
    source: CCNet | None,
    save: Path | None,
    checkpoint: dict[str, Any] | None,
) -> tuple[TrainConfig, DataSets, BandsOfRun]:
    """The data, of which a part is read now, the configuration with their class weights, and bands.

    `source` is the model that the run starts from.
    """
    training, validation = open_data(config.data) if data is None else data
    if rank() == 0:
        say_notes(training, validation)
        warn_of_shared(training, validation)
    with naming(save):
        bands = choose_bands_of_run(config, training, source, checkpoint)
    sets = bands.applied(training), bands.applied(validation)
    require_usable(*sets)
    with naming(save):
        config = with_class_weights(config, sets[0], checkpoint)
    if rank() == 0 and transform is None:
        warn_of_ohem(config, sets[0])
    return config, sets, bands


def compared(
    now: Provenance,
    folder: RunFolder,
    checkpoint: dict[str, Any] | None,
    accept_new_data: bool,
) -> tuple[Provenance, set[str]]:
    """The data with which a run goes on, and the splits that changed since its save.

    Raises:
        DataError: the classes changed; or images did, which `accept_new_data` would accept.
    """
    if checkpoint is None:
        return now, set()
    if not folder.data.exists():
        if rank() == 0:
            words = "it was made by an earlier version, so its data are not compared with these"
            print(f"{folder.path} has no {folder.data.name}: {words}", file=sys.stderr)
        return now, set()
    before = read_provenance(folder.data)
    changed = {change.split for change in now.changes_since(before)}
    step = checkpoint["step"]
    resumed = now.resumed_from(before, folder.data, step, accept_new_data=accept_new_data)
    return resumed, changed


def first_network(
    config: TrainConfig,
    data: SegmentationDataset,
    init: str | Path | None,
    source: CCNet | None,
    bands: BandsOfRun,
    save: Path | None,
    checkpoint: dict[str, Any] | None,
) -> tuple[TrainConfig, CCNet]:
    """The network of the run, and the configuration with the architecture of that in `init`."""
    if source is not None:
        config = config_from(source, config)
        if rank() == 0:
            words = describe_start(source, config, data.classes)
            print(f"starts from {init}: {words}", file=sys.stderr)
    with naming(save):
        return config, new_model(config, data, source, checkpoint, bands.arguments)


def name_of_validation(config: TrainConfig, data: DataSets | None) -> dict[str, str]:
    """The data set and the split that validations are of, as a model's metrics name them."""
    if data is None:
        return {"dataset": config.data.name, "split": config.data.val_split}
    return {"dataset": type(data[1]).__name__, "split": "validation"}


def place(model: CCNet, config: TrainConfig, device: torch.device) -> None:
    """Move the model to the device, into its layout, and synchronize its norms if asked to."""
    model.to(device)
    if not is_sharded(config):  # FSDP takes contiguous weights only
        model.to(memory_format=memory_layout(config))  # pyright: ignore[reportCallIssue]
    if device.type == "cuda" and num_processes() > 1 and config.sync_norms:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)


def wrapped(model: CCNet, config: TrainConfig, fabric: Fabric) -> Any:
    """The model in training mode, compiled if asked for, and set up for this process's device."""
    to_training_mode(model, config.freeze, config.freeze_norms)
    network: Any = torch.compile(model, dynamic=True) if config.compile else model
    return fabric.setup_module(network)


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
    provenance: Provenance,
    sets: DataSets,
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
    else:
        own = read_config(folder.config)
        if own.data.root != config.data.root:
            folder.write_config(replace(own, data=replace(own.data, root=config.data.root)))
    folder.write_data(provenance)
    write_lists(folder.lists, train=sets[0], val=sets[1])
    folder.start_log(state.step, state.validated)
    return TrainingProgress(config, folder, state.step, provenance.training.number)
