"""List files: one pair of image and label per line, or the name of an image alone."""

import io
import json
import os
import posixpath
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from ccnet.images.opening import obstacle_to
from ccnet.layouts.files import Pairs, composed, existing, relative_name
from ccnet.runtime.disk import write_text
from ccnet.runtime.files import DataError, read_text, shown

MAX_LIST = 1 << 28
"""Bytes of a list file; those of a million pairs have about a hundred million."""
MARK = "# written by `ccnet split`"
"""With what the lists begin that `ccnet split` may replace."""
MOST_CUTS = 64
"""Places at which a line of many separators is tried to be cut in two."""


def read_list(
    root: Path,
    listed: Path,
    split: str = "",
    known: Callable[[], Iterable[tuple[Path, Path]]] | None = None,
) -> Pairs:
    """Read a list: one pair per line, "image label", separated by a comma, a tab or blanks.

    Names are relative to the root or absolute. Empty lines and lines that begin with # are skipped.
    Where a name contains the separator, that separator counts by which both files exist; a name in
    double quotes is a JSON string, which may contain anything. Where no line is a pair of files,
    the lines may be names of images, as those of Pascal VOC.

    Args:
        root: folder of the data set.
        listed: the list.
        split: what was asked for, if that was the list.
        known: finds the pairs of which a line may name the image, without its suffix or folders.

    Raises:
        DataError: a line is neither, or several pairs of files; the message says what was tried.
    """
    lines = list(lines_of(listed))
    layout = relative_name(listed, root) if split else listed.name
    pairs, causes = [], []
    for number, line in lines:
        try:
            pairs.append(read_line(root, line))
        except ValueError as error:
            causes.append(DataError(f"{listed}, line {number}: {error}", path=listed))
    is_pairs = any(all(map(os.path.lexists, pair)) for pair in pairs)
    if known is not None and not is_pairs and (causes or has_blanks_only(lines)):
        named = _named_pairs(root, listed, lines, known())
        if named is not None:
            return sorted_by_presence(layout, named)
        for cause in causes[:1]:
            cause.add_note("nor is it the name of an image that the folders hold with its label")
    if causes:
        raise causes[0]
    return sorted_by_presence(layout, pairs)


def has_blanks_only(lines: Iterable[tuple[int, str]]) -> bool:
    """Whether no line of a list has a comma or a tab, so that its blanks may be part of names."""
    return not any(set(line) & set(",\t") for _, line in lines)


def lines_of(listed: Path) -> Iterator[tuple[int, str]]:
    """The lines of a list that count, stripped, with their numbers. Raises as `read_text`."""
    lines = io.StringIO(read_text(listed, MAX_LIST), newline=None)
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.lstrip().startswith("#"):
            yield number, line.strip()


def sorted_by_presence(layout: str, pairs: Iterable[tuple[Path, Path]]) -> Pairs:
    """The files of a split by whether both of a pair, one or none is there and can be opened."""
    there, images, labels, missing, unusable = [], [], [], [], []
    for image, label in pairs:
        obstacles = [obstacle_to(path) for path in (image, label)]
        for path, obstacle in zip((image, label), obstacles, strict=True):
            if obstacle is not None and os.path.lexists(path):
                unusable.append(obstacle)
            elif obstacle is not None and path not in missing[-1:]:
                missing.append(path)
        if obstacles == [None, None]:
            there.append((image, label))
        elif obstacles[0] is None:
            images.append(image)
        elif obstacles[1] is None:
            labels.append(label)
    unmatched = (tuple(images), tuple(labels))
    return Pairs(layout, tuple(there), *unmatched, tuple(missing), tuple(unusable))


