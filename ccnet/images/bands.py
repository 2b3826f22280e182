"""Which bands of an image a network takes, and which of their values are its 0 and its 65535."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
from jaxtyping import Shaped, UInt8, UInt16

from ccnet.images.arrays import TYPES
from ccnet.runtime.files import DataError, shown

MOST_BANDS = 1024
"""Of an image; hyperspectral cameras have some hundred."""
LARGEST_VALUE = 1e30
"""At the ends of a range."""
LEAST_SPAN = 1e-20
"""Difference between its ends."""
TOP = 65535
MOST_HALF_TRANSPARENT = 0.1
"""Share of the pixels of a TIFF's transparency that are neither fully opaque nor transparent."""
KEYS = ("numbers", "of", "dtype", "ranges")

BandImage = UInt8[np.ndarray, "h w c"] | UInt16[np.ndarray, "h w c"]


@dataclass(frozen=True)
class Bands:
    """How images that are no photographs are read: bands, their type, and the range of values.

    It is stored with a model, so that every command reads images as they were learned from.
    """

    numbers: tuple[int, ...]
    """The bands that are taken, counted from 1, in the order of the network's channels."""
    of: int
    """How many bands the files have."""
    dtype: str
    """The type of the numbers in the files, as NumPy names it."""
    ranges: tuple[tuple[float, float], ...]
    """Of each band taken, the values that become 0 and 65535; what lies outside is cut off."""

    @property
    def as_stored(self) -> bool:
        """Whether values are taken as they are: all 8 or 16 bits count."""
        tops = {"uint8": 255, "uint16": TOP}
        return all(bounds == (0, tops.get(self.dtype)) for bounds in self.ranges)

    @property
    def result_dtype(self) -> np.dtype:
        """The type of the images that a network gets: uint8, or uint16 with values of 0 to 65535.

        8 bits that are taken as they are stay 8 bits.
        """
        return np.dtype(np.uint8 if self.as_stored and self.dtype == "uint8" else np.uint16)

    def require(self, where: Path | str, bands: int, dtype: np.dtype | str) -> None:
        """Raises DataError for an image of another number of bands or another type."""
        found = np.dtype(dtype).name
        if (bands, found) == (self.of, self.dtype):
            return
        path = where if isinstance(where, Path) else None
        raise DataError(
            f"{where}: {counted(bands)} of {found} where {counted(self.of)} of {self.dtype} are "
            "wanted; give images like those that were learned from.",
            path=path,
        )

    def read(
        self, where: Path | str, stored: Shaped[np.ndarray, "h w n"], nodata: float | None = None
    ) -> BandImage:
        """The image that a network gets of all bands as they are stored.

        Args:
            where: the file, or another name for messages.
            stored: all bands.
            nodata: the value of pixels that hold nothing. They become 0, also where it is nan.

        Raises:
            DataError: another number of bands, another type, or pixels that are nan or infinite.
        """
        self.require(where, stored.shape[2], stored.dtype)
        if self.as_stored:
            return np.ascontiguousarray(stored[:, :, [number - 1 for number in self.numbers]])
        image = np.empty((*stored.shape[:2], len(self.numbers)), np.uint16)
        wide = stored.dtype.itemsize > 4 or stored.dtype in (np.int32, np.uint32)
        for channel, (number, (low, high)) in enumerate(
            zip(self.numbers, self.ranges, strict=True)
        ):
            band = stored[:, :, number - 1].astype(np.float64 if wide else np.float32)
            if nodata is not None:
                band[np.isnan(band) if np.isnan(nodata) else band == nodata] = low
            self._require_numbers(where, number, band)
            with np.errstate(over="ignore"):
                share = (band.clip(low, high) - low) / (high - low)
            image[:, :, channel] = np.rint(share * TOP)
        return image

    def _require_numbers(self, where: Path | str, number: int, band: np.ndarray) -> None:
        num_wrong = band.size - int(np.isfinite(band).sum())
        if num_wrong:
            path = where if isinstance(where, Path) else None
            raise DataError(
                f"{where}: {num_wrong} pixels of band {number} are nan or infinite; give them a "
                "number (and the label 255, if they hold nothing).",
                path=path,
            )

    def __str__(self) -> str:
        pairs = zip(self.numbers, self.ranges, strict=True)
        parts = [f"{number} ({low:g} to {high:g})" for number, (low, high) in pairs]
        more = f" and {len(parts) - 8} more" if parts[8:] else ""
        taken = f"{', '.join(parts[:8])}{more}"
        return f"of {counted(self.of)} of {self.dtype} these are taken, with the values: {taken}"

    def only_taken(self) -> Self:
        """The same for images that hold only the bands that are taken, in their order."""
        num = len(self.numbers)
        return replace(self, numbers=tuple(range(1, num + 1)), of=num)

    def to_dict(self) -> dict[str, Any]:
        """What config.json holds."""
        ranges = [list(bounds) for bounds in self.ranges]
        return {
            "numbers": list(self.numbers),
            "of": self.of,
            "dtype": self.dtype,
            "ranges": ranges,
        }

    @classmethod
    def from_dict(cls, given: Any) -> Self:
        """The reverse of `to_dict`; raises ValueError for anything that it does not give."""
        if not isinstance(given, Mapping) or set(given) != set(KEYS):
            raise ValueError(f"bands must have the keys {', '.join(KEYS)}, got {shown(given)}")
        numbers, of, ranges = given["numbers"], given["of"], given["ranges"]
        if type(of) is not int or not 1 <= of <= MOST_BANDS:
            raise ValueError(f"bands of must be from 1 to {MOST_BANDS}, got {shown(of)}")
        if given["dtype"] not in TYPES:
            raise ValueError(f"bands dtype must be {', '.join(TYPES)}, got {shown(given['dtype'])}")
        require_numbers(numbers, of)
        is_list = isinstance(ranges, list) and len(ranges) == len(numbers)
        if not is_list or not all(map(is_range, ranges)):
            raise ValueError(
                f"bands ranges must be [low, high] for each of {len(numbers)} bands, got "
                f"{shown(ranges)}"
            )
        pairs = tuple((float(low), float(high)) for low, high in ranges)
        return cls(tuple(numbers), of, given["dtype"], pairs)


