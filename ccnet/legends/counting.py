"""Which values label files hold: numbers or colors, how often, and whether they look like classes.

All files are read, in threads. Of each value a few numbers are kept, so memory does not grow with
the number of files.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Integer, Real

from ccnet.images.exact import open_exact
from ccnet.legends.rasters import (
    NUMBER_MODES,
    PALETTE_MODES,
    Color,
    color_raster,
    number_raster,
    own_colors,
)
from ccnet.runtime.files import DataError

MOST_VALUES = 64
"""Different values that are taken for classes without names."""
LARGEST_NUMBER = 65535


class NoClassesError(DataError):
    """A label file holds what cannot be classes, such as the grays of an image."""


@dataclass
class ValueCount:
    """How often a value occurs."""

    pixels: int = 0
    files: int = 0
    thin: int = 0
    """Pixels in lines of the value that are one pixel wide, as in soft edges and in noise."""
    example: Path = Path()
    """The first file with it."""

    @property
    def is_thin(self) -> bool:
        """Whether the value occurs in such lines only, or nearly so."""
        return self.thin > 0.9 * self.pixels


@dataclass
class FoundValues:
    """The values in all label files of a data set."""

    counts: dict[int, ValueCount]
    """By number, or by color as 0xbbggrr."""
    has_colors: bool
    num_files: int
    """Files that could be read."""
    palettes: dict[int, set[Color]] = field(default_factory=dict)
    """Of palette PNGs: the colors that the numbers that occur are shown in."""

    @property
    def num_pixels(self) -> int:
        return sum(count.pixels for count in self.counts.values())


@dataclass(frozen=True)
class ValuesOfFile:
    """The values in one file: their codes, how often they occur, and how often in thin lines."""

    codes: list[int]
    pixels: list[int]
    thin: list[int]
    has_colors: bool
    palette: dict[int, Color]


def count_values(paths: Sequence[Path]) -> FoundValues:
    """Read label files and count their values. The result of the same files is kept for a while.

    Files that cannot be read are left out, since reading them as labels tells why.

    Raises:
        NoClassesError: a file holds more than `MOST_VALUES` values, or numbers that are no class
            numbers; or some files hold numbers and others colors.
        DataError: no file can be read.
    """
    facts = [path.stat() for path in paths]
    return _count(tuple((p, f.st_size, f.st_mtime_ns) for p, f in zip(paths, facts, strict=True)))


@lru_cache(maxsize=4)
def _count(files: tuple[tuple[Path, int, int], ...]) -> FoundValues:
    from ccnet.runtime.progress import counting

    paths = [path for path, *_ in files]
    numbers, colors = FoundValues({}, False, 0), FoundValues({}, True, 0)
    first_error: DataError | None = None
    with counting("reading masks") as progress, ThreadPoolExecutor() as pool:
        for done, (path, found) in enumerate(zip(paths, pool.map(_read, paths), strict=True), 1):
            if isinstance(found, DataError):
                first_error = first_error or found
            else:
                _add(colors if found.has_colors else numbers, path, found)
            if progress is not None:
                progress(done, len(paths))
    if first_error is not None and not numbers.num_files + colors.num_files:
        raise first_error
    if all(code & 255 == code >> 8 & 255 == code >> 16 for code in colors.counts):
        return _merged(numbers, colors)  # three channels repeat the number
    if numbers.num_files:
        raise NoClassesError(
            f"{_example(numbers)} holds numbers and {_example(colors)} holds colors; make the "
            "masks alike."
        )
    return colors


def _example(found: FoundValues) -> Path:
    return next(iter(found.counts.values())).example


def _read(path: Path) -> ValuesOfFile | DataError:
    """The values in a file; the error of one that cannot be read."""
    try:
        picture, bits = open_exact(path)
    except DataError as error:
        return error
    if picture.mode not in NUMBER_MODES:
        raw: Real[np.ndarray, "h w"] = color_raster(picture)
        return _values(path, raw.astype(np.int32), has_colors=True, palette={})
    raw = number_raster(picture, bits, path)
    low, high = float(raw.min()), float(raw.max())
    if raw.dtype.kind == "f" and not (raw == np.rint(raw)).all():
        raise NoClassesError(
            f"{path}: numbers from {low:g} to {high:g} that are not whole: shares or soft edges, "
            "not classes. Round them, and save the mask as a PNG of whole numbers.",
            path=path,
        )
    if not 0 <= low <= high <= LARGEST_NUMBER:
        raise NoClassesError(
            f"{path}: numbers from {low:g} to {high:g}; class numbers are from 0 on, up to 254.",
            path=path,
        )
    own = own_colors(picture, bits) if picture.mode in PALETTE_MODES else {}
    return _values(path, raw.astype(np.int32), has_colors=False, palette=own)


def _values(
    path: Path, raw: Integer[np.ndarray, "h w"], *, has_colors: bool, palette: dict[int, Color]
) -> ValuesOfFile:
    codes, places = np.unique(raw, return_inverse=True)
    if len(codes) > MOST_VALUES + 1:
        kind = "colors" if has_colors else f"values from {codes[0]} to {codes[-1]}"
        raise NoClassesError(
            f"{path}: {len(codes)} different {kind}, as an image, soft edges or lossy compression "
            f"has; without names up to {MOST_VALUES} are taken for classes. If they are classes, "
            "name them in a dataset.yaml.",
            path=path,
        )
    pixels = np.bincount(places.ravel(), minlength=len(codes))
    thin = np.bincount(places.reshape(raw.shape)[is_thin(raw)], minlength=len(codes))
    own = {code: palette[code] for code in codes.tolist() if code in palette}
    return ValuesOfFile(codes.tolist(), pixels.tolist(), thin.tolist(), has_colors, own)


def is_thin(raw: Integer[np.ndarray, "h w"]) -> Bool[np.ndarray, "h w"]:
    """Whether a pixel differs from both neighbors in its row, or from both in its column."""
    padded = np.pad(raw, 1, mode="edge")
    middle = padded[1:-1, 1:-1]
    in_row = (padded[1:-1, :-2] != middle) & (padded[1:-1, 2:] != middle)
    in_column = (padded[:-2, 1:-1] != middle) & (padded[2:, 1:-1] != middle)
    return in_row | in_column


def _add(found: FoundValues, path: Path, values: ValuesOfFile) -> None:
    found.num_files += 1
    for code, pixels, thin in zip(values.codes, values.pixels, values.thin, strict=True):
        count = found.counts.setdefault(code, ValueCount(example=path))
        count.pixels += pixels
        count.thin += thin
        count.files += 1
    for number, color in values.palette.items():
        found.palettes.setdefault(number, set()).add(color)


def _merged(numbers: FoundValues, grays: FoundValues) -> FoundValues:
    """The numbers of both, of which some were stored as three equal channels."""
    counts = dict(numbers.counts)
    for code, gray in grays.counts.items():
        own = counts.get(code & 255, ValueCount(example=gray.example))
        counts[code & 255] = ValueCount(
            own.pixels + gray.pixels, own.files + gray.files, own.thin + gray.thin, own.example
        )
    num_files = numbers.num_files + grays.num_files
    return FoundValues(counts, False, num_files, numbers.palettes)
