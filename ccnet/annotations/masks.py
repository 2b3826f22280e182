"""Label files that a source lists: the layout of Pascal VOC, CVAT's masks, and tables of files.

- Pascal VOC: JPEGImages, SegmentationClass and ImageSets/Segmentation/{train,val}.txt. Values are
  those of its 21 classes, or of the names in class_names.txt; 255 is the border.
- "Segmentation mask 1.1" of CVAT: the same with a labelmap.txt of names and colors.
- Hugging Face's `imagefolder` with a metadata.csv or .jsonl that has a column of label files, and
  an id2label.json of names.
"""

import csv
import io
import json
from pathlib import Path
from typing import Any

from ccnet.annotations.source import (
    BACKGROUNDS,
    IGNORED,
    NAME_FILES,
    SPLITS,
    Options,
    PassedOver,
    Sample,
    Source,
    count_unnamed,
    listed_names,
    require_distinct,
    require_image_name,
    safe_name,
    split_and_rest,
)
from ccnet.classes import IGNORE_INDEX, VOC
from ccnet.images.reading import IMAGE_SUFFIXES
from ccnet.runtime.files import DataError, read_json, read_text, shown

VOC_KIND, CVAT_KIND, TABLE_KIND = "Pascal VOC", "CVAT masks", "Hugging Face metadata"
IMAGES, LABELS, LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
LABEL_MAP = "labelmap.txt"
TABLES = ("metadata.csv", "metadata.jsonl")
ID_FILE = "id2label.json"
LABEL_COLUMNS = ("label", "mask", "segmentation", "annotation", "label_file_name", "mask_file_name")
MAX_LIST = 1 << 28
"""Bytes of a list or table of files."""


def read_voc(root: Path, options: Options) -> Source:
    """Read the layout of Pascal VOC, with or without CVAT's labelmap.txt.

    Raises:
        DataError: a list or the names cannot be used.
    """
    if (root / LABEL_MAP).exists():
        found = Source(CVAT_KIND, root, _colored(root / LABEL_MAP, options))
    else:
        found = Source(VOC_KIND, root, {})
        found.description = _numbered(root, _names(root, found), options)
    lists = sorted((root / LISTS).glob("*.txt"))
    by_split = {SPLITS[path.stem]: path for path in lists if path.stem in SPLITS}
    others = [path for path in lists if path not in by_split.values()]
    if not by_split and len(others) == 1:  # CVAT's default.txt
        by_split, others = {"train": others[0]}, []
    if others:
        names = ", ".join(path.name for path in others[:5])
        found.notes.append(f"lists of {LISTS} that are no split, passed over: {names}")
    if by_split:
        for split, path in by_split.items():
            _add(found, split, path, _listed(path))
    else:
        stems = sorted(path.stem for path in (root / LABELS).glob("*.png"))
        found.notes.append(f"there is no list in {LISTS}, so every label is of the split train")
        _add(found, "train", root / LABELS, stems)
    return found


def _listed(path: Path) -> list[str]:
    lines = [line.split() for line in read_text(path, MAX_LIST).splitlines() if line.strip()]
    try:
        return [safe_name(words[0]) for words in lines]
    except ValueError as error:
        raise DataError(f"{path}: {error}.", path=path) from None


def _add(found: Source, split: str, place: Path, stems: list[str]) -> None:
    """Add the samples of a split, by the names of their files without suffix."""
    images, labels = found.root / IMAGES, found.root / LABELS
    samples, missing = found.splits.setdefault(split, []), found.missing.setdefault(split, [])
    for stem in stems:
        candidates = [images / f"{stem}{suffix}" for suffix in IMAGE_SUFFIXES]
        image = next((path for path in candidates if path.exists()), candidates[0])
        label = labels / f"{stem}.png"
        missing += [path for path in (image, label) if not path.exists()]
        if image.exists() and label.exists():
            samples.append(Sample(image.relative_to(images).as_posix(), image, label))
    require_distinct(place, stems)


def _names(root: Path, found: Source) -> list[str]:
    listed = listed_names(root)
    if listed is not None:
        return listed[1]
    found.notes.append(
        f"no {LABEL_MAP} and no {NAME_FILES[0]}: values are those of the 21 classes of VOC"
    )
    return list(VOC)


def _numbered(place: Path, names: list[str], options: Options) -> dict[str, Any]:
    """The description of label files of numbers: the classes, and what each number stands for."""
    if options.unlabeled == "ignored":
        names = ["ignore" if name.lower() in BACKGROUNDS else name for name in names]
    kept = [name for name in names if name.lower() not in IGNORED]
    if not kept or len(set(kept)) < len(kept) or len(names) > IGNORE_INDEX:
        raise DataError(
            f"{place}: its classes must be 1 to 255 different names, got {shown(names)}.",
            path=place,
        )
    if kept == names:
        return {"classes": kept}
    targets = [name if name in kept else "ignore" for name in names]
    return {"classes": kept, "mapping": dict(enumerate(targets))}


