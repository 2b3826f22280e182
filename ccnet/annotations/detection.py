"""Which annotations a folder holds."""

import re
from pathlib import Path
from typing import Literal

from ccnet.annotations.coco import KIND as COCO_KIND
from ccnet.annotations.coco import read_coco
from ccnet.annotations.labelme import KIND as LABELME_KIND
from ccnet.annotations.labelme import read_labelme
from ccnet.annotations.masks import (
    CVAT_KIND,
    IMAGES,
    LABEL_MAP,
    LABELS,
    TABLE_KIND,
    TABLES,
    VOC_KIND,
    columns_of,
    label_column,
    read_tables,
    read_voc,
)
from ccnet.annotations.source import SPLITS, Options, Source
from ccnet.annotations.yolo import KIND as YOLO_KIND
from ccnet.annotations.yolo import read_yolo
from ccnet.images.reading import search_files
from ccnet.runtime.files import DataError, cause_of, open_regular, read_yaml, require_folder

Format = Literal["coco", "labelme", "yolo", "voc", "cvat", "metadata"]
KINDS: dict[str, str] = {
    "coco": COCO_KIND,
    "labelme": LABELME_KIND,
    "yolo": YOLO_KIND,
    "voc": VOC_KIND,
    "cvat": CVAT_KIND,
    "metadata": TABLE_KIND,
}
HEAD = 1 << 16
"""Bytes of a JSON file that show what it is."""
SHAPES = re.compile(rb'"(shapes|imagePath)"\s*:')
LISTS = re.compile(rb'"(images|annotations|categories)"\s*:\s*\[')


def find_formats(source: Path) -> dict[Format, list[Path]]:
    """The kinds of annotations in a folder, or of a single JSON file, and their files.

    Raises:
        DataError: there is no such folder or file, or a file in it cannot be opened.
    """
    if source.suffix.lower() == ".json" and not source.is_dir():
        kind = _kind_of_json(source)
        return {} if kind is None else {kind: [source]}
    require_folder(source)
    found: dict[Format, list[Path]] = {}
    for path in search_files(source, (".json",)).files:
        kind = _kind_of_json(path)
        if kind is not None:
            found.setdefault(kind, []).append(path)
    described = [path for path in sorted(source.glob("*.y*ml")) if _is_yolo(path)]
    if described:
        found["yolo"] = described
    if (source / LABELS).is_dir() and (source / IMAGES).is_dir():
        found["cvat" if (source / LABEL_MAP).exists() else "voc"] = [source / LABELS]
    folders = [source, *(source / word for word in SPLITS)]
    tables = [folder / name for folder in folders for name in TABLES if (folder / name).exists()]
    tables = [table for table in tables if label_column(columns_of(table)) is not None]
    if tables:
        found["metadata"] = tables
    return found


def detect(source: Path, format: Format | None = None) -> tuple[Format, list[Path]] | None:
    """The kind of the annotations in a folder and their files; None if there are none.

    Args:
        source: a folder, or a COCO JSON file.
        format: the kind that is wanted, where there may be several.

    Raises:
        DataError: there are several kinds, or not the wanted one.
    """
    found = find_formats(source)
    if format is not None:
        if format not in found:
            others = ", ".join(KINDS[kind] for kind in found) or "no annotations that are known"
            raise DataError(f"{source}: it holds no {KINDS[format]}, but {others}.", path=source)
        return format, found[format]
    if len(found) > 1:
        files = ", ".join(f"{kind} ({paths[0]})" for kind, paths in found.items())
        raise DataError(
            f"{source}: it holds several kinds of annotations: {files}; `ccnet import {source} "
            f"FOLDER --format {next(iter(found))}` reads one of them.",
            path=source,
        )
    return next(iter(found.items()), None)


def open_source(
    source: Path, format: Format | None = None, options: Options | None = None
) -> Source | None:
    """Read the annotations in a folder, or in a COCO JSON file; None if there are none.

    Args:
        source: a folder or a file.
        format: the kind of annotations, where there may be several.
        options: what overlapping shapes and unlabeled pixels are.

    Raises:
        DataError: the annotations cannot be used, or there are several kinds of them.
    """
    detected = detect(source, format)
    if detected is None:
        return None
    options = options or Options()
    kind, files = detected
    if kind == "coco":
        return read_coco(source, files, options)
    if kind == "labelme":
        return read_labelme(source if source.is_dir() else source.parent, files, options)
    if kind == "yolo":
        if len(files) > 1:
            names = ", ".join(path.name for path in files)
            raise DataError(
                f"{source}: several files describe a data set: {names}; leave one.", path=source
            )
        return read_yolo(source, files[0], options)
    return read_tables(source, files, options) if kind == "metadata" else read_voc(source, options)


def _kind_of_json(path: Path) -> Format | None:
    """Whether a JSON file is COCO's or LabelMe's, by the keys in its beginning."""
    try:
        with open_regular(path) as file:
            head = file.read(HEAD)
    except OSError as error:
        raise DataError(f"{path}: {cause_of(error)}.", path=path) from error
    if SHAPES.search(head):
        return "labelme"
    return "coco" if LISTS.search(head) else None


def _is_yolo(path: Path) -> bool:
    """Whether a YAML file names classes and folders of images as YOLO's does."""
    try:
        content = read_yaml(path)
    except DataError:
        if path.stem == "data":
            raise
        return False  # a YAML of another program may be anything
    return (
        isinstance(content, dict) and "names" in content and not SPLITS.keys().isdisjoint(content)
    )
