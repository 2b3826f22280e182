"""Training: set-up, and one visible loop on Lightning Fabric."""

import math
import signal
import threading
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.utilities.seed import seed_everything
from torch import Tensor
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LRScheduler, OneCycleLR, PolynomialLR
from torch.utils.data import DataLoader

from ccnet.checkpoint import RunFolder
from ccnet.config import DataConfig, OptimizerConfig, TrainConfig
from ccnet.datasets import (
    AugmentedDataset,
    Scenes,
    SegmentationDataset,
    TrainingBatches,
    open_dataset,
)
from ccnet.datasets.augmented import (
    Callback,
    collate,
    leave_signals_to_the_main_process,
)
from ccnet.evaluate import evaluate
from ccnet.losses import segmentation_loss
from ccnet.metrics import Scores
from ccnet.models import CCNet
from ccnet.predict import (
    Predictor,
    load_model,
    pick_device,
    pick_precision,
    require_same_classes,
)
from ccnet.progress import TrainingProgress

FABRIC_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed"}


def train(
    config: TrainConfig,
    run: str | Path,
    *,
    init: str | Path | None = None,
    resume: bool = False,
    transform: Callback | None = None,
) -> Scores | None:
    """Train a CCNet; return the scores of the last validation, None if there was none.

    SIGINT (Ctrl-C) and SIGTERM save after the step in hand, then raise KeyboardInterrupt.

    Args:
        config: of the run; to resume, the run's own.
        run: folder for everything the run leaves (see `ccnet.checkpoint`).
        init: model folder whose weights and normalisation to start from; its classes must be the
            data's.
        resume: go on with the run in this folder from its last save.
        transform: callable(image, label) → (image, label) on uint8 arrays (H, W, 3) and (H, W), in
            place of `config.data.augment`.

    Raises:
        FileExistsError: the folder holds something and `resume` is false.
        FloatingPointError: the loss stopped being finite; the last save is kept.
        ValueError: the data, the weights or the configuration don't fit together.
    """
    folder = RunFolder(run)
    checkpoint = folder.load() if resume else None
    if checkpoint is None:
        folder.require_empty()
    device = pick_device(config.device)
    precision = pick_precision(config.precision, device)
    data, validation_data = open_data(config.data)
    seed_everything(config.seed, verbose=False)
    if checkpoint is not None:  # all weights are in it
        model = build_model(config, data, pretrained=None, **checkpoint["normalisation"])
    elif init is not None:
        model = build_model_from(load_model(init), config, data)
    else:
        model = build_model(config, data)
    optimizer = build_optimizer(config.optimizer, model)
    scheduler = build_scheduler(config.optimizer, optimizer, config.steps)
    fabric = Fabric(
        accelerator=device.type,
        devices=1 if device.index is None else [device.index],
        precision=cast(Any, FABRIC_PRECISION[precision]),
    )
    network, fabric_optimizer = fabric.setup(model, optimizer)
    state = State(model, optimizer, scheduler)
    if checkpoint is not None:
        state.load(checkpoint)
    augment = config.data.augment if transform is None else transform
    samples = AugmentedDataset(data, augment, config.seed)
    batches = TrainingBatches(
        len(data), config.batch_size, config.steps, config.seed, start=state.step
    )
    loader = DataLoader(
        samples,
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=config.num_workers,
        generator=torch.Generator(),  # its own: the global one belongs to dropout
        worker_init_fn=leave_signals_to_the_main_process,
        pin_memory=device.type == "cuda",
    )
    loader = fabric.setup_dataloaders(loader, use_distributed_sampler=False)
    class_weights = None
    if config.loss.class_weights is not None:
        class_weights = torch.tensor(config.loss.class_weights, device=fabric.device)
    predictor = Predictor(model, device=str(fabric.device), precision=precision)
    scores = None
    if checkpoint is None:
        folder.create(config)
        folder.save(state.to_dict())
    folder.start_log(state.step)

    def validate() -> Scores:
        scores = evaluate(
            predictor,
            validation_data,
            num_workers=config.num_workers,
            progress=progress.validating,
        )
        measured = {"dataset": config.data.name, "split": config.data.val_split}
        model.metrics = {**measured, "step": state.step, **scores.to_dict()}
        if scores.miou > state.best_miou:
            state.best_miou = scores.miou
            folder.save_model(model, folder.best_model)
        folder.save_model(model, folder.last_model)
        state.validated = state.step
        folder.save(state.to_dict())
        progress.validated(state.step, scores)
        return scores

    network.train()
    with TrainingProgress(config, folder, state.step, len(data)) as progress, StopSignals() as stop:
        if state.validation_is_due(config):  # the run was stopped in one
            scores = validate()
        for images, labels in saving_on_failure(loader, folder, state):
            if config.channels_last:
                images = images.to(memory_format=torch.channels_last)
            logits = network(model.normalize(images), auxiliary=True)
            loss = segmentation_loss(
                logits,
                labels,
                auxiliary_weight=config.loss.auxiliary_weight,
                class_weights=class_weights,
            )
            check_finite(loss, state.step, folder)
            fabric_optimizer.zero_grad()
            fabric.backward(loss)
            if config.optimizer.clip_norm is not None:
                fabric.clip_gradients(
                    network, fabric_optimizer, max_norm=config.optimizer.clip_norm
                )
            fabric_optimizer.step()
            progress.step(state.step + 1, loss.detach(), optimizer.param_groups[0]["lr"])
            scheduler.step()
            state.step += 1

            if state.validation_is_due(config):
                folder.save(state.to_dict())  # whatever becomes of the validation
                scores = validate()
            if stop.requested:
                folder.save(state.to_dict())
                raise KeyboardInterrupt
    return scores


