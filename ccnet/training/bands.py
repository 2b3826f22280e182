"""The bands that a run learns from: those of its save, of the model it starts from, or measured."""

import sys
from dataclasses import dataclass, field
from typing import Any

from ccnet.checking.band_values import measure_bands
from ccnet.config import TrainConfig
from ccnet.datasets import SegmentationDataset
from ccnet.datasets.pairs import PairedDataset
from ccnet.images.bands import Bands
from ccnet.models.ccnet import CCNet
from ccnet.runtime.processes import rank
from ccnet.runtime.progress import counting

ARGUMENTS = ("in_channels", "bands", "mean", "std")


@dataclass(frozen=True)
class BandsOfRun:
    """How a run reads images, and what its network gets for that."""

    bands: Bands | None = None
    """None: RGB of 8 bits."""
    arguments: dict[str, Any] = field(default_factory=dict)
    """Arguments of the network: `ARGUMENTS`, or none of them for RGB."""

    def applied(self, data: SegmentationDataset) -> SegmentationDataset:
        """The same data, of whose images these bands are read."""
        return data if self.bands is None else with_bands(data, self.bands)


def with_bands(data: SegmentationDataset, bands: Bands) -> SegmentationDataset:
    """The same data with other bands; raises ValueError for data that are no image files."""
    if not isinstance(data, PairedDataset):
        raise ValueError(
            "data.bands and data.value_range are of image files; these data have none "
            f"({type(data).__name__})"
        )
    return data.with_bands(bands)


def choose_bands_of_run(
    config: TrainConfig,
    data: SegmentationDataset,
    source: CCNet | None,
    checkpoint: dict[str, Any] | None,
) -> BandsOfRun:
    """How a run reads its images.

    A run that is resumed goes on with the bands of its save. Otherwise what the configuration says
    counts, and without that what the model to start from takes.

    Raises:
        DataError: the bands cannot be measured (`measure_bands`).
        ValueError: the data have no files, or the augmentation does not fit the bands.
    """
    asked = (config.data.bands, config.data.value_range) != (None, None)
    own = None if source is None else source.arguments
    if checkpoint is not None:
        own, asked = checkpoint["inherited"], False
    if own is not None and not asked:
        if own.get("bands") is None:
            return BandsOfRun()
        arguments = {name: own[name] for name in ARGUMENTS if name in own}
        return BandsOfRun(Bands.from_dict(own["bands"]), arguments)
    if not asked:
        return BandsOfRun()
    if not isinstance(data, PairedDataset):
        raise ValueError("data.bands and data.value_range are of image files; these data have none")
    with counting("measuring bands") as progress:
        found = measure_bands(data, config.data.bands, config.data.value_range, progress=progress)
    if config.data.augment is not None:
        config.data.augment.require_fit(len(found.bands.numbers), found.bands.result_dtype)
    if rank() == 0:
        for text in (f"{found.bands}", *(f"warning: {text}" for text in found.warnings)):
            print(text, file=sys.stderr)
    arguments = {
        "in_channels": len(found.bands.numbers),
        "bands": found.bands.to_dict(),
        "mean": found.mean,
        "std": found.std,
    }
    return BandsOfRun(found.bands, arguments)
