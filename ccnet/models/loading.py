"""A saved model from a folder or from the hub, and whether it fits a data set."""

from pathlib import Path

from ccnet.models.ccnet import CCNet


def load_model(model: str | Path) -> CCNet:
    """The saved CCNet of a model folder, a run's folder or a hub id: `CCNet.from_pretrained`."""
    return CCNet.from_pretrained(model)


def require_same_classes(model: CCNet, classes: tuple[str, ...]) -> None:
    """Raise ValueError unless a data set has the model's classes: number, names and order.

    A model without names of its own ("class 0", "class 1", ...) fits any names.
    """
    if len(model.classes) != len(classes):
        raise ValueError(f"the model has {len(model.classes)} classes, the data {len(classes)}")
    for index, (own, other) in enumerate(zip(model.classes, classes, strict=True)):
        if own not in (other, f"class {index}"):
            raise ValueError(f"class {index} of the model is {own!r}, of the data {other!r}")
