"""From a configuration to the parts of a run: data, network, optimizer, schedule and loss."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from functools import partial
from typing import Any, cast

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR

from ccnet.config import DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from ccnet.datasets import Scenes, SegmentationDataset, open_dataset
from ccnet.losses import SegmentationLoss
from ccnet.models.ccnet import CCNet
from ccnet.models.loading import require_same_classes
from ccnet.models.recompute import recompute
from ccnet.weights import differences

# Flags that leave a choice to the model that a run starts from, unless they are given
OPEN_FLAGS = ("stem", "dilation", "ceil_mode", "reduction", "shared", "auxiliary_bias")


def open_data(config: DataConfig) -> tuple[SegmentationDataset, SegmentationDataset]:
    """Training and validation data."""
    if config.name == "scenes":
        return Scenes("train", num_images=config.num_images), Scenes("val")
    training = open_dataset(config.name, config.root, config.train_split)
    return training, open_dataset(config.name, config.root, config.val_split)


def new_model(
    config: TrainConfig,
    data: SegmentationDataset,
    source: CCNet | None,
    checkpoint: dict[str, Any] | None,
) -> CCNet:
    """The network of a run with the weights of its checkpoint, else of a `source`, if any."""
    if checkpoint is not None:  # all weights are in it
        model = build_model(config, data, pretrained=None, **checkpoint["inherited"])
        model.load_state_dict(checkpoint["model"])
    elif source is not None:
        model = build_model_from(source, config, data)
    else:
        model = build_model(config, data)
    freeze(model, config.freeze, config.freeze_norms)
    recompute_parts(model, config.recompute)
    return model


def build_model(config: TrainConfig, data: SegmentationDataset, **changes: Any) -> CCNet:
    """A network for the data's classes; `changes` go before the configuration."""
    weights = config.loss.class_weights
    if weights is not None and len(weights) != len(data.classes):
        raise ValueError(f"{len(weights)} class weights for {len(data.classes)} classes")
    arguments = {**asdict(config.model), **changes}
    return CCNet(len(data.classes), classes=data.classes, palette=data.palette, **arguments)


def build_model_from(source: CCNet, config: TrainConfig, data: SegmentationDataset) -> CCNet:
    """The same, started from another model of the same classes and of what no flag gives."""
    require_same_classes(source, data.classes)
    for name in ("activation", *OPEN_FLAGS):  # weights that fit would give another function
        own, asked = source.arguments[name], getattr(config.model, name)
        is_open = name in OPEN_FLAGS and asked == getattr(ModelConfig(), name)
        if own != asked and not is_open:
            raise ValueError(
                f"the model to start from has {name} {own}, the configuration {asked}; "
                f"model.{name}={own} would work"
            )
    if source.in_channels != 3:
        raise ValueError(f"the model to start from takes {source.in_channels} channels, data has 3")
    model = build_model(config, data, pretrained=None, **inherited(source))
    weights = source.state_dict()
    if problems := differences(weights, model.state_dict()):
        raise ValueError(f"the weights to start from don't fit the network: {problems}")
    model.load_state_dict(weights)
    return model


def inherited(model: CCNet) -> dict[str, Any]:
    """Arguments of a model that neither flags nor data determine: normalization, stem, ..."""
    given = {field.name for field in fields(ModelConfig)} - set(OPEN_FLAGS)
    given |= {"num_classes", "classes", "palette", "metrics"}
    return {name: value for name, value in model.arguments.items() if name not in given}


def freeze(model: CCNet, parts: Sequence[str], norms: bool) -> None:
    """Parts don't learn any more, and neither do their statistics; `norms`: all normalisation."""
    for part in named_parts(model, parts):
        part.requires_grad_(False)
    for norm in frozen_norms(model, parts, norms):
        norm.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("everything is frozen: nothing is left to train")


def to_training_mode(model: CCNet, parts: Sequence[str], norms: bool) -> None:
    """Everything in training mode but the normalisation that `freeze` took."""
    model.train()
    for norm in frozen_norms(model, parts, norms):
        norm.eval()


def frozen_norms(model: CCNet, parts: Sequence[str], norms: bool) -> Iterator[nn.Module]:
    for part in [model] if norms else named_parts(model, parts):
        yield from (module for module in part.modules() if isinstance(module, _BatchNorm))


def recompute_parts(model: CCNet, parts: Sequence[str]) -> None:
    """Activation checkpointing of parts: see `ccnet.models.recompute`."""
    for part in named_parts(model, parts):
        part.forward = partial(recompute, part.forward)


def named_parts(model: CCNet, names: Sequence[str]) -> list[nn.Module]:
    """Modules by name. Raises ValueError, with the names there are, for one that there isn't."""
    known = dict(model.named_modules())
    for name in names:
        if name not in known or not name:
            stages = [key for key in known if key.count(".") == 1] + ["auxiliary_head"]
            raise ValueError(f"the network has no part {name!r}; it has {', '.join(stages)}")
    return [known[name] for name in names]


def build_optimizer(config: OptimizerConfig, model: CCNet) -> Optimizer:
    """One group a learning rate and a decay, of the parameters that learn."""
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            lr = config.lr * (1 if name.startswith("backbone.") else config.head_lr_factor)
            is_weight = parameter.ndim > 1
            decay = config.weight_decay if is_weight or config.decay_norms else 0.0
            groups.setdefault((lr, decay), []).append(parameter)
    arguments = [
        {"params": parameters, "lr": lr, "weight_decay": decay}
        for (lr, decay), parameters in groups.items()
    ]
    if config.name == "adamw":
        return AdamW(arguments, config.lr)
    return SGD(arguments, config.lr, config.momentum)


def build_scheduler(config: OptimizerConfig, optimizer: Optimizer, steps: int) -> LRScheduler:
    """Raises ValueError for a warm-up that doesn't fit."""
    if config.schedule == "one_cycle":
        if config.warmup_steps:
            raise ValueError("one_cycle rises by itself: warmup_steps belongs to schedule=poly")
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, cast(Any, peaks), total_steps=steps)
    if not 0 <= config.warmup_steps <= steps:
        raise ValueError(f"warmup_steps must be 0 to {steps}, the steps, got {config.warmup_steps}")
    return LambdaLR(optimizer, partial(poly, config, steps))


def poly(config: OptimizerConfig, steps: int, step: int) -> float:
    """The share of its peak that a learning rate has at a step, counted from 0."""
    final = config.final_lr / config.lr if config.lr > 0 else 0.0
    share = final + (1 - final) * (1 - step / steps) ** config.power
    if step < config.warmup_steps:
        share *= (step + 1) / (config.warmup_steps + 1)
    return share


def build_loss(config: TrainConfig, device: torch.device) -> SegmentationLoss:
    loss, weights = config.loss, None
    if loss.class_weights is not None:
        weights = torch.tensor(loss.class_weights, device=device)
    return SegmentationLoss(loss.auxiliary_weight, weights, loss.ohem_threshold, loss.ohem_min_kept)