def require_numbers(numbers: Any, of: int) -> None:
    """Raises ValueError unless they are different numbers of bands, from 1 to `of`."""
    is_list = isinstance(numbers, list | tuple) and 1 <= len(numbers) <= MOST_BANDS
    if not is_list or not all(type(number) is int and 1 <= number <= of for number in numbers):
        raise ValueError(f"bands are numbers from 1 to {of}, got {shown(numbers)}")
    if len(set(numbers)) < len(numbers):
        raise ValueError(f"bands must differ, got {shown(numbers)}")


def require_choice(numbers: Sequence[int] | None, value_range: Any) -> None:
    """Raises ValueError for options `data.bands` and `data.value_range` that cannot be."""
    if numbers is not None and (not numbers or len(set(numbers)) < len(numbers)):
        raise ValueError(f"data.bands must be different numbers, got {shown(numbers)}")
    if not isinstance(value_range, str | None) and not is_range(value_range):
        raise ValueError(f"data.value_range must be [low, high], got {shown(value_range)}")


def is_range(value: Any) -> bool:
    """Whether a value of JSON is [low, high]."""
    return (
        isinstance(value, list | tuple)
        and len(value) == 2
        and all(type(part) in (int, float) and abs(part) <= LARGEST_VALUE for part in value)
        and value[1] - value[0] >= LEAST_SPAN
    )


def counted(bands: int) -> str:
    return "1 band" if bands == 1 else f"{bands} bands"


def cannot_choose(bands: int) -> str:
    """What to say of an image of more bands than gray or RGB has."""
    numbers = ",".join(map(str, range(1, min(bands, 8) + 1)))
    if bands <= 3:
        return (
            f"{bands} bands that the file does not call gray or RGB; train on them with "
            f"--data.bands [{numbers}], or save gray or RGB."
        )
    return (
        f"{bands} bands, where RGB has 3, and none is left out by itself; train on them with "
        f"--data.bands, such as [{numbers}] or [1,2,3], or save the three colors alone."
    )


def require_transparency(path: Path, alpha: UInt8[np.ndarray, "h w"], bands: int) -> None:
    """Raises DataError if a band that a TIFF calls transparency has other values than a mask has.

    GDAL calls any fourth band of 8 bits transparency, such as infrared.
    """
    between = (alpha > 0) & (alpha < 255)
    if between.mean() > MOST_HALF_TRANSPARENT:
        raise DataError(f"{path}: {cannot_choose(bands)}", path=path)
