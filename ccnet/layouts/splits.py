"""Training and validation images where nobody divided them: by the hash of each name."""

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccnet.layouts.files import composed, relative_name
from ccnet.runtime.files import DataError, shown


@dataclass(frozen=True)
class Division:
    """How images without a validation split are divided.

    An image belongs to a split by the hash of its name alone, so the split is the same on every
    machine, and images that are added later move none. Names are compared in Unicode's composed
    form and with forward slashes, relative to the root.

    Raises:
        ValueError: the shares leave nothing to train on, or the pattern is no regular expression.
    """

    val_share: float = 0.2
    """Share of the images, or of the groups, to validate on; above 0."""
    test_share: float = 0.0
    """Share of those to test on."""
    group_by: str | None = None
    """Regular expression; names in which it finds the same text (its first group, or all of it)
    stay together."""
    train: str = "train"
    """Name of the split to train on."""
    val: str = "val"
    """Name of the split to validate on."""

    def __post_init__(self) -> None:
        if not (self.val_share > 0 and self.test_share >= 0):
            raise ValueError(f"the share of {self.val} must be above 0, got {self.val_share}")
        if self.val_share + self.test_share >= 1:
            raise ValueError(f"shares of {self.val_share} and {self.test_share} leave no training")
        try:
            re.compile(self.group_by or "")
        except re.error as error:
            raise ValueError(f"{shown(self.group_by)} is no regular expression: {error}") from None

    @property
    def splits(self) -> tuple[str, ...]:
        """Names of the splits that it makes."""
        return (self.train, self.val, *(["test"] if self.test_share else []))

    def __str__(self) -> str:
        kind = "names" if self.group_by is None else f"what {shown(self.group_by)} finds in names"
        shares = f"{self.val_share:.0%} {self.val}"
        if self.test_share:
            shares += f", {self.test_share:.0%} test"
        return f"divided by the hash of {kind}, {shares}"


def divide(names: Sequence[str], division: Division) -> dict[str, list[int]]:
    """Divide images; each split gets at least one image, or one group.

    Args:
        names: of the images, relative to the root, with forward slashes.
        division: how to divide them.

    Returns:
        The indices of each split, in order.

    Raises:
        DataError: the pattern finds nothing in a name, or there are too few images or groups.
    """
    keys = [group_of(composed(name), division) for name in names]
    groups = {key: hash_of(key) for key in keys}
    if len(groups) < len(division.splits):
        kind = "images" if division.group_by is None else f"groups by {shown(division.group_by)}"
        raise DataError(
            f"{len(groups)} {kind} cannot be divided into {', '.join(division.splits)}, each of "
            "which needs one; add some, or name the images of each split in a list"
        )
    split_of = {key: split_at(place, division) for key, place in groups.items()}
    _leave_none_empty(split_of, groups, division)
    found = {split: [] for split in division.splits}
    for index, key in enumerate(keys):
        found[split_of[key]].append(index)
    return found


def divide_files(root: Path, images: Sequence[Path], division: Division) -> dict[str, list[int]]:
    """`divide` by the paths of images, relative to the root, which the errors name."""
    try:
        return divide([relative_name(image, root) for image in images], division)
    except DataError as error:
        raise DataError(f"{root}: {error}.", path=root) from None


def counted(parts: Mapping[str, Sequence[int]], division: Division) -> str:
    """What a division did, in a line."""
    return f"{division}: " + ", ".join(f"{name} {len(part)}" for name, part in parts.items())


def split_at(place: float, division: Division) -> str:
    """The split of a hash, 0 to 1."""
    if place < division.val_share:
        return division.val
    return "test" if place < division.val_share + division.test_share else division.train


def _leave_none_empty(
    split_of: dict[str, str], groups: dict[str, float], division: Division
) -> None:
    """Give each empty split the group whose hash is nearest to its part, where another has two."""
    order = sorted(groups, key=lambda key: (groups[key], key))
    for split in (division.val, *division.splits[2:], division.train):
        if split in split_of.values():
            continue
        candidates = order if split != division.train else order[::-1]
        members = list(split_of.values())
        key = next(key for key in candidates if members.count(split_of[key]) > 1)
        split_of[key] = split


def group_of(name: str, division: Division) -> str:
    """What stays together: the name, or what the pattern finds in it."""
    if division.group_by is None:
        return name
    found = re.search(division.group_by, name)
    group = None if found is None else found[1 if found.re.groups else 0]
    if not group:
        raise DataError(
            f"{shown(name)}: the pattern {shown(division.group_by)} finds nothing in this name; "
            "every image needs a group"
        )
    return group


def hash_of(key: str) -> float:
    """A number from 0 to 1 that only depends on the text."""
    digest = hashlib.sha256(key.encode("utf-8", errors="surrogatepass")).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
