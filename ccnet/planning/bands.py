"""Which bands a run takes, where its images are no photographs and nobody has said it."""

from collections.abc import Mapping
from typing import Any

from ccnet.checking.band_choice import choose_bands
from ccnet.datasets import SegmentationDataset
from ccnet.datasets.pairs import PairedDataset
from ccnet.models.ccnet import CCNet
from ccnet.planning.choices import Choice


def choose_and_apply(
    training: SegmentationDataset, given: Mapping[str, Any], source: CCNet | None
) -> tuple[list[Choice], SegmentationDataset]:
    """What is chosen of `data.bands` and `data.value_range`, and data that can be read so.

    Args:
        training: the data to learn from.
        given: flags and their values that the user chose.
        source: the model that the run starts from; its bands count where none are given.

    Raises:
        DataError: the images are of different kinds.
    """
    flags = ("data.bands", "data.value_range")
    is_asked = any(given.get(flag) is not None for flag in flags)
    if not isinstance(training, PairedDataset):
        return [], training
    if source is not None and not is_asked:
        return [], training.with_bands(source.bands)
    choice = choose_bands(training, is_asked=is_asked)
    if choice is None:
        return [], training
    choices = [
        Choice(flag, value, choice.reason)
        for flag, value in zip(flags, (choice.numbers, choice.value_range), strict=True)
        if given.get(flag) is None
    ]
    return choices, training.with_bands(choice.provisional())
