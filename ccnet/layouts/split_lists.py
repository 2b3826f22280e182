"""The lists that `ccnet split` writes: which images there are to divide, and what is replaced."""

import os
from dataclasses import dataclass
from pathlib import Path

from ccnet.layouts.files import Pairs, composed, refuse_unmatched, relative_name
from ccnet.layouts.lists import MARK, write_list
from ccnet.layouts.search import stored_split, unsplit
from ccnet.layouts.splits import Division, divide_files, group_of
from ccnet.runtime.disk import remove
from ccnet.runtime.files import DataError, open_regular, require_folder

NAMES = ("train", "val", "test")


@dataclass(frozen=True)
class Count:
    """What a split got."""

    images: int
    groups: int


def undivided(root: Path) -> Pairs:
    """The images that a folder has without lists, all with a label, and without a split val.

    Raises:
        DataError: there are none, they are divided already, or files have no partner.
    """
    require_folder(root)
    if (stored := stored_split(root, "val", use_list=False)) is not None:
        raise DataError(
            f"{root}: there is a split val already, in {stored.layout}; nothing was written.",
            path=root,
        )
    whole = stored_split(root, "train", use_list=False) or unsplit(root)
    if whole is None:
        raise DataError(
            f"{root}: no images with label files of the same name, or with a suffix as in "
            "a_mask.png, were found. `ccnet import` makes label files of annotations.",
            path=root,
        )
    refuse_unmatched(root, whole)
    return whole


def write_splits(root: Path, whole: Pairs, division: Division) -> dict[str, Count]:
    """Divide images and write train.txt, val.txt and, if it has a share, test.txt.

    A list test.txt of an earlier call goes if there is no such share now.

    Returns:
        What each split got.

    Raises:
        DataError: a list is there that this did not write, or as `divide_files`.
    """
    for path in (root / f"{name}.txt" for name in NAMES):
        if os.path.lexists(path) and not is_own(path):
            raise DataError(
                f"{path}: it is there, and `ccnet split` did not write it; rename or remove it.",
                path=path,
            )
    images = [image for image, _ in whole.pairs]
    parts = divide_files(root, images, division)
    counts = {}
    for split in NAMES:
        if split not in parts:
            remove(root / f"{split}.txt")
            continue
        pairs = [whole.pairs[index] for index in parts[split]]
        write_list(root / f"{split}.txt", pairs, root, f"{MARK}: {division}")
        groups = {
            group_of(composed(relative_name(images[index], root)), division)
            for index in parts[split]
        }
        counts[split] = Count(len(pairs), len(groups))
    return counts


def is_own(path: Path) -> bool:
    """Whether `ccnet split` wrote a list; raises DataError if it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(len(MARK)) == MARK.encode()
    except OSError as error:
        raise DataError(f"{path}: it cannot be read or replaced ({error}).", path=path) from None
