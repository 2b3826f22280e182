"""The network of a run: new, of a save that the run is resumed from, or from another model."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from typing import Any

import torch
from torch import Tensor

from ccnet.config import ModelConfig, TrainConfig
from ccnet.datasets import SegmentationDataset
from ccnet.models.arguments import ADDED
from ccnet.models.ccnet import CCNet
from ccnet.runtime.files import printable
from ccnet.saving.checkpoint import require_inherited, require_weights
from ccnet.training.assembly import freeze, recompute_parts
from ccnet.weights import differences

OPEN_FLAGS = ("stem", "dilation", "ceil_mode", "reduction", "shared", "auxiliary_bias")
OPEN_FLAGS += ("refinement",)
"""Flags of which null or the default leaves a choice to the backbone or to a model."""
EMBEDDING = "head.embedding."
"""The weights that belong to the loss of a run, and are not taken over from another model."""
FREE_FLAGS = ("dropout", "recurrence", "output_stride", "align_corners", "refinement")
"""Flags that may differ from those of the model that a run starts from: its weights fit as well,
except those of its refinement and classifier, which are new with another refinement.
"""


def new_model(
    config: TrainConfig,
    data: SegmentationDataset,
    source: CCNet | None,
    checkpoint: dict[str, Any] | None,
    bands: Mapping[str, Any] | None = None,
) -> CCNet:
    """The network of a run.

    Args:
        config: of the run.
        data: gives the classes.
        source: model to start from, to which `config_from` has fitted `config`. None: initialized
            weights.
        checkpoint: of a run that is resumed; its weights are loaded, and `source` does not count.
        bands: arguments of the network for images that are not RGB.
    """
    bands = bands or {}
    if checkpoint is not None:
        model = build_model_of_save(config, data, checkpoint)
    elif source is not None:
        model = build_model_from(source, config, data, bands)
    else:
        model = build_model(config, data, **bands)
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
    arguments = {**asdict(config.model), "embedding_channels": embedding_channels(config)}
    arguments |= changes
    return CCNet(len(data.classes), classes=data.classes, palette=data.palette, **arguments)


def embedding_channels(config: TrainConfig) -> int | None:
    """The width of the embedding that the loss needs; None if it needs none."""
    return config.loss.consistency.channels if config.loss.category_consistent else None


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


def config_from(source: CCNet, config: TrainConfig) -> TrainConfig:
    """The configuration of a run that starts from a model, with the model's architecture.

    A flag that has its default counts as not given.

    Raises:
        ValueError: a flag that is given contradicts the model.
    """
    default, own = ModelConfig(), {}
    for name, asked in asdict(config.model).items():
        found = source.arguments.get(name, asked)
        if asked == getattr(default, name):
            own[name] = found
        elif asked != found and name not in FREE_FLAGS:
            raise ValueError(
                f"the model to start from has {name} {found}, the configuration {asked}; without "
                f"model.{name} the model's is taken"
            )
    return replace(config, model=replace(config.model, **(own | {"pretrained": None})))


def build_model_from(
    source: CCNet,
    config: TrainConfig,
    data: SegmentationDataset,
    bands: Mapping[str, Any] | None = None,
) -> CCNet:
    """A network with the weights of another model, whose architecture the configuration has.

    Of the classifiers, the rows of classes that the model has too, by name, are kept. Another
    refinement than the model's is new, with its classifier. For other bands than the model's, its
    first convolution is adapted.

    Raises:
        ValueError: the model has another architecture, or other channels than the data.
    """
    channels = dict(bands or {}).get("in_channels", 3)
    if bands and bands["bands"] != source.arguments.get("bands"):
        source = source.adapted(**bands)
    if source.in_channels != channels:
        raise ValueError(
            f"the model to start from takes {source.in_channels} channels, data has {channels}"
        )
    refinement = config.model.refinement
    if refinement is not None and refinement != source.arguments.get("refinement"):
        source = source.adapted(refinement=refinement)
    model = build_model(config, data, pretrained=None, **inherited(source))
    weights = {k: v for k, v in source.state_dict().items() if not k.startswith(EMBEDDING)}
    weights |= {k: v for k, v in model.state_dict().items() if k.startswith(EMBEDDING)}
    rows = kept_rows(source.classes, data.classes)
    if rows != list(range(len(source.classes))):
        for name in classifier_weights(source):
            weights[name] = with_rows(weights[name], model.state_dict()[name], rows)
    if problems := differences(weights, model.state_dict()):
        raise ValueError(f"the weights to start from do not fit the network: {problems}")
    model.load_state_dict(weights)
    return model


def kept_rows(own: Sequence[str], classes: Sequence[str]) -> list[int | None]:
    """For each class of the data its number in a model; None for one that the model has not.

    As many classes without names of their own ("class 0", "class 1", ...) are those of the data.
    """
    if list(own) == [f"class {index}" for index in range(len(classes))]:
        return list(range(len(classes)))
    return [own.index(name) if name in own else None for name in classes]


def classifier_weights(model: CCNet) -> list[str]:
    """Names of the weights whose first axis is the classes: those that another number changes."""
    number = model.num_classes + (1 if model.num_classes < 255 else -1)
    others = {"num_classes": number, "classes": None, "palette": None, "metrics": None}
    with torch.device("meta"):
        other = type(model)(**(model.arguments | others)).state_dict()
    return [name for name, value in model.state_dict().items() if value.shape != other[name].shape]


def with_rows(trained: Tensor, initial: Tensor, rows: Sequence[int | None]) -> Tensor:
    """Initial weights of a classifier, with some rows of a trained one."""
    mixed = initial.clone()
    for row, source in enumerate(rows):
        if source is not None:
            mixed[row] = trained[source]
    return mixed


def describe_start(source: CCNet, config: TrainConfig, classes: Sequence[str]) -> str:
    """What a run takes over from a model, and what is new, in words.

    Args:
        source: the model.
        config: what `config_from` has made.
        classes: of the data.
    """
    model = config.model
    rows = kept_rows(source.classes, classes)
    kept = [name for name, row in zip(classes, rows, strict=True) if row is not None]
    new = [name for name in classes if name not in kept]
    gone = [name for row, name in enumerate(source.classes) if row not in rows]
    known = "all of its classes" if not new and not gone else f"classes kept: {listed(kept)}"
    words = [f"{model.backbone}, {model.channels} channels, recurrence {model.recurrence}"]
    if model.refinement != source.arguments.get("refinement"):
        return f"{words[0]}; new: refinement {model.refinement} and its classifier"
    words += [known]
    words += [f"new: {listed(new)}"] * bool(new) + [f"left out: {listed(gone)}"] * bool(gone)
    return "; ".join(words)


def listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 10} more" if names[10:] else ""
    return (", ".join(map(printable, names[:10])) or "none") + more


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


def inherited(model: CCNet) -> dict[str, Any]:
    """Arguments of a model that neither flags nor data determine: normalization, stem, ..."""
    given = {field.name for field in fields(ModelConfig)} - set(OPEN_FLAGS)
    given |= {"num_classes", "classes", "palette", "metrics", "embedding_channels"}
    return {name: value for name, value in model.arguments.items() if name not in given}
