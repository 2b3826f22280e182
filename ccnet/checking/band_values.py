"""The values of the bands of images: their ranges, means and deviations, in bounded memory."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from jaxtyping import Float, Float32

from ccnet.checking.band_choice import (
    MOST_HEADERS,
    SMALL_PART,
    RangeWord,
    kinds_of,
    only_kind,
)
from ccnet.checking.requirements import evenly_spread
from ccnet.datasets.pairs import PairedDataset
from ccnet.images.bands import LARGEST_VALUE, LEAST_SPAN, Bands, require_numbers
from ccnet.images.stored import Kind, read_stored
from ccnet.runtime.files import DataError

MOST_IMAGES = 500
"""Images that are read, at equal distances in the training data."""
MOST_VALUES = 1 << 24
"""Values that are kept of all images and bands together: 64 MB."""
PERCENTILES = (0.1, 99.9)
"""Of each band, what becomes 0 and 65535."""
MOST_CUT_OFF = 0.05
"""Share of the values beyond a range that is given, above which there is a warning."""
LEAST_DEVIATION = 1e-3
"""Standard deviation of a band, of 255, below which it says nothing."""

ValueRange = Sequence[float] | RangeWord | None


@dataclass(frozen=True)
class MeasuredBands:
    """How images are read, and how their bands are normalized."""

    bands: Bands
    mean: list[float] | None
    """Of each band, for values of 0 to 255, as the standard deviation. None for RGB of 8 bits,
    which is normalized as the backbone's own images."""
    std: list[float] | None
    warnings: list[str] = field(default_factory=list)


def measure_bands(
    dataset: PairedDataset,
    numbers: Sequence[int] | None,
    value_range: ValueRange,
    *,
    progress: Callable[[int, int], object] | None = None,
) -> MeasuredBands:
    """Measure what is left open: the range of values, the mean and the deviation of each band.

    Of up to `MOST_IMAGES` images, each is read once, and pixels at equal distances are kept, up to
    `MOST_VALUES` values of all together. The same files give the same result.

    Args:
        dataset: to learn from.
        numbers: bands that are taken, counted from 1; None: all.
        value_range: the values that become 0 and 65535: "dtype", what the type of the numbers can
            hold; [low, high]; or "percentiles" of each band. None: "dtype", unless that would be a
            guess.
        progress: called as `progress(done, total)`, counting images.

    Raises:
        DataError: there is no such band, the images differ in kind, a band is the same everywhere,
            or the type of the numbers does not tell their range.
    """
    paths = [image for image, _ in dataset.files.pairs]
    kind = only_kind(kinds_of([paths[i] for i in evenly_spread(len(paths), MOST_HEADERS)]))
    taken = tuple(range(1, kind.bands + 1)) if numbers is None else tuple(numbers)
    try:
        require_numbers(taken, kind.bands)
    except ValueError as error:
        raise DataError(f"{dataset.root}: data.{error}; the images have {kind}.") from None
    values = sample_values(paths, kind, taken, progress)
    ranges = choose_ranges(dataset.root, kind, taken, values, value_range)
    bands = Bands(taken, kind.bands, kind.dtype, ranges)
    if len(taken) == 3 and bands.result_dtype == np.uint8:
        return MeasuredBands(bands, None, None)
    low, high = np.array(ranges).T[:, None]
    shares = (values.clip(low, high) - low) / (high - low) * 255
    mean, std = np.nanmean(shares, axis=0), np.nanstd(shares, axis=0)
    for number, deviation in zip(taken, std, strict=True):
        if not deviation >= LEAST_DEVIATION:
            raise DataError(
                f"{dataset.root}: band {number} has the same value everywhere, or beyond the range "
                "that counts; leave it out (--data.bands) or give another --data.value_range."
            )
    outside = float(((values < low) | (values > high)).mean())
    warnings = []
    if outside > MOST_CUT_OFF:
        warnings.append(
            f"{outside:.0%} of the values of the bands lie beyond the range that counts"
        )
    return MeasuredBands(bands, mean.tolist(), std.tolist(), warnings)


def sample_values(
    paths: Sequence[Path],
    kind: Kind,
    taken: Sequence[int],
    progress: Callable[[int, int], object] | None = None,
) -> Float32[np.ndarray, "n bands"]:
    """Values of pixels at equal distances, nan where a pixel holds nothing.

    Images that cannot be read, and those of another kind, are left out: reading them tells why.

    Raises:
        DataError: none is left.
    """
    chosen = [paths[index] for index in evenly_spread(len(paths), MOST_IMAGES)]
    most = max(64, MOST_VALUES // (len(chosen) * len(taken)))

    def read(path: Path) -> np.ndarray | None:
        try:
            stored = read_stored(path)
        except DataError:
            return None
        pixels = stored.pixels.reshape(-1, stored.pixels.shape[2])
        if (pixels.shape[1], pixels.dtype.name) != (kind.bands, kind.dtype):
            return None
        places = np.linspace(0, len(pixels) - 1, min(len(pixels), most)).astype(np.intp)
        values = pixels[places][:, [number - 1 for number in taken]].astype(np.float32)
        values[~np.isfinite(values)] = np.nan
        if stored.nodata is not None:
            values[values == np.float32(stored.nodata)] = np.nan
        return values

    parts = []
    with ThreadPoolExecutor(2) as pool:
        for done, values in enumerate(pool.map(read, chosen), start=1):
            parts += [] if values is None else [values]
            if progress is not None:
                progress(done, len(chosen))
    values = np.concatenate(parts) if parts else np.empty((0, len(taken)), np.float32)
    if not np.isfinite(values).any(axis=0).all():
        raise DataError(f"{paths[0].parent}: a band has no value that is a number in any image.")
    return values


def choose_ranges(
    root: Path,
    kind: Kind,
    taken: Sequence[int],
    values: Float32[np.ndarray, "n bands"],
    value_range: ValueRange,
) -> tuple[tuple[float, float], ...]:
    """The range of each band; raises DataError where it cannot be told."""
    if value_range == "percentiles":
        ends: Float[np.ndarray, "2 bands"] = np.nanpercentile(values, PERCENTILES, axis=0)
        for number, low, high in zip(taken, *ends, strict=True):
            if not high - low > LEAST_SPAN or max(abs(low), abs(high)) > LARGEST_VALUE:
                raise DataError(
                    f"{root}: the percentiles of band {number} are {low:g} and {high:g}, which "
                    "tell nothing apart; leave it out (--data.bands) or give --data.value_range."
                )
        return tuple((float(low), float(high)) for low, high in ends.T)
    if value_range is not None and value_range != "dtype":
        low, high = value_range
        return ((float(low), float(high)),) * len(taken)
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    remedy = "give --data.value_range [LOW,HIGH], or percentiles"
    if kind.dtype.startswith("float"):
        raise DataError(
            f"{root}: the images have {kind}, from {low:g} to {high:g}, whose type does not tell "
            f"the range; {remedy}."
        )
    info = np.iinfo(kind.dtype)
    if value_range is None and kind.dtype != "uint8":
        used = (high - min(low, 0.0)) / math.ldexp(1, info.bits)
        if used < SMALL_PART:
            raise DataError(
                f"{root}: the images have {kind}, of which only {low:g} to {high:g} is used; "
                f"{remedy} (or dtype, if all {info.bits} bits are to count)."
            )
    return ((float(info.min), float(info.max)),) * len(taken)
