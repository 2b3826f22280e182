"""From a configuration to the parts of a run: data, network, optimizer, schedule and loss."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, fields
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ccnet.config import DataConfig, ModelConfig, OptimizerConfig, TrainConfig
from ccnet.datasets import Scenes, SegmentationDataset, open_dataset
from ccnet.losses import SegmentationLoss
from ccnet.models.arguments import ADDED
from ccnet.models.ccnet import CCNet
from ccnet.models.loading import require_same_classes
from ccnet.models.recompute import recompute
from ccnet.training.checkpoint import require_inherited, require_weights
from ccnet.weights import differences

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)

OPEN_FLAGS = ("stem", "dilation", "ceil_mode", "reduction", "shared", "auxiliary_bias")
OPEN_FLAGS += ("refinement",)
"""Flags that leave a choice to the model that a run starts from, unless they are given."""


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
    """The network of a run.

    Args:
        config: of the run.
        data: gives the classes.
        source: model to start from. None: initialized weights.
        checkpoint: of a run that is resumed; its weights are loaded, and `source` does not count.
    """
    if checkpoint is not None:
        model = build_model_of_save(config, data, checkpoint)
    elif source is not None:
        model = build_model_from(source, config, data)
    else:
        model = build_model(config, data)
    freeze(model, config.freeze, config.freeze_norms)
    recompute_parts(model, config.recompute)
    return model


def build_model(config: TrainConfig, data: SegmentationDataset, **changes: Any) -> CCNet:
    """A network for the classes of the data.

    Args:
        config: of the run.
        data: gives the classes and their colors.
        **changes: arguments of `CCNet` that replace those of the configuration.

    Raises:
        ValueError: the configuration has another number of class weights than there are classes.
    """
    weights = config.loss.class_weights
    if weights is not None and len(weights) != len(data.classes):
        raise ValueError(f"{len(weights)} class weights for {len(data.classes)} classes")
    arguments = {**asdict(config.model), **changes}
    return CCNet(len(data.classes), classes=data.classes, palette=data.palette, **arguments)


def build_model_of_save(
    config: TrainConfig, data: SegmentationDataset, checkpoint: dict[str, Any]
) -> CCNet:
    """The network of a run that is resumed, with its weights.

    A first one on the meta device, which takes no memory, says whether the weights fit.

    Raises:
        ValueError: the save is of another network.
    """
    arguments = checkpoint["inherited"]
    with torch.device("meta"):
        model = build_model(config, data, pretrained=None)
        require_inherited(arguments, dict.fromkeys(ADDED) | inherited(model))
        model = build_model(config, data, pretrained=None, **arguments)
    require_weights(checkpoint["model"], model.state_dict())
    model = build_model(config, data, pretrained=None, **arguments)
    model.load_state_dict(checkpoint["model"])
    return model


def build_model_from(source: CCNet, config: TrainConfig, data: SegmentationDataset) -> CCNet:
    """A network with the weights of another model, and with its arguments that no flag gives.

    Raises:
        ValueError: the model has other classes, another architecture, or not 3 channels.
    """
    require_same_classes(source, data.classes)
    refinement = config.model.refinement
    if refinement is not None and refinement != source.arguments.get("refinement"):
        source = source.adapted(refinement=refinement)
    for name in ("activation", *OPEN_FLAGS):  # weights that fit would give another function
        own, asked = source.arguments.get(name), getattr(config.model, name)
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
        raise ValueError(f"the weights to start from do not fit the network: {problems}")
    model.load_state_dict(weights)
    return model


def build_replica(config: TrainConfig, data: SegmentationDataset, model: CCNet) -> CCNet:
    """A network for the full weights of `model`, on its device, before `model` is sharded.

    Processes validate different numbers of images, so they cannot call a sharded model together.

    Raises:
        ValueError: the configuration asks for a moving average, which a sharded model has not.
    """
    if config.ema_decay is not None:
        raise ValueError("fsdp keeps no moving average; strategy=ddp does")
    replica = build_model(config, data, pretrained=None, **inherited(model))
    return replica.to(next(model.parameters()).device)


def build_moving_average(config: TrainConfig, model: CCNet) -> AveragedModel | None:
    """A copy of the model whose weights and buffers follow it, if `ema_decay` is given."""
    if config.ema_decay is None:
        return None
    decay = get_ema_multi_avg_fn(config.ema_decay)
    return AveragedModel(model, multi_avg_fn=decay, use_buffers=True)


def inherited(model: CCNet) -> dict[str, Any]:
    """Arguments of a model that neither flags nor data determine: normalization, stem, ..."""
    given = {field.name for field in fields(ModelConfig)} - set(OPEN_FLAGS)
    given |= {"num_classes", "classes", "palette", "metrics"}
    return {name: value for name, value in model.arguments.items() if name not in given}


def freeze(model: CCNet, parts: Sequence[str], norms: bool) -> None:
    """Stop parts of the model from learning, including their batch normalization's statistics.

    Args:
        model: is changed.
        parts: names of its modules.
        norms: freeze batch normalization in the whole model.

    Raises:
        ValueError: there is no such part, or nothing is left to train.
    """
    for part in named_parts(model, parts):
        part.requires_grad_(False)
    for norm in frozen_norms(model, parts, norms):
        norm.requires_grad_(False)
    if not any(p.requires_grad for p in model.parameters()):
        raise ValueError("everything is frozen: nothing is left to train")


def to_training_mode(model: CCNet, parts: Sequence[str], norms: bool) -> None:
    """Training mode for everything except the batch normalization that `freeze` stopped."""
    model.train()
    for norm in frozen_norms(model, parts, norms):
        norm.eval()


def frozen_norms(model: CCNet, parts: Sequence[str], norms: bool) -> Iterator[nn.Module]:
    for part in [model] if norms else named_parts(model, parts):
        yield from (module for module in part.modules() if isinstance(module, BATCH_NORMS))


def recompute_parts(model: CCNet, parts: Sequence[str]) -> None:
    """Keep only the input of parts for the backward pass, which then runs the parts again.

    Only the classes of the parts change, as under FSDP2: their names, parameters, attributes and
    hooks stay as they are, and the model can be copied and pickled.

    Raises:
        ValueError: there is no such part.
    """
    for part in named_parts(model, parts):
        if not isinstance(part, Recomputed):
            part.__class__ = recomputed(type(part))


class Recomputed(nn.Module):
    """Activation checkpointing of the forward pass of the class that follows in a subclass."""

    def forward(self, features: Tensor, *others: Any) -> Tensor:
        return recompute(super().forward, features, *others)

    def __reduce_ex__(self, protocol: Any) -> Any:
        classes = type(self).__mro__
        original = classes[classes.index(Recomputed) + 1]
        return new_recomputed, (original,), self.__getstate__()


@cache
def recomputed(original: type[nn.Module]) -> type[nn.Module]:
    """A subclass of a module's class that recomputes its forward pass."""
    return type(f"Recomputed{original.__name__}", (Recomputed, original), {})


