"""LabelMe JSON: a file for each image, with polygons, rectangles and circles.

Lines and points have no area and are passed over, and counted. The picture that a file may contain
(`imageData`) is not used.
"""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np

from ccnet.annotations.drawing import Disc, Drawing, Outline, Polygon, in_order
from ccnet.annotations.source import (
    Meaning,
    Options,
    PassedOver,
    Sample,
    Source,
    count_outside,
    decide_classes,
    listed_names,
    named_causes,
    path_text,
    read_ring,
    require_distinct,
    require_image_name,
    safe_name,
    split_and_rest,
    stated_size,
)
from ccnet.images.reading import IMAGE_SUFFIXES, image_files
from ccnet.runtime.files import DataError, read_json, shown

KIND = "LabelMe JSON"
MAX_FILE = 1 << 28
"""Bytes of a file, which may contain its image as text."""


def read_labelme(root: Path, files: list[Path], options: Options) -> Source:
    """Read the LabelMe files of a folder.

    Folders called train, val (or valid) and test directly in it are splits; everything else is
    train. Classes are those of labels.txt, in its order, or all labels sorted by name.

    Raises:
        DataError: a file cannot be used; the message names it and the place in it.
    """
    passed = PassedOver()
    contents = {path: _read_file(path) for path in files}
    labels = {
        _label(path, number, shape)
        for path, content in contents.items()
        for number, shape in enumerate(content["shapes"])
    }
    place, names = listed_names(root) or (root, sorted(labels))
    if unknown := sorted(labels - set(names)):
        raise DataError(
            f"{place}: the label {shown(unknown[0])} of shapes is not in it; add it.", path=place
        )
    meaning = decide_classes(place, names, options.unlabeled)
    found = Source(KIND, root, {"classes": list(meaning.classes)})
    for path, content in contents.items():
        sample = _sample(root, path, content, meaning, options, passed)
        split, _ = split_and_rest(path.relative_to(root).as_posix())
        found.splits.setdefault(split, [])
        if isinstance(sample, Sample):
            found.splits[split].append(replace(sample, name=split_and_rest(sample.name)[1]))
        else:
            found.missing.setdefault(split, []).append(sample)
    for samples in found.splits.values():
        require_distinct(root, [sample.name for sample in samples])
    annotated = {sample.image for samples in found.splits.values() for sample in samples}
    for image in image_files(root):
        if image not in annotated:
            passed.add("images without a JSON file, passed over", image)
    found.notes += [*meaning.notes, *passed.notes()]
    return found


def _read_file(path: Path) -> dict[str, list[object]]:
    content = read_json(path, MAX_FILE)
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(f"{path}: no LabelMe JSON: it has no list `shapes`.", path=path)
    return {key: value for key, value in content.items() if key != "imageData"}


def _label(path: Path, number: int, shape: object) -> str:
    label = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(label, str) or not label:
        raise DataError(
            f"{path}, shape {number + 1}: its `label` must be text, got {shown(label)}.", path=path
        )
    return label


def _sample(
    root: Path,
    path: Path,
    content: dict[str, list[object]],
    meaning: Meaning,
    options: Options,
    passed: PassedOver,
) -> Sample | Path:
    """The image and its drawing, or the path at which the image is missing."""
    try:
        image = _image(root, path, content.get("imagePath"))
        size = stated_size(content.get("imageHeight"), content.get("imageWidth"))
    except ValueError as error:
        raise named_causes(path, "imagePath", error) from None
    shapes: list[tuple[int, Outline]] = []
    for number, shape in enumerate(content["shapes"]):
        place = f"shape {number + 1}"
        assert isinstance(shape, dict)
        try:
            outline = _outline(shape, size, passed, f"{path}, {place}")
        except ValueError as error:
            raise named_causes(path, place, error) from None
        if outline is not None:
            shapes.append((meaning.index_of[shape["label"]], outline))
    if not image.exists():
        return image
    if not shapes:
        passed.add("images without a shape, all unlabeled", path)
    drawing = Drawing(path, in_order(shapes, options.overlap), meaning.unlabeled, size)
    return Sample(image.relative_to(root).as_posix(), image, drawing)


def _image(root: Path, path: Path, name: object) -> Path:
    """The image of a file: that of its name beside it, or where it says."""
    base = path_text(name).rpartition("/")[2]
    beside = [base] if Path(base).suffix.lower() in IMAGE_SUFFIXES else []
    beside += [path.stem + suffix for suffix in IMAGE_SUFFIXES]
    for candidate in beside:
        if (path.parent / candidate).exists():
            return path.parent / candidate
    inside = safe_name(name, path.parent.relative_to(root).as_posix())
    require_image_name(inside)
    return root / inside


def _outline(
    shape: dict[str, object], size: tuple[int, int] | None, passed: PassedOver, place: str
) -> Outline | None:
    kind, points = shape.get("shape_type") or "polygon", shape.get("points")
    if kind in ("point", "points", "line", "linestrip"):
        passed.add(f"shapes of the type {kind}, which have no area, passed over", place)
        return None
    if kind not in ("polygon", "rectangle", "circle"):
        passed.add(f"shapes of the type {shown(kind)}, passed over", place)
        return None
    if kind == "polygon":
        ring = read_ring(points, size, passed, place)
        return None if ring is None else Polygon((ring,))
    numbers = (2,) if kind == "circle" else (2, 4)
    if not isinstance(points, list) or len(points) not in numbers:
        raise ValueError(f"a {kind} has two points, got {shown(points)}")
    corners = read_ring([*points, *points[:1]], None, passed, place)
    assert corners is not None
    if kind == "circle":
        radius = math.dist(corners[0], corners[1])
        count_outside(np.array([corners[0] - radius, corners[0] + radius]), size, passed, place)
        return Disc(float(corners[0, 0]), float(corners[0, 1]), radius)
    count_outside(corners, size, passed, place)
    if len(points) == 4:
        return Polygon((corners[:4],))
    return Polygon((corners[[0, 0, 1, 1], :] * [1, 0] + corners[[0, 1, 1, 0], :] * [0, 1],))
