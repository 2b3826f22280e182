"""Where the images and labels of a split are: a list, two folders, one folder, or a share."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

from ccnet.layouts.files import Pairs, relative_name
from ccnet.layouts.lists import read_list
from ccnet.layouts.pairing import pair_folders, pair_in_one_folder
from ccnet.layouts.splits import Division, counted, divide_files
from ccnet.runtime.files import DataError, cause_of, require_folder

IMAGES = ("images", "imgs", "img", "image", "jpegimages", "leftimg8bit")
LABELS = ("labels", "masks", "mask", "annotations", "annotation", "gt", "gtfine")
LABELS += ("segmentationclass", "label")
"""Names of folders of images and of labels; capital letters do not count."""
OTHER_NAMES = {
    "train": ("training",),
    "val": ("valid", "validation"),
    "test": ("testing",),
}
"""Other names that splits have."""
VOC_LISTS = "ImageSets/Segmentation"
"""Where the layout of Pascal VOC has its lists."""
MOST_SHOWN = 12


def find_pairs(
    root: Path,
    split: str,
    layouts: Sequence[tuple[str, str]] = (),
    use_list: bool = True,
    division: Division | None = None,
) -> Pairs:
    """Find the images of a split, and for each its label.

    The list `<split>.txt` comes first, in the root or in ImageSets/Segmentation
    (`ccnet.layouts.lists`), then folders of images and labels of that split (`{split}/images` +
    `{split}/labels`, `images/{split}` + `labels/{split}`, other usual names, or both in the folder
    `{split}`), with all their subfolders. A label has the name of its image, or that name with a
    suffix (`ccnet.layouts.rules`). Where there is no validation
    split, `division` divides the training images, or those of a data set without splits. Files
    without a partner raise nothing; they are in the result.

    Args:
        root: Folder of the data set.
        split: Part of the data set, or a list file: a name that ends in .txt, relative to the root
            or to the current folder.
        layouts: Further pairs of folders, of images and of labels, relative to the root, in which
            {split} stands for the split; the first that is there counts.
        use_list: Whether list files count.
        division: How to divide images that nobody has divided. None: not at all.

    Raises:
        DataError: There is no such split, several folders may be meant, or a list is damaged.
    """
    require_folder(root)
    if split.endswith(".txt") and use_list:
        listed = list_of_that_name(root, split)
        return read_list(root, listed, split, lambda: pairs_in_folders(root))
    found = stored_split(root, split, layouts, use_list)
    if division is not None:
        found = divided(root, split, found, layouts, use_list, division)
    if found is not None:
        return found
    tried = [f"{split}/images + {split}/labels", f"images/{split} + labels/{split}"]
    tried += [" + ".join(name.format(split=split) for name in pair) for pair in layouts]
    tried += [f"{split}.txt"] * use_list
    raise DataError(
        f"{root}: no split {split!r}. Looked for {'; '.join(tried)}; "
        f"the folder holds: {content_of(root)}.",
        path=root,
    )


def content_of(root: Path) -> str:
    """Names in a folder, for a message."""
    names = sorted(os.listdir(root))  # noqa: PTH208 - of names
    return (", ".join(names[:MOST_SHOWN]) + ", ..." * bool(names[MOST_SHOWN:])) or "nothing"


def list_of_that_name(root: Path, name: str) -> Path:
    """A list file, relative to the root or to the current folder."""
    within = root / name
    return within if os.path.lexists(within) or not os.path.lexists(name) else Path(name)


def stored_split(
    root: Path, split: str, layouts: Sequence[tuple[str, str]] = (), use_list: bool = True
) -> Pairs | None:
    """The files of a split that is there, as a list or as folders; None if it is not.

    Raises as `find_pairs`.
    """
    lists = (root / f"{split}.txt", root / VOC_LISTS / f"{split}.txt")
    listed = next((path for path in lists if use_list and os.path.lexists(path)), None)
    if listed is not None:
        files = read_list(root, listed, known=lambda: pairs_in_folders(root, split))
        folders = next(folders_of_split(root, split), None)
        if folders is None:
            return files
        places = " + ".join(relative_name(folder, root) for folder in folders)
        return replace(files, notes=(f"{listed.name} says the pairs, not the folders {places}",))
    for images, labels in layouts:
        folders = root / images.format(split=split), root / labels.format(split=split)
        if all(map(is_folder, folders)):
            return pair_folders(root, *folders)
    for name in (split, *OTHER_NAMES.get(split, ())):
        found = in_folders(root, list(folders_of_split(root, name)))
        if found is None:
            for folder in subfolders(root, (name,)):
                files = pair_in_one_folder(root, folder)
                found = files if files.pairs else found
        if found is not None:
            said = [] if name == split else [f"{name} is the split {split}"]
            return replace(found, notes=(*said, *found.notes))
    return None


def pairs_in_folders(root: Path, split: str = "train") -> list[tuple[Path, Path]]:
    """The pairs that lines of a list may name: those in folders of any split, and undivided ones.

    Raises as `find_pairs`.
    """
    splits = dict.fromkeys((split, *OTHER_NAMES))
    found = [*(stored_split(root, name, use_list=False) for name in splits), unsplit(root)]
    return [pair for files in found if files is not None for pair in files.pairs]


def divided(
    root: Path,
    split: str,
    found: Pairs | None,
    layouts: Sequence[tuple[str, str]],
    use_list: bool,
    division: Division,
) -> Pairs | None:
    """The share of a split where nobody divided the images; `found` where somebody did.

    Raises as `find_pairs`, and DataError if there are too few images, or if a division by groups
    is asked for that is there already.
    """
    is_list = division.train.endswith(".txt") or division.val.endswith(".txt")
    if split not in division.splits or is_list:
        return found
    parts = {name: found if name == split else None for name in division.splits}
    for name in (division.train, division.val):
        parts[name] = parts[name] or stored_split(root, name, layouts, use_list)
    if parts[division.val] is not None:
        refuse_groups(root, division)
        return found
    if found is not None and split != division.train:
        return found
    whole = parts[division.train] or unsplit(root)
    return None if whole is None else share(root, split, whole, division)


def refuse_groups(root: Path, division: Division) -> None:
    """Raises DataError for a division by groups where the images are divided already."""
    if division.group_by is not None:
        raise DataError(
            f"{root}: there is a split {division.val} already, so nothing is divided by "
            "groups; leave the pattern out, or take that split away.",
            path=root,
        )


def share(root: Path, split: str, whole: Pairs, division: Division) -> Pairs:
    """The files of one split of a division; files without a partner belong to each.

    Raises DataError as `divide_files`.
    """
    if not whole.pairs:
        return whole
    indices = divide_files(root, [image for image, _ in whole.pairs], division)
    return replace(
        whole,
        pairs=tuple(whole.pairs[index] for index in indices[split]),
        notes=(counted(indices, division), *whole.notes),
    )


def unsplit(root: Path) -> Pairs | None:
    """The files of a data set without splits; None if there are none. Raises as `find_pairs`."""
    folders = list(product(subfolders(root, IMAGES), subfolders(root, LABELS)))
    found = in_folders(root, folders)
    is_divided = any(subfolders(root, (name, *others)) for name, others in OTHER_NAMES.items())
    if (found is None or not found.pairs) and not is_divided:
        files = pair_in_one_folder(root, root)
        found = files if files.pairs else found
    return found


def in_folders(root: Path, folders: Sequence[tuple[Path, Path]]) -> Pairs | None:
    """The files of the only two folders, of some, that hold pairs.

    Raises:
        DataError: several do.
    """
    if len(folders) < 2:
        return pair_folders(root, *folders[0]) if folders else None
    found = [pair_folders(root, *pair) for pair in folders]
    full = [files for files in found if files.pairs]
    if len(full) > 1:
        raise DataError(
            f"{root}: several folders may be meant: {'; '.join(f.layout for f in full)}. Rename "
            "those that do not count, or name the pairs in a list, one pair per line.",
            path=root,
        )
    return (full or found)[0]


def folders_of_split(root: Path, split: str) -> Iterator[tuple[Path, Path]]:
    """Folders of images and of labels that a split may have, by their names."""
    own = subfolders(root, (split,))
    for folder in own:
        yield from product(subfolders(folder, IMAGES), subfolders(folder, LABELS))
    for images in subfolders(root, IMAGES):
        for labels in subfolders(root, LABELS):
            yield from product(subfolders(images, (split,)), subfolders(labels, (split,)))
    for pattern in ("{split}_{part}", "{part}_{split}"):
        names = [
            [pattern.format(split=split, part=part) for part in parts] for parts in (IMAGES, LABELS)
        ]
        labels = subfolders(root, names[1])
        yield from product([*own, *subfolders(root, names[0])], labels)


def subfolders(folder: Path, names: Sequence[str]) -> list[Path]:
    """The folders in a folder that have one of some names; capital letters do not count.

    Raises:
        DataError: the folder, or one of that name, cannot be opened.
    """
    try:
        there = sorted(os.listdir(folder))  # noqa: PTH208 - of names
    except OSError as error:
        raise DataError(f"{folder}: {cause_of(error)}.", path=folder) from error
    wanted = {name.casefold() for name in names}
    paths = [folder / name for name in there if name.casefold() in wanted]
    return [path for path in paths if is_folder(path)]


def is_folder(path: Path) -> bool:
    try:
        return stat.S_ISDIR(path.stat().st_mode)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise DataError(f"{path}: {cause_of(error)}.", path=path) from error
