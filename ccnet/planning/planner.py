"""From a folder of images and the flags that were given to the configuration of a run."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ccnet.config import DataConfig, ModelConfig, TrainConfig
from ccnet.models.ccnet import CCNet
from ccnet.planning.bands import choose_and_apply
from ccnet.planning.choices import Choice, plan
from ccnet.planning.facts import DataFacts, survey
from ccnet.planning.machine import Machine, look_at_machine
from ccnet.planning.pretrained import choose_pretrained
from ccnet.runtime.values import build, checked
from ccnet.training.assembly import open_data


@dataclass(frozen=True)
class Planned:
    """A run that is ready to start, and why it is as it is."""

    config: TrainConfig
    facts: DataFacts
    machine: Machine
    classes: tuple[str, ...]
    choices: tuple[Choice, ...]
    """What was chosen; what was given is not among it."""


def plan_run(
    folder: Path,
    given: Mapping[str, Any],
    *,
    source: CCNet | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Planned:
    """Look at the data and the machine, and choose what was not given.

    Args:
        folder: images and labels.
        given: keys of a configuration, nested as in a YAML file. They are kept as they are.
        source: the model that the run starts from, whose architecture it has.
        progress: called as `progress(done, total)`, counting the images that are read.

    Raises:
        DataError: the data cannot be used.
        ValueError: what is given contradicts itself or the machine.
    """
    settings = merged({"data": {"name": "folder", "root": str(folder)}}, given)
    plain = settings["data"] | {"augment": None}  # what that lacks is chosen below
    data = build(DataConfig, checked(DataConfig, plain, "data"), "data")
    training, validation = open_data(data)
    flat = dict(flattened(settings))
    of_bands, training = choose_and_apply(training, flat, source)
    flat |= {choice.flag: choice.value for choice in of_bands}
    facts = survey(training, validation, progress=progress)
    machine = look_at_machine(settings.get("device", "auto"), settings.get("precision", "auto"))
    if source is not None:
        own = {
            f"model.{item.name}": source.arguments.get(item.name) for item in fields(ModelConfig)
        }
        flat = own | flat
    choices = plan(facts, machine, flat)
    if "model.pretrained" not in flat:
        network: dict[str, Any] = flat | {choice.flag: choice.value for choice in choices}
        place = sum(choice.flag.startswith("model.") for choice in choices)  # they come first
        choices.insert(place, choose_pretrained(network["model.backbone"], flat.get("model.stem")))
    choices[:0] = of_bands
    for choice in choices:
        settings = merged(settings, nested(choice.flag, choice.value))
    config = build(TrainConfig, checked(TrainConfig, settings))
    return Planned(config, facts, machine, training.classes, tuple(choices))


def merged(settings: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """Nested mappings with the keys of both; those of `others` count where both have one."""
    result = dict(settings)
    for key, value in others.items():
        inner = result.get(key)
        if isinstance(value, Mapping) and isinstance(inner, Mapping):
            value = merged(inner, value)
        result[key] = value
    return result


def nested(flag: str, value: Any) -> dict[str, Any]:
    """{"model": {"backbone": value}} for the flag model.backbone."""
    owner, dot, rest = flag.partition(".")
    return {owner: nested(rest, value) if dot else value}


def flattened(settings: Mapping[str, Any], owner: str = "") -> Iterator[tuple[str, Any]]:
    """The flags, such as model.backbone, and values of nested mappings."""
    for key, value in settings.items():
        if isinstance(value, Mapping):
            yield from flattened(value, f"{owner}{key}.")
        else:
            yield f"{owner}{key}", value