def _named_pairs(
    root: Path, listed: Path, lines: list[tuple[int, str]], known: Iterable[tuple[Path, Path]]
) -> list[tuple[Path, Path]] | None:
    """The pairs whose images the lines name; None if no line does.

    Raises:
        DataError: a line names several images.
    """
    by_name: dict[str, dict[Path, Path]] = {}
    for image, label in known:
        parts = composed(relative_name(image, root)).split("/")
        for start in range(len(parts)):
            name = "/".join(parts[start:])
            for key in (name, name[: len(name) - len(image.suffix)]):
                by_name.setdefault(key, {})[image] = label
    pairs, is_any = [], False
    for number, line in lines:
        name = composed(posixpath.normpath(unquoted(line)))
        found = by_name.get(name, {root / name: root / name})
        if len(found) > 1:
            images = ", ".join(relative_name(image, root) for image in list(found)[:3])
            raise DataError(
                f"{listed}, line {number}: {shown(line)} names several images: {images}. Write its "
                "folder too.",
                path=listed,
            )
        is_any |= name in by_name
        pairs += found.items()
    return pairs if is_any else None


def read_line(root: Path, line: str) -> tuple[Path, Path]:
    """The image and the label that a line names.

    Raises:
        ValueError: it does not name two files, or it may be read in several ways.
    """
    if "\0" in line:
        raise ValueError(f"must hold two paths, image and label, got {shown(line)}.")
    names = usual_names(line)
    usual = None if names is None else files_of(root, names)
    if usual is not None and all(map(os.path.lexists, usual)):
        return usual
    found = {files_of(root, names): names for names in cuts(line)}
    there = [paths for paths in found if all(map(os.path.lexists, paths))]
    if len(there) == 1:
        return there[0]
    if len(there) > 1:
        ways = " or ".join(" with ".join(map(shown, found[paths])) for paths in there[:3])
        raise ValueError(f"may mean {ways}. Put the names in double quotes.")
    if usual is not None:
        return usual
    raise ValueError(
        f"must hold two paths, image and label, got {shown(line)}. Use a comma or a tab between "
        "paths that contain blanks, and double quotes around those that contain these: a comma, a "
        "tab and blanks were tried, and none leaves two files that exist."
    )


def usual_names(line: str) -> tuple[str, str] | None:
    """The two names of a line by its quotes, or by its first kind of separator."""
    if line.startswith('"'):
        return quoted_names(line)
    separator = next((mark for mark in (",", "\t") if mark in line), None)
    names = [name.strip() for name in line.split(separator)]
    return (names[0], names[1]) if len(names) == 2 and all(names) else None


def quoted_names(line: str) -> tuple[str, str] | None:
    """Two names of which the first is a JSON string, and the second one too, or as it is."""
    try:
        first, end = json.JSONDecoder().raw_decode(line)
        rest = line[end:].lstrip(", \t")
        second = json.loads(rest) if rest.startswith('"') else rest
    except ValueError:
        return None
    return (first, second) if second and isinstance(second, str) else None


def cuts(line: str) -> Iterator[tuple[str, str]]:
    """Every way to cut a line in two at a comma, a tab or blanks."""
    for mark in (",", "\t", " "):
        place = line.find(mark)
        for _ in range(MOST_CUTS):
            if place < 0:
                break
            left, right = line[:place].strip(), line[place + 1 :].strip()
            if left and right:
                yield unquoted(left), unquoted(right)
            place = line.find(mark, place + 1)


def unquoted(name: str) -> str:
    if not name.startswith('"'):
        return name
    try:
        content = json.loads(name)
    except ValueError:
        return name
    return content if isinstance(content, str) else name


def files_of(root: Path, names: tuple[str, str]) -> tuple[Path, Path]:
    return existing(root, names[0]), existing(root, names[1])


def write_list(path: Path, pairs: Iterable[tuple[Path, Path]], root: Path, comment: str) -> None:
    """Write pairs as `read_list` reads them again: relative to the root, or absolute elsewhere."""
    lines = [f"{comment}\n"]
    for pair in pairs:
        names = (relative_name(file, root) for file in pair)
        lines.append(",".join(map(quoted_if_needed, names)) + "\n")
    write_text(path, "".join(lines))


def quoted_if_needed(name: str) -> str:
    """A name as a JSON string where it would not be read as it is."""
    is_plain = name.isprintable() and name == name.strip() and not set(name) & set(',"\\')
    return name if is_plain and not name.startswith("#") else json.dumps(name, ensure_ascii=False)
