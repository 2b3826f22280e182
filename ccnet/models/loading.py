"""A saved model from a folder or from the hub, and whether it fits a data set."""

import json
import re
from pathlib import Path

from safetensors import SafetensorError

from ccnet.models.ccnet import CCNet

HUB_ID = r"\w[\w.-]*/\w[\w.-]*"


# What a broken or another library's config.json or weight file gives; the first is a ValueError
UNUSABLE = (json.JSONDecodeError, SafetensorError, RuntimeError, TypeError, AttributeError)


def load_model(folder: str | Path) -> CCNet:
    """A saved CCNet from a folder, or from the hub where `folder` is an id such as owner/name."""
    path = Path(folder)
    if path.is_dir():
        for name in ("config.json", "model.safetensors"):
            if not (path / name).is_file():
                raise FileNotFoundError(
                    f"{path} is no model folder: it has no {name}; a training run keeps its best "
                    "model in the folder `model` inside it"
                )
    else:
        could_be_hub_id = re.fullmatch(HUB_ID, str(folder)) and not path.parent.exists()
        if path.exists() or not could_be_hub_id:
            raise FileNotFoundError(f"no model folder at {path}")
    try:
        return CCNet.from_pretrained(str(folder))
    except OSError as error:  # what the hub's library raises for no such id and for no network
        if path.is_dir():
            raise
        raise FileNotFoundError(
            f"no model folder at {path}, and none of that name from the hub: {error}"
        ) from error
    except UNUSABLE as error:
        raise ValueError(f"{folder} holds no usable model: {error}") from error


def require_same_classes(model: CCNet, classes: tuple[str, ...]) -> None:
    """Raises ValueError where a data set's classes aren't the model's, in number, name or order."""
    if len(model.classes) != len(classes):
        raise ValueError(f"the model has {len(model.classes)} classes, the data {len(classes)}")
    for index, (own, other) in enumerate(zip(model.classes, classes, strict=True)):
        if own not in (other, f"class {index}"):  # the latter is a model without names
            raise ValueError(f"class {index} of the model is {own!r}, of the data {other!r}")
