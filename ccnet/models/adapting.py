"""A trained network for other classes, channels or refinement: its arguments and its weights."""

import logging
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from ccnet.backbones import adapt_input
from ccnet.models.arguments import in_turn

LOG = logging.getLogger(__name__)

ADAPTABLE = ("num_classes", "in_channels", "classes", "palette", "mean", "std", "refinement")
ADAPTABLE += ("bands",)
"""The arguments of a network that may change while its weights are kept."""


def adapted_arguments(arguments: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a network with changes; what no longer fits gets its default.

    Raises ValueError for a change of something other than `ADAPTABLE`.
    """
    if unknown := changes.keys() - set(ADAPTABLE):
        names = ", ".join(sorted(unknown))
        raise ValueError(f"{names} cannot be changed; {', '.join(ADAPTABLE)} can")
    adapted = dict(arguments) | {"metrics": None}  # the scores are those of another network
    if changes.get("num_classes", arguments["num_classes"]) != arguments["num_classes"]:
        adapted |= {"classes": None, "palette": None}
    in_channels = changes.get("in_channels", arguments["in_channels"])
    if in_channels != arguments["in_channels"]:
        for name in ("mean", "std"):
            adapted[name] = in_turn(arguments[name], in_channels)
        adapted["bands"] = None
    return adapted | dict(changes)


def renewed_parts(arguments: Mapping[str, Any], adapted: Mapping[str, Any]) -> tuple[str, ...]:
    """The parts of a network that start anew with adapted arguments: all that is refined."""
    is_same = adapted.get("refinement") == arguments.get("refinement")
    return () if is_same else ("head.refinement", "head.classifier")


def adapted_weights(
    trained: Mapping[str, Tensor],
    initial: Mapping[str, Tensor],
    arguments: Mapping[str, Any],
    adapted: Mapping[str, Any],
) -> dict[str, Tensor]:
    """Trained weights for a network whose own state dict is `initial`, with its keys.

    Convolutions that are applied to the image are adapted to other channels
    (`ccnet.backbones.layers.adapt_input`); classifiers of another size, and the refinement and its
    classifier if it is another one, keep their initial weights. All of it is logged.

    Args:
        trained, initial: state dicts of the trained network and of the new one.
        arguments, adapted: their arguments.

    Raises:
        ValueError: a convolution cannot be adapted.
    """
    weights, resized = dict(initial), []
    in_channels, num_classes = adapted["in_channels"], adapted["num_classes"]
    if renewed := renewed_parts(arguments, adapted):
        LOG.warning("new: %s", ", ".join(renewed))
    elif num_classes == arguments["num_classes"] and adapted["classes"] != arguments["classes"]:
        LOG.warning("new names for %d classes, trained classifiers", num_classes)
    for key, value in trained.items():
        if key.startswith(renewed):
            continue
        if value.shape == initial[key].shape:
            weights[key] = value
            continue
        if not key.startswith("backbone."):
            resized.append(key)
            continue
        weights[key] = adapt_input(value, in_channels)
        if weights[key].shape != initial[key].shape:
            raise ValueError(f"{key} cannot be made for {in_channels} channels")
        LOG.warning("%s: %d channels made from %d", key, in_channels, value.shape[1])
    if resized:
        counts = (len(initial[resized[0]]), len(trained[resized[0]]))
        LOG.warning("new for %d classes instead of %d: %s", *counts, ", ".join(resized))
    return weights