def _colored(path: Path, options: Options) -> dict[str, Any]:
    """The description of label files of colors, from lines name:r,g,b:parts:actions."""
    classes: dict[str, list[int]] = {}
    ignored: list[list[int]] = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.strip().partition(":")
        words = rest.partition(":")[0].split(",")
        if len(words) != 3 or not all(word.strip().isdecimal() for word in words) or not name:
            raise DataError(
                f"{path}, line {number}: must be name:red,green,blue:parts:actions, got "
                f"{shown(line)}.",
                path=path,
            )
        color = [int(word[:9]) for word in words]
        is_unlabeled = options.unlabeled == "ignored" and name.lower() in BACKGROUNDS
        if name.lower() in IGNORED or is_unlabeled:
            ignored.append(color)
        elif name in classes:
            raise DataError(
                f"{path}, line {number}: the class {shown(name)} is there twice.", path=path
            )
        else:
            classes[name] = color
    return {"classes": classes, "ignore": ignored, "labels": "rgb"}


def read_tables(root: Path, tables: list[Path], options: Options) -> Source:
    """Read tables of images and label files, as those of Hugging Face's `imagefolder`.

    Args:
        root: the folder of the data set.
        tables: in the root, or each in the folder of a split.
        options: what unlabeled pixels are.

    Raises:
        DataError: a table cannot be used, or no file names the classes.
    """
    found = Source(TABLE_KIND, root, _numbered(root, _numbered_names(root), options))
    for table in tables:
        for number, image, label in _rows(table):
            folder = "" if table.parent == root else table.parent.relative_to(root).as_posix()
            try:
                names = [safe_name(name, folder) for name in (image, label)]
                require_image_name(names[0])
            except ValueError as error:
                raise DataError(f"{table}, row {number}: {error}.", path=table) from None
            split, name = split_and_rest(names[0])
            paths = [root / name for name in names]
            samples = found.splits.setdefault(split, [])
            absent = [path for path in paths if not path.exists()]
            found.missing.setdefault(split, []).extend(absent)
            if not absent:
                samples.append(Sample(name, *paths))
        for samples in found.splits.values():
            require_distinct(table, [sample.name for sample in samples])
    passed = PassedOver()
    count_unnamed(found, passed)
    found.notes += passed.notes()
    return found


def label_column(columns: list[str]) -> str | None:
    """The column of label files among those of a table."""
    return next((column for column in LABEL_COLUMNS if column in columns), None)


def columns_of(table: Path) -> list[str]:
    """The columns of a table, from its first line.

    Raises:
        DataError: it cannot be read.
    """
    lines = read_text(table, MAX_LIST).lstrip("\n").splitlines()[:1]
    if not lines:
        return []
    if table.suffix == ".csv":
        return next(csv.reader(lines))
    try:
        row = json.loads(lines[0])
    except (ValueError, RecursionError):
        raise DataError(f"{table}, row 1: not a line of JSON.", path=table) from None
    return list(row) if isinstance(row, dict) else []


def _rows(table: Path) -> list[tuple[int, object, object]]:
    """Number, image and label of each row."""
    column = label_column(columns_of(table)) or LABEL_COLUMNS[0]
    text = read_text(table, MAX_LIST)
    try:
        if table.suffix == ".csv":
            rows = list(csv.DictReader(io.StringIO(text, newline="")))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (ValueError, RecursionError, csv.Error) as error:
        raise DataError(f"{table}: cannot be read: {str(error)[:200]}.", path=table) from None
    if not rows or not all(isinstance(row, dict) for row in rows):
        raise DataError(f"{table}: it has no rows with `file_name` and {column!r}.", path=table)
    return [(n, row.get("file_name"), row.get(column)) for n, row in enumerate(rows, start=1)]


def _numbered_names(root: Path) -> list[str]:
    """The names of the classes by number, from id2label.json or a file of lines."""
    path = root / ID_FILE
    if not path.exists():
        listed = listed_names(root)
        if listed is None:
            raise DataError(
                f"{root}: nothing names the classes of its label files; write {ID_FILE}, such as "
                f'{{"0": "background", "1": "leaf"}}, or {NAME_FILES[1]} with a name a line.',
                path=root,
            )
        return listed[1]
    content = read_json(path)
    numbers = sorted(content, key=lambda key: (len(key), key)) if isinstance(content, dict) else []
    named = [content[number] for number in numbers]
    if (
        not numbers
        or numbers != [str(number) for number in range(len(numbers))]
        or not all(isinstance(name, str) and name for name in named)
    ):
        raise DataError(
            f"{path}: must give a name to each number from 0, got {shown(content)}.", path=path
        )
    return named