class State:
    """What changes from step to step and a resumed run needs."""

    def __init__(self, model: CCNet, optimizer: Optimizer, scheduler: LRScheduler) -> None:
        self.normalisation = normalisation(model)
        self.parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        self.step = 0
        self.validated = 0  # step of the last validation
        self.best_miou = -math.inf

    def validation_is_due(self, config: TrainConfig) -> bool:
        at_end = self.step == config.steps
        return self.step > self.validated and (at_end or self.step % config.validate_every == 0)

    def to_dict(self) -> dict[str, Any]:
        states = {name: part.state_dict() for name, part in self.parts.items()}
        return {
            **states,
            "normalisation": self.normalisation,
            "step": self.step,
            "validated": self.validated,
            "best_miou": self.best_miou,
            "random_state": torch.get_rng_state(),
            "cuda_random_states": torch.cuda.get_rng_state_all(),
        }

    def load(self, checkpoint: dict[str, Any]) -> None:
        for name, part in self.parts.items():
            part.load_state_dict(checkpoint[name])
        self.step = checkpoint["step"]
        self.validated = checkpoint["validated"]
        self.best_miou = checkpoint["best_miou"]
        torch.set_rng_state(checkpoint["random_state"])
        if len(checkpoint["cuda_random_states"]) == torch.cuda.device_count():
            torch.cuda.set_rng_state_all(checkpoint["cuda_random_states"])


def saving_on_failure(
    loader: Iterable[Any], folder: RunFolder, state: State
) -> Iterator[tuple[Tensor, Tensor]]:
    """The loader's batches; where one can't be read, what was learned so far is saved first."""
    try:
        yield from loader
    except Exception:
        folder.save(state.to_dict())
        raise


class StopSignals:
    """SIGINT and SIGTERM become a request that the loop looks at; a second one stops at once."""

    def __init__(self) -> None:
        self.requested = False
        self.previous = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():  # elsewhere Python allows none
            for number in (signal.SIGINT, signal.SIGTERM):
                self.previous[number] = signal.signal(number, self.request)
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    def request(self, *_: object) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True


def open_data(config: DataConfig) -> tuple[SegmentationDataset, SegmentationDataset]:
    """Training and validation data."""
    if config.name == "scenes":
        return Scenes("train", num_images=config.num_images), Scenes("val")
    training = open_dataset(config.name, config.root, config.train_split)
    return training, open_dataset(config.name, config.root, config.val_split)


def build_model(config: TrainConfig, data: SegmentationDataset, **changes: Any) -> CCNet:
    """A network for the data's classes; `changes` go before the configuration."""
    weights = config.loss.class_weights
    if weights is not None and len(weights) != len(data.classes):
        raise ValueError(f"{len(weights)} class weights for {len(data.classes)} classes")
    arguments = {**asdict(config.model), **changes}
    model = CCNet(len(data.classes), classes=data.classes, palette=data.palette, **arguments)
    if config.channels_last:
        model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    return model


def build_model_from(source: CCNet, config: TrainConfig, data: SegmentationDataset) -> CCNet:
    """The same with the weights and the normalisation of another model of the same classes."""
    require_same_classes(source, data.classes)
    model = build_model(config, data, pretrained=None, **normalisation(source))
    try:
        model.load_state_dict(source.state_dict())
    except RuntimeError as error:
        raise ValueError(f"the weights to start from don't fit the network: {error}") from error
    return model


def normalisation(model: CCNet) -> dict[str, list[float]]:
    return {"mean": model.mean.flatten().tolist(), "std": model.std.flatten().tolist()}


def build_optimizer(config: OptimizerConfig, model: CCNet) -> Optimizer:
    parameters = [p for p in model.parameters() if p.requires_grad]
    if config.name == "adamw":
        return AdamW(parameters, config.lr, weight_decay=config.weight_decay)
    return SGD(parameters, config.lr, config.momentum, weight_decay=config.weight_decay)


def build_scheduler(config: OptimizerConfig, optimizer: Optimizer, steps: int) -> LRScheduler:
    if config.schedule == "one_cycle":
        return OneCycleLR(optimizer, config.lr, total_steps=steps)
    return PolynomialLR(optimizer, steps, config.power)


def check_finite(loss: Tensor, step: int, folder: RunFolder) -> None:
    if not loss.isfinite():
        raise FloatingPointError(
            f"the loss is {loss.item()} at step {step}; what {folder.path} holds is from before. "
            "A lower optimizer.lr, optimizer.clip_norm or precision=float32 may help"
        )
