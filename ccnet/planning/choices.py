"""The settings of a run that nobody has to give, each with its reason."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from ccnet.backbones import create_backbone
from ccnet.planning.facts import DataFacts
from ccnet.planning.machine import Machine
from ccnet.planning.memory import bytes_per_image
from ccnet.prediction.predictor import LARGEST_WHOLE
from ccnet.runtime.disk import readable_size

BATCH_SIZE, BATCH_SIZE_ON_CPU = 8, 4
SMALLEST_CROP = 128
"""Up to this side, a crop is as large as the image; else it has `CROP_SHARE` of the short side."""
CROP_SHARE = 0.85
MEMORY_SHARE = 0.6
"""Of the free memory, what a step may take: weights, their optimizer, and images read ahead take
more, and so do other programs."""
IMBALANCE = 10.0
"""How many times as frequent as the rarest class the most frequent one may be without weights."""
MANY_CLASSES = 8
"""Number of classes above which a small network is refined at strides 8 and 4, not at 4 and 2."""
THIN = 0.05
"""Share of pixels in thin structures from which on images are not made much smaller."""
PASSES = 100
"""How often a run sees each image, if that makes no fewer than `FEWEST_IMAGES`."""
FEWEST_IMAGES, MOST_IMAGES = 3_000, 160_000
"""Images that a run sees, from the smallest to the largest data set."""
VALIDATION_SHARE = 0.15
"""Of the time of a run, the largest part that validations take."""
VALIDATIONS = (2, 10)


@dataclass(frozen=True)
class Choice:
    """A value for a flag of `ccnet train`."""

    flag: str
    value: Any
    reason: str
    is_warning: bool = False
    """Whether the run will be worse for it."""


def plan(facts: DataFacts, machine: Machine, given: Mapping[str, Any]) -> list[Choice]:
    """Choose what was not given.

    Args:
        facts: of the data.
        machine: to train on.
        given: flags and their values that the user chose, such as {"model.backbone": "resnet50"}.
            Choices depend on them.
    """
    settled = dict(given)
    choices = []
    for choose in (architecture, crops, optimization, duration, validation):
        for choice in choose(facts, machine, settled):
            if choice.flag not in settled:
                settled[choice.flag] = choice.value
                choices.append(choice)
    return choices


def architecture(
    facts: DataFacts, machine: Machine, settled: Mapping[str, Any]
) -> Iterator[Choice]:
    """The network."""
    if machine.device.type == "cpu":
        yield Choice("model.backbone", "mobilenet_v2", "the fastest good one on a processor")
    else:
        yield Choice("model.backbone", "resnet50", "a good one that a GPU trains quickly")
    if is_small(machine, settled):
        yield Choice("model.channels", 256, "goes with a small backbone")
        yield Choice("model.auxiliary_channels", 96, "goes with a small backbone")
        reason = "a short run learns few layers from random weights better than many"
        yield Choice("model.kernel_size", 1, reason)
    wanted, reason = (4, 2), "joins finer features, for what is thin or small"
    if is_small(machine, settled) and facts.num_classes > MANY_CLASSES:
        wanted, reason = (8, 4), f"{reason}; many classes need what stride 8 shows more than 2"
    coarse = 16 if is_small(machine, settled) else None
    if strides := refining_strides(settled, wanted, coarse):
        yield Choice("model.refinement", strides, reason)
        if coarse is not None and settled["model.refinement"] is not None:
            reason = "half the time of a step at 8; the refinement draws what is finer"
            yield Choice("model.output_stride", coarse, reason)
    yield Choice("precision", machine.precision, "the fastest here that trains well")


def is_small(machine: Machine, settled: Mapping[str, Any]) -> bool:
    """Whether the network is the one for processors, on a processor."""
    return machine.device.type == "cpu" and settled["model.backbone"] == "mobilenet_v2"


def refining_strides(
    settled: Mapping[str, Any], wanted: Sequence[int], output_stride: int | None
) -> list[int]:
    """Those of the wanted strides at which the backbone has maps finer than its last one.

    Args:
        settled: what is given or chosen already.
        wanted: strides from coarse to fine.
        output_stride: of the backbone, if none is settled; None: its own.
    """
    stride = settled.get("model.output_stride") or output_stride
    options: dict[str, Any] = {} if stride is None else {"output_stride": stride}
    with torch.device("meta"):
        own = create_backbone(settled["model.backbone"], **options).strides
    return [stride for stride in wanted if stride in own and stride < own[-1]]


def crops(facts: DataFacts, machine: Machine, settled: Mapping[str, Any]) -> Iterator[Choice]:
    """What a sample is: the size of crops, and how images are scaled and colored."""
    if settled.get("data.augment") is not None:
        return
    is_slow = machine.device.type == "cpu"
    largest, wanted = 768, facts.short_side
    reason = (
        f"half of the images are at most {facts.width}×{facts.height}; sides are multiples of 32"
    )
    if is_slow:
        largest, wanted = 384, max(CROP_SHARE * wanted, min(wanted, SMALLEST_CROP))
        reason += ", and smaller crops give more steps"
    side = min(largest, max(32, int(wanted) // 32 * 32))
    yield Choice("data.augment.crop_size", [side, side], reason)
    crop = min(settled.get("data.augment.crop_size", [side]))
    low, high, reason = 0.5, 2.0, "the usual range"
    if is_slow:
        low, high, reason = 0.75, 1.5, "a short run has no time for much smaller and larger views"
    if facts.short_side > 2 * crop:
        low, high = max(0.1, round(crop / facts.short_side, 2)), 1.25
        reason = "from nearly the whole image in a crop to its full size"
        if facts.thin_share > THIN and low < 0.5:
            low, reason = 0.5, "structures are thin: half of the size is the least that shows them"
    yield Choice("data.augment.scale", [low, high], reason)
    has_bands = {str(settled.get(f"data.{name}")) for name in ("bands", "value_range")} != {"None"}
    if has_bands:
        yield Choice("data.augment.brightness", 0.0, "values of bands are measurements")
        return
    for name in ("brightness", "contrast", "saturation"):
        yield Choice(f"data.augment.{name}", 0.3, "photographs differ in light")


def optimization(
    facts: DataFacts, machine: Machine, settled: Mapping[str, Any]
) -> Iterator[Choice]:
    """How a step is computed and what it minimizes."""
    yield Choice("optimizer.name", "adamw", "converges in fewer steps than SGD")
    if settled["optimizer.name"] == "adamw":
        yield Choice("optimizer.lr", 1e-3, "for batches of 4 to 8")
        yield Choice("optimizer.weight_decay", 1e-2, "goes with AdamW")
        yield Choice("optimizer.schedule", "one_cycle", "warms up, and ends at a rate of 0")
    if facts.imbalance > IMBALANCE:
        reason = f"the largest class has {facts.imbalance:.0f} times the pixels of the smallest"
        yield Choice("loss.class_weights", "auto", reason)
    if machine.device.type == "cpu":
        reason = "more steps in the same time; batch normalization needs several images"
        yield Choice("batch_size", BATCH_SIZE_ON_CPU, reason)
    else:
        yield Choice("batch_size", BATCH_SIZE, "batch normalization needs several images")
    yield accumulation(facts, machine, settled)


def accumulation(facts: DataFacts, machine: Machine, settled: Mapping[str, Any]) -> Choice:
    """Into how many parts a batch is divided so that a part fits into the memory."""
    arguments = {
        name.removeprefix("model."): value
        for name, value in settled.items()
        if name.startswith("model.") and name != "model.pretrained" and value is not None
    }
    if settled.get("data.bands") is not None:
        arguments["in_channels"] = len(settled["data.bands"])
    crop = settled.get("data.augment.crop_size", facts.largest)
    each = bytes_per_image({"num_classes": facts.num_classes, **arguments}, tuple(crop))
    batch = settled["batch_size"]
    most = max(2, int(MEMORY_SHARE * machine.memory / each))
    parts = next(
        n for n in range(1, batch + 1) if (batch % n == 0 and batch // n <= most) or n == batch
    )
    taken = readable_size(each * batch // parts)
    return Choice("accumulate", parts, f"{taken} of {readable_size(machine.memory)} free memory")


def duration(facts: DataFacts, machine: Machine, settled: Mapping[str, Any]) -> Iterator[Choice]:
    """How long."""
    if settled.get("minutes") is not None:
        return
    seen = min(MOST_IMAGES, max(FEWEST_IMAGES, PASSES * facts.num_images))
    steps = math.ceil(seen / settled["batch_size"])
    passes = seen / facts.num_images
    yield Choice("steps", steps, f"each of {facts.num_images} images is seen {passes:.0f} times")


def validation(facts: DataFacts, machine: Machine, settled: Mapping[str, Any]) -> Iterator[Choice]:
    """How often it is validated, and how."""
    is_large = facts.largest[0] * facts.largest[1] > LARGEST_WHOLE
    if is_large:
        yield Choice("protocol.tile", 769, "images are too large to be seen whole")
        yield Choice("protocol.stride", 513, "tiles overlap")
    steps = settled.get("steps")
    if steps is None:  # they follow from the minutes
        often = max(100, math.ceil(10 * facts.num_images / settled["batch_size"]))
        yield Choice("validate_every", often, "after ten passes over the images")
        return
    crop = settled.get("data.augment.crop_size", facts.largest)
    pixels_of_run = steps * settled["batch_size"] * crop[0] * crop[1]
    pixels_of_validation = facts.num_validation * facts.height * facts.width
    # a pixel that is learned costs about three that are predicted
    affordable = int(VALIDATION_SHARE * 3 * pixels_of_run / pixels_of_validation)
    count = min(max(affordable, VALIDATIONS[0]), VALIDATIONS[1])
    reason = f"{count} validations on {facts.num_validation} images"
    yield Choice("validate_every", max(1, math.ceil(steps / count)), reason)