def new_recomputed(original: type[nn.Module]) -> nn.Module:
    """An empty module for pickle and deepcopy to fill."""
    subclass = recomputed(original)
    return subclass.__new__(subclass)


def named_parts(model: CCNet, names: Sequence[str]) -> list[nn.Module]:
    """The model's modules of some names.

    Raises:
        ValueError: there is no such module; the message lists some that there are.
    """
    known = dict(model.named_modules())
    for name in names:
        if name not in known or not name:
            stages = [key for key in known if key.count(".") == 1] + ["auxiliary_head"]
            raise ValueError(f"the network has no part {name!r}; it has {', '.join(stages)}")
    return [known[name] for name in names]


def build_optimizer(config: OptimizerConfig, model: CCNet) -> Optimizer:
    """An optimizer of the parameters that learn, with a group per learning rate and decay."""
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
    """The schedule of the learning rate over `steps` steps.

    Raises:
        ValueError: the warm-up is longer than the run, or the schedule is one_cycle.
    """
    if config.schedule == "one_cycle":
        if config.warmup_steps:
            raise ValueError("one_cycle rises by itself: warmup_steps belongs to schedule=poly")
        peaks = [group["lr"] for group in optimizer.param_groups]
        return OneCycleLR(optimizer, cast(Any, peaks), total_steps=steps)
    if not 0 <= config.warmup_steps <= steps:
        raise ValueError(f"warmup_steps must be 0 to {steps}, the steps, got {config.warmup_steps}")
    return LambdaLR(optimizer, partial(poly, config, steps))


def poly(config: OptimizerConfig, steps: int, step: int) -> float:
    """The learning rate at a step, counted from 0, as a share of its peak."""
    final = config.final_lr / config.lr if config.lr > 0 else 0.0
    share = final + (1 - final) * (1 - step / steps) ** config.power
    if step < config.warmup_steps:
        share *= (step + 1) / (config.warmup_steps + 1)
    return share


def build_loss(config: TrainConfig) -> SegmentationLoss:
    loss, weights = config.loss, None
    if loss.class_weights is not None:
        weights = torch.tensor(loss.class_weights)
    return SegmentationLoss(loss.auxiliary_weight, weights, loss.ohem_threshold, loss.ohem_min_kept)
