"""From a configuration to the parts of a run: data, frozen parts, optimizer, schedule, loss."""

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from functools import cache, partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler, OneCycleLR
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from ccnet.config import DataConfig, LossConfig, OptimizerConfig, TrainConfig
from ccnet.datasets import Scenes, SegmentationDataset, open_dataset
from ccnet.losses import SegmentationLoss
from ccnet.losses.class_weights import measured_weights
from ccnet.losses.consistency import CategoryConsistency
from ccnet.models.ccnet import CCNet
from ccnet.models.recompute import recompute

BATCH_NORMS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def open_data(config: DataConfig) -> tuple[SegmentationDataset, SegmentationDataset]:
    """Training and validation data."""
    if config.name == "scenes":
        return Scenes("train", num_images=config.num_images), Scenes("val")
    training, validation = (
        open_dataset(config.name, config.root, split, division=config.division())
        for split in (config.train_split, config.val_split)
    )
    return training, validation


def build_moving_average(config: TrainConfig, model: CCNet) -> AveragedModel | None:
    """A copy of the model whose weights and buffers follow it, if `ema_decay` is given."""
    if config.ema_decay is None:
        return None
    decay = get_ema_multi_avg_fn(config.ema_decay)
    return AveragedModel(model, multi_avg_fn=decay, use_buffers=True)


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

    def forward(
        self, features: Tensor, *others: Any, **options: Any
    ) -> Tensor | tuple[Tensor, ...]:
        return recompute(super().forward, features, *others, **options)

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


def with_class_weights(
    config: TrainConfig, data: SegmentationDataset, checkpoint: Mapping[str, Any] | None
) -> TrainConfig:
    """The configuration with numbers in the place of `loss.class_weights=auto`.

    They are those of the save, if the run is resumed, or measured from the training data.
    """
    if config.loss.class_weights != "auto":
        return config
    if checkpoint is None:
        weights = measured_weights(data)
    else:
        weights = checkpoint["config"]["loss"]["class_weights"]
    return replace(config, loss=replace(config.loss, class_weights=weights))


def build_loss(config: TrainConfig) -> SegmentationLoss:
    """The loss of a run, whose class weights are numbers."""
    options = {field.name: getattr(config.loss, field.name) for field in fields(config.loss)}
    constants = asdict(options.pop("consistency"))
    del constants["channels"]  # of the network
    if options["class_weights"] is not None:
        options["class_weights"] = torch.tensor(options["class_weights"])
    return SegmentationLoss(**options, consistency=CategoryConsistency(**constants))


def warn_of_ohem(config: TrainConfig, data: SegmentationDataset) -> None:
    """Say on standard error if OHEM keeps all pixels of a batch, and so does nothing."""
    kept, augment = config.loss.ohem_min_kept, config.data.augment
    if config.loss.ohem_threshold is None or kept < 1:
        return
    height, width = data[0][1].shape if augment is None else augment.crop_size
    if kept >= config.batch_size * height * width:
        print(
            f"warning: loss.ohem_min_kept is {kept:.0f}, and a batch of {config.batch_size} images "
            f"of {width}×{height} has {config.batch_size * height * width} pixels: OHEM leaves "
            f"none of them out; a share works for every size, such as {LossConfig().ohem_min_kept}",
            file=sys.stderr,
        )
