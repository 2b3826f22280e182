"""Training: set-up, and one visible loop on Lightning Fabric."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric.utilities.seed import seed_everything
from torch import nn
from torch.optim import Optimizer
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ccnet.config import TrainConfig
from ccnet.metrics import Scores
from ccnet.models.ccnet import CCNet
from ccnet.models.loading import load_model
from ccnet.prediction.evaluate import evaluate
from ccnet.prediction.predictor import Predictor
from ccnet.runtime import engine
from ccnet.runtime.launch import is_restarted
from ccnet.runtime.processes import (
    leaving_cleanly,
    num_processes,
    rank,
    sum_over_processes,
    take_buffers_of_first,
)
from ccnet.runtime.signals import StopSignals
from ccnet.training.assembly import (
    build_loss,
    build_model,
    build_optimizer,
    build_scheduler,
    inherited,
    new_model,
    open_data,
    to_training_mode,
)
from ccnet.training.failures import describe_failure, explaining_out_of_memory
from ccnet.training.progress import Silence, TrainingProgress
from ccnet.training.run_folder import RunFolder
from ccnet.training.samples import AugmentedDataset, Callback, TrainingBatches, new_loader
from ccnet.training.state import TrainingState, whole
from ccnet.training.steps import (
    advance,
    agree,
    clip_gradient,
    next_step,
    put_back,
    seed_part,
    survey,
    without_exchange,
)

MOST_SKIPPED_IN_A_ROW = 20  # float16's first scale, 2¹⁶, is then 2⁻⁴


def train(
    config: TrainConfig,
    run: str | Path,
    *,
    init: str | Path | None = None,
    resume: bool = False,
    transform: Callback | None = None,
) -> Scores | None:
    """Train a CCNet; return the scores of the last validation, None if there was none.

    SIGINT (Ctrl-C) and SIGTERM save after the step in hand, then raise KeyboardInterrupt. With
    several processes (`runtime.engine`) every one of them makes this call, and rank 0 alone writes.

    Args:
        config: of the run; to resume, the run's own.
        run: folder for everything the run leaves (see `ccnet.training.run_folder`).
        init: model folder to start from: its weights, normalisation, and what else of its
            architecture no flag gives; its classes must be the data's.
        resume: go on with the run in this folder from its last save; so does, without being asked,
            a process that torchrun or SLURM has started again.
        transform: callable(image, label) → (image, label) on uint8 arrays (H, W, 3) and (H, W), in
            place of `config.data.augment`.

    Raises:
        FileExistsError: the folder holds something and `resume` is false.
        FloatingPointError: a loss or gradient wasn't finite; the last save is kept.
        MemoryError: the step doesn't fit the memory; the message says what takes less.
        ValueError: the data, the weights or the configuration don't fit together.
    """
    with leaving_cleanly(), explaining_out_of_memory(config):
        return train_in_process(config, run, init, resume, transform)


def train_in_process(
    config: TrainConfig,
    run: str | Path,
    init: str | Path | None,
    resume: bool,
    transform: Callback | None,
) -> Scores | None:
    fabric = engine.start(
        config.device, config.devices, config.num_nodes, config.strategy, config.precision
    )
    is_first, is_sharded = rank() == 0, config.strategy == "fsdp" and num_processes() > 1
    folder = RunFolder(fabric.broadcast(str(run)))
    resume = resume or (is_restarted() and fabric.broadcast(folder.can_resume()))
    checkpoint = None
    if resume:
        path, checkpoint = folder.newest() if is_first else (Path(), None)
        path = fabric.broadcast(path)
        if is_first:
            folder.repair()
        else:
            checkpoint = folder.read(path)
    elif is_first:
        folder.require_empty()

    data, validation_data = open_data(config.data)
    seed_everything(config.seed, verbose=False)
    source = None if init is None or resume else load_model(init)
    model = new_model(config, data, source, checkpoint)
    layout = torch.channels_last if config.channels_last else torch.contiguous_format
    model.to(fabric.device)
    if not is_sharded:  # which takes contiguous weights only
        model.to(memory_format=layout)  # pyright: ignore[reportCallIssue]
    if fabric.device.type == "cuda" and num_processes() > 1 and config.sync_norms:
        nn.SyncBatchNorm.convert_sync_batchnorm(model)
    replica = None
    if is_sharded:
        replica = build_model(config, data, pretrained=None, **inherited(model))
        replica.to(fabric.device)
    to_training_mode(model, config.freeze, config.freeze_norms)
    network: Any = torch.compile(model, dynamic=True) if config.compile else model
    network = fabric.setup_module(network)
    optimizer = build_optimizer(config.optimizer, model)
    fabric_optimizer = cast(Optimizer, fabric.setup_optimizers(optimizer))
    scheduler = build_scheduler(config.optimizer, optimizer, config.steps)
    criterion = build_loss(config, fabric.device)

    others: dict[str, Any] = {"scheduler": scheduler}
    if (scaler := engine.scaler(fabric)) is not None:
        others["scaler"] = scaler
    average = None
    if config.ema_decay is not None:
        if is_sharded:
            raise ValueError("fsdp keeps no moving average; strategy=ddp does")
        decay = get_ema_multi_avg_fn(config.ema_decay)
        average = others["average"] = AveragedModel(model, multi_avg_fn=decay, use_buffers=True)
    state = TrainingState(model, optimizer, others)
    if checkpoint is not None:
        state.load(checkpoint)
    del checkpoint

    batches = TrainingBatches(
        len(data),
        config.batch_size,
        config.steps,
        config.seed,
        start=state.step,
        process=rank(),
        num_processes=num_processes(),
        parts=config.accumulate,
    )
    augment = config.data.augment if transform is None else transform
    samples = AugmentedDataset(data, augment, config.seed)
    loader: Any = fabric.setup_dataloaders(
        new_loader(samples, batches, config.num_workers, pinned=fabric.device.type == "cuda"),
        use_distributed_sampler=False,
    )
    learned = replica or (model if average is None else cast(CCNet, average.module))
    precision = engine.precision_of(fabric)
    predictor = Predictor(learned, device=str(fabric.device), precision=precision)
    progress = Silence()
    if is_first:
        if not resume:
            folder.create(replace(config, precision=precision), fabric.device, num_processes())
        folder.start_log(state.step, state.validated)
        progress = TrainingProgress(config, folder, state.step, len(data))
    saved_step, saved_time = state.step if resume else -1, time.monotonic()

    def save() -> None:
        nonlocal saved_step, saved_time
        content = state.to_dict()  # of all processes
        if is_first:
            folder.save(content)
        saved_step, saved_time = state.step, time.monotonic()

    def save_is_due() -> bool:
        seconds = time.monotonic() - saved_time
        return state.step - saved_step >= config.save_every or seconds >= config.save_seconds

    def validate() -> Scores:
        if replica is not None:
            replica.load_state_dict(whole(model.state_dict()))
        take_buffers_of_first(learned)
        scores = evaluate(
            predictor,
            validation_data,
            num_workers=config.num_workers,
            progress=progress.validating,
        )
        is_best = scores.miou > state.best_miou
        state.best_miou = max(scores.miou, state.best_miou)
        measured = {"dataset": config.data.name, "split": config.data.val_split}
        learned.metrics = {**measured, "step": state.step, **scores.to_dict()}
        if is_first:
            if is_best:
                folder.save_model(learned, folder.best_model)
            folder.save_model(learned, folder.last_model)
        progress.validated(state.step, scores)
        state.validated = state.step
        save()
        return scores

    scores = None
    if saved_step < 0:
        save()
    with progress, StopSignals() as stop:
        if state.validation_is_due(config):  # the run was stopped in one
            scores = validate()
        batches_read = iter(loader)
        while state.step < config.steps:
            parts, waited, failure = next_step(batches_read, config.accumulate)
            flags = (stop.requested, is_first and save_is_due(), failure is not None)
            stopping, saving, failing = agree(flags, fabric.device)
            if (stopping or saving or failing) and state.step > saved_step:
                save()
            if (stopping or failing) and num_processes() > 1:
                fabric.barrier()  # none leaves while the first still writes
            if failing:
                del batches_read
                raise failure or ConnectionError("another process failed; its error is above")
            if stopping:
                raise KeyboardInterrupt

            statistics = [buffer.clone() for buffer in model.buffers()]
            divisors = None
            if len(parts) > 1:
                divisors = survey(criterion, network, model, parts, layout, config.seed, state.step)
            losses = []
            for index, (images, labels) in enumerate(parts):
                seed_part(config.seed, state.step, index)
                with without_exchange(fabric, network, until_last=index + 1 < len(parts)):
                    images = model.normalize(images).contiguous(memory_format=layout)
                    loss = criterion(network(images, auxiliary=True), labels, divisors)
                    fabric.backward(loss)
                losses.append(loss.detach())
            norm = clip_gradient(fabric, network, fabric_optimizer, config.optimizer.clip_norm)
            loss = sum_over_processes(torch.stack(losses).sum()) / num_processes()
            learns = bool(loss.isfinite() and norm.isfinite())
            # too large a scale of float16's loss shows in the norm alone; the scaler sees to it
            is_overflow = scaler is not None and bool(loss.isfinite())
            state.skipped_in_a_row = 0 if learns else state.skipped_in_a_row + 1
            if learns or is_overflow:
                fabric_optimizer.step()
            elif scaler is not None:  # which has unscaled gradients that no step takes
                scaler.update()
            if learns and average is not None:
                average.update_parameters(model)
            if not learns:
                put_back(model, statistics)
                may_go_on = is_overflow or config.non_finite == "skip"
                if is_overflow and state.skipped_in_a_row < MOST_SKIPPED_IN_A_ROW:
                    report = f"step {state.step} overflows float16, whose loss scale is halved"
                else:
                    report = describe_failure(
                        state.step, loss, norm, losses, batches, data.name, model
                    )
                if not may_go_on or state.skipped_in_a_row == MOST_SKIPPED_IN_A_ROW:
                    raise FloatingPointError(f"{report}\n{folder.path} holds what is from before")
                progress.say(f"left out: {report}")
            fabric_optimizer.zero_grad()
            lr = optimizer.param_groups[0]["lr"]
            advance(scheduler)
            state.step += 1
            state.unlogged.append((loss.item(), norm.item()))
            progress.step(state.step, waited)
            if state.row_is_due(config):
                progress.row(state.step, state.unlogged, lr)
                state.unlogged.clear()
            if state.validation_is_due(config):
                save()  # whatever becomes of the validation
                scores = validate()
    return scores
