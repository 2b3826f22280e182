"""Which bands of the images a network is to take, and which values, where nobody has said it."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from ccnet.checking.requirements import evenly_spread
from ccnet.datasets.dataset import SegmentationDataset
from ccnet.datasets.pairs import PairedDataset
from ccnet.images.bands import MOST_HALF_TRANSPARENT, Bands
from ccnet.images.stored import Kind, read_stored, stored_kind
from ccnet.runtime.files import DataError

MOST_HEADERS = 1000
"""Images whose headers are read, at equal distances in the data."""
MOST_LOOKED_AT = 16
"""Images of which pixels are looked at to tell transparency from a band, or 16 bits from 12."""
SMALL_PART = 1 / 8
"""Images of 16 bits that use less of their range are no photographs of 16 bits."""

RangeWord = Literal["dtype", "percentiles"]


@dataclass(frozen=True)
class BandChoice:
    """What to give as `data.bands` and `data.value_range`, and why."""

    kind: Kind
    value_range: RangeWord
    reason: str

    @property
    def numbers(self) -> list[int]:
        return list(range(1, self.kind.bands + 1))

    def provisional(self) -> Bands:
        """Bands that read the images, for their sizes, before their values have been measured."""
        numbers = tuple(self.numbers)
        return Bands(numbers, self.kind.bands, self.kind.dtype, ((0.0, 1.0),) * len(numbers))


def choose_bands(dataset: SegmentationDataset, *, is_asked: bool = False) -> BandChoice | None:
    """All bands of images that are no photographs; None where RGB of 8 bits is what there is.

    Photographs are gray or RGB of 8 bits, with or without transparency, and pictures of 16 bits
    that use their range. Other images are taken with all of their bands: of 8 bits as they are,
    others between percentiles.

    Args:
        dataset: of image files; for others there is nothing to choose.
        is_asked: whether bands are wanted of photographs too.

    Raises:
        DataError: the images are of different kinds.
    """
    if not isinstance(dataset, PairedDataset):
        return None
    paths = [dataset.files.pairs[index][0] for index in evenly_spread(len(dataset), MOST_HEADERS)]
    by_kind = kinds_of(paths)
    if not is_asked and all(map(is_photographs, by_kind, by_kind.values())):
        return None
    kind = only_kind(by_kind)
    if kind.dtype == "uint8":
        return BandChoice(kind, "dtype", f"the images have {kind}; all are taken as they are")
    reason = f"the images have {kind}; of each the 0.1th to 99.9th percentile is the range"
    return BandChoice(kind, "percentiles", reason)


def kinds_of(paths: Sequence[Path]) -> dict[Kind, list[Path]]:
    """Files by their kind; those that cannot be read are left out, since reading them tells why."""
    found: dict[Kind, list[Path]] = defaultdict(list)
    for path in paths:
        try:
            found[stored_kind(path)].append(path)
        except DataError:
            continue
    return dict(found)


def only_kind(by_kind: dict[Kind, list[Path]]) -> Kind:
    """The kind that all files have.

    Raises:
        DataError: they have several, or none can be read.
    """
    plain: dict[tuple[int, str], list[Path]] = defaultdict(list)
    for kind, paths in by_kind.items():
        plain[kind.bands, kind.dtype] += paths
    if len(plain) == 1:
        return next(iter(by_kind))
    if not plain:
        raise DataError("no image can be read; `ccnet check-data` says why")
    examples = "; ".join(
        f"{len(paths)} have {Kind(*kind)}, such as {paths[0]}" for kind, paths in plain.items()
    )
    raise DataError(f"the images have different bands or types: {examples}. Make them alike.")


def is_photographs(kind: Kind, paths: Sequence[Path]) -> bool:
    """Whether files of a kind are read as RGB of 8 bits without a loss."""
    looked_at = [paths[index] for index in evenly_spread(len(paths), MOST_LOOKED_AT)]
    if kind.is_photograph:
        return True
    is_npy = paths[0].suffix.lower() == ".npy"
    if kind.dtype not in ("uint8", "uint16") or is_npy or not kind.is_known:
        return False
    if kind.bands in (2, 4):
        return kind.has_alpha and all(map(has_mask, looked_at))
    return kind.bands in (1, 3) and any(map(is_bright, looked_at))


def has_mask(path: Path) -> bool:
    """Whether the last band of a file has the values of transparency: 0 and the largest one."""
    alpha = read_stored(path).pixels[:, :, -1]
    between = (alpha > 0) & (alpha < (255 if alpha.dtype.itemsize == 1 else 65535))
    return float(between.mean()) <= MOST_HALF_TRANSPARENT


def is_bright(path: Path) -> bool:
    """Whether an image of 16 bits uses more than a small part of them."""
    return int(read_stored(path).pixels.max()) >= SMALL_PART * 65536
