"""Pairs of the files in two folders, or in one."""

from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

from ccnet.images.opening import leads_to_folder, obstacle_to
from ccnet.images.reading import IMAGE_SUFFIXES, FoundFiles, search_files
from ccnet.layouts.files import Pairs, composed, named, notes_on_others, relative_name
from ccnet.layouts.rules import (
    SAME_NAME,
    AmbiguousRuleError,
    Rule,
    best_of,
    choose_rule,
    is_companion,
)
from ccnet.runtime.files import DataError

LABEL_SUFFIXES = (".png", ".tif", ".tiff", ".bmp", ".gif", ".npy")
PHOTOGRAPHS = (".jpg", ".jpeg", ".webp", ".npy")
"""Suffixes of files that are images rather than labels, where both lie in one folder."""


def pair_folders(root: Path, images: Path, labels: Path, rules: Sequence[Rule] = ()) -> Pairs:
    """Pair the images of a folder with the labels of another, by the paths below them.

    Args:
        root: folder of the data set.
        images, labels: the folders.
        rules: how labels may be named, the first by preference; other files beside them are passed
            over without a note. None: that is found out.

    Raises:
        DataError: a folder cannot be opened, or several labels may belong to an image.
    """
    found = search_files(images), search_files(labels, {*IMAGE_SUFFIXES, *LABEL_SUFFIXES})
    unusable: dict[Path, DataError] = {}
    image_of, spare_images = _by_key(found[0].files, images, IMAGE_SUFFIXES, unusable)
    label_of, spare_labels = _by_key(found[1].files, labels, LABEL_SUFFIXES, unusable)
    layout = f"{relative_name(images, root)} + {relative_name(labels, root)}"
    try:
        if rules:
            rule, partners = best_of(rules, image_of, label_of)
        else:
            rule, partners = choose_rule(image_of, label_of, in_one_folder=False)
    except AmbiguousRuleError as error:
        raise DataError(f"{root} ({layout}): {error}.", path=labels) from None
    paired = set(partners.values())
    spare_images += [path for key, path in image_of.items() if key not in partners]
    rest = [key for key in label_of if key not in paired]
    if rules:
        others = tuple(other.label for other in rules if other != rule and other.label)
        rest = [key for key in rest if key.endswith(rule.label) and not key.endswith(others)]
    passed = [] if rule == SAME_NAME else [label_of[key] for key in rest if is_companion(key)]
    spare_labels += [label_of[key] for key in rest if label_of[key] not in passed]
    notes = [] if rule == SAME_NAME else [f"labels are named {rule}"]
    notes = () if rules else (*notes, *_notes(root, found, passed))
    pairs = [(image_of[image], label_of[label]) for image, label in partners.items()]
    return Pairs(
        layout=layout,
        pairs=tuple(sorted(p for p in pairs if unusable.keys().isdisjoint(p))),
        unmatched_images=tuple(sorted(spare_images)),
        unmatched_labels=tuple(sorted(spare_labels)),
        unusable=tuple(unusable.values()),
        hidden=tuple(path for part in found for path in part.hidden),
        notes=notes,
    )


def pair_in_one_folder(root: Path, folder: Path) -> Pairs:
    """Pair images and labels that lie in one folder: by a suffix, or a.jpg with a.png.

    No pair is found where the folder holds something else.

    Raises:
        DataError: the folder cannot be opened, or several labels may belong to an image.
    """
    found = search_files(folder, {*IMAGE_SUFFIXES, *LABEL_SUFFIXES})
    unusable: dict[Path, DataError] = {}
    photographs = [path for path in found.files if path.suffix.lower() in PHOTOGRAPHS]
    others = [path for path in found.files if path.suffix.lower() not in PHOTOGRAPHS]
    photo_of, spare = _by_key(photographs, folder, IMAGE_SUFFIXES, unusable)
    label_of, spare_labels = _by_key(others, folder, LABEL_SUFFIXES, unusable)
    image_of = label_of | photo_of
    layout = relative_name(folder, root) if folder != root else "one folder"
    try:
        rule, partners = choose_rule(image_of, label_of, in_one_folder=True)
    except AmbiguousRuleError as error:
        raise DataError(f"{folder}: {error}.", path=folder) from None
    pairs = [(image_of[image], label_of[label]) for image, label in partners.items()]
    spare += spare_labels
    spare += {*photo_of.values(), *label_of.values()}.difference(*pairs)
    passed = [path for path in spare if is_companion(path.stem)] if rule != SAME_NAME else []
    spare = sorted(set(spare).difference(passed))
    is_label = [
        path.suffix.lower() in LABEL_SUFFIXES
        and (path.stem.endswith(rule.label) if rule.label else bool(photo_of))
        for path in spare
    ]
    return Pairs(
        layout=layout,
        pairs=tuple(sorted(p for p in pairs if unusable.keys().isdisjoint(p))),
        unmatched_images=tuple(p for p, label in zip(spare, is_label, strict=True) if not label),
        unmatched_labels=tuple(p for p, label in zip(spare, is_label, strict=True) if label),
        unusable=tuple(unusable.values()),
        hidden=tuple(found.hidden),
        notes=(f"images and labels are in one folder: {rule}", *_notes(root, [found], passed)),
    )


def _by_key(
    files: Iterable[Path],
    folder: Path,
    suffixes: Collection[str],
    unusable: dict[Path, DataError],
) -> tuple[dict[str, Path], list[Path]]:
    """The files by their relative path without suffix, and those that cannot have a partner.

    Those that cannot be opened are also added to `unusable`, with the reason.
    """
    by_key: dict[str, Path] = {}
    spare = []
    for path in files:
        obstacle = obstacle_to(path)
        if obstacle is not None:
            unusable[path] = obstacle
        if leads_to_folder(path):  # one that may not be searched
            continue
        key = composed(path.relative_to(folder).with_suffix("").as_posix())
        if path.suffix.lower() not in suffixes or key in by_key:
            spare.append(path)
        else:
            by_key[key] = path
    return by_key, spare


def _notes(root: Path, found: Iterable[FoundFiles], passed: list[Path]) -> list[str]:
    """What a search passed over, one line per kind."""
    notes, others = [], {}
    for part in found:
        for suffix, count in part.others.items():
            others[suffix] = others.get(suffix, 0) + count
        if part.repeated:
            notes.append(
                f"links to folders that are searched already: {len(part.repeated)} "
                f"({named(part.repeated, root, 3)})"
            )
    if passed:
        notes.append(
            f"pictures beside the labels that are none: {len(passed)} ({named(passed, root, 3)})"
        )
    return [*notes, *notes_on_others(others.items())]
