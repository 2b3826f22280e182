"""YOLO segmentation: a text file for each image, a line for each object, and a data.yaml.

A line is the number of a class and x and y of each corner in turn, as shares of the width and of
the height. Several parts of an object are joined by the exporter into one polygon with lines of no
width, which the even-odd rule fills as they were. An image without a text file shows no object.
"""

import io
from pathlib import Path

import numpy as np

from ccnet.annotations.drawing import Drawing, Outline, Polygon, in_order
from ccnet.annotations.source import (
    NAME_FILES,
    SPLITS,
    Meaning,
    Options,
    PassedOver,
    Sample,
    Source,
    decide_classes,
    named_causes,
    path_text,
    require_distinct,
)
from ccnet.images.reading import IMAGE_SUFFIXES, image_files
from ccnet.runtime.files import DataError, read_text, read_yaml, shown

KIND = "YOLO segmentation"
MAX_FILE = 1 << 26
"""Bytes of a text file."""
FARTHEST = 2.0
"""Shares of the width or height; what is farther out is in pixels or wrong."""


def read_yolo(root: Path, description: Path, options: Options) -> Source:
    """Read the images and text files that a data.yaml names.

    Args:
        root: the folder of the data set; nothing outside of it is read.
        description: the data.yaml, whose `names` are a list or a mapping from numbers, and whose
            `train`, `val` and `test` are folders of images or lists of them.
        options: what overlapping shapes and unlabeled pixels are.

    Raises:
        DataError: a file cannot be used; the message names it and the line.
    """
    content = read_yaml(description)
    try:
        names = _names(content.get("names") if isinstance(content, dict) else None)
    except ValueError as error:
        raise DataError(f"{description}: {error}.", path=description) from None
    passed = PassedOver()
    meaning = decide_classes(description, names, options.unlabeled)
    found = Source(KIND, root, {"classes": list(meaning.classes)})
    for key in content:
        split = SPLITS.get(key) if isinstance(key, str) else None
        if split is None or not content[key]:
            continue
        places = content[key] if isinstance(content[key], list) else [content[key]]
        bases = _bases(root, description, content.get("path"))
        images = [item for place in places for item in _images(description, bases, place)]
        samples = found.splits.setdefault(split, [])
        for name, image in images:
            if image.exists():
                samples.append(_sample(name, image, names, meaning, options, passed))
            else:
                found.missing.setdefault(split, []).append(image)
        require_distinct(description, [sample.name for sample in samples])
    if not any(found.splits.values()) and not any(found.missing.values()):
        raise DataError(
            f"{description}: no images; `train` and `val` must name folders of them.",
            path=description,
        )
    _count_spare(found, passed)
    found.notes += [*meaning.notes, *passed.notes()]
    return found


def _count_spare(found: Source, passed: PassedOver) -> None:
    """Count the text files beside those of the samples whose image is not there."""
    used = {sample.label_path for samples in found.splits.values() for sample in samples}
    for folder in sorted({path.parent for path in used}):
        for path in sorted(folder.glob("*.txt")):
            is_list = path.stem in SPLITS or path.name in NAME_FILES
            if path not in used and not is_list:
                passed.add("text files without an image in the splits, passed over", path)


def _names(names: object) -> list[str]:
    if isinstance(names, dict):
        if sorted(map(shown, names)) != sorted(map(shown, range(len(names)))):
            raise ValueError(f"`names` must number the classes from 0, got {shown(names)}")
        names = [names[number] for number in range(len(names))]
    if not isinstance(names, list) or not all(isinstance(name, str) and name for name in names):
        raise ValueError(f"`names` must list the names of the classes as text, got {shown(names)}")
    return names


def _bases(root: Path, description: Path, path: object) -> list[Path]:
    """Folders that paths in the description may be relative to, none outside of the root."""
    folders = [description.parent]
    if isinstance(path, str) and "\0" not in path and (description.parent / path).is_dir():
        folders.insert(0, description.parent / path)
    return [folder for folder in folders if folder.resolve().is_relative_to(root.resolve())]


def _images(description: Path, bases: list[Path], place: object) -> list[tuple[str, Path]]:
    """Names and paths of the images in a folder or in a list."""
    try:
        words = path_text(place)
    except ValueError:
        raise DataError(
            f"{description}: a split must be a folder of images, got {shown(place)}.",
            path=description,
        ) from None
    while words.startswith("../"):  # as exporters write them, from another folder
        words = words[3:]
    found = [path for base in bases if (path := base / words).exists() and ".." not in path.parts]
    if not found or words.startswith("/"):
        raise DataError(
            f"{description}: there is no {shown(place)} in {bases[0] if bases else 'its folder'}; "
            "write the path of a folder of images, relative to this file.",
            path=description,
        )
    if found[0].is_dir():
        return [(image.relative_to(found[0]).as_posix(), image) for image in image_files(found[0])]
    return _listed(found[0], bases)


def _listed(listed: Path, bases: list[Path]) -> list[tuple[str, Path]]:
    images = []
    for number, line in enumerate(io.StringIO(read_text(listed, MAX_FILE)), start=1):
        name = line.strip().replace("\\", "/").removeprefix("./")
        if not name:
            continue
        path = Path(name)
        if path.is_absolute() or ".." in path.parts or path.suffix.lower() not in IMAGE_SUFFIXES:
            raise DataError(
                f"{listed}, line {number}: {shown(name)} is no path of an image relative to this "
                "file.",
                path=listed,
            )
        places = [folder / name for folder in (listed.parent, *bases)]
        images.append((name, next((path for path in places if path.exists()), places[0])))
    return images


def _label_file(image: Path) -> Path:
    """Beside the image, or in the folder labels that stands beside the folder images."""
    beside = image.with_suffix(".txt")
    folders = [part == "images" for part in image.parts[:-1]]
    if not any(folders):
        return beside
    at = len(folders) - 1 - folders[::-1].index(True)
    apart = Path(*image.parts[:at], "labels", *image.parts[at + 1 :]).with_suffix(".txt")
    return apart if apart.exists() or not beside.exists() else beside


def _sample(
    name: str,
    image: Path,
    names: list[str],
    meaning: Meaning,
    options: Options,
    passed: PassedOver,
) -> Sample:
    path = _label_file(image)
    shapes: list[tuple[int, Outline]] = []
    if path.exists():
        for number, line in enumerate(io.StringIO(read_text(path, MAX_FILE)), start=1):
            try:
                shape = _shape(line.split(), names, meaning, passed, f"{path}, line {number}")
            except ValueError as error:
                raise named_causes(path, f"line {number}", error) from None
            shapes += [] if shape is None else [shape]
    else:
        passed.add("images without a text file, all unlabeled", image)
    drawing = Drawing(
        path, in_order(shapes, options.overlap), meaning.unlabeled, is_normalized=True
    )
    return Sample(name, image, drawing)


def _shape(
    words: list[str], names: list[str], meaning: Meaning, passed: PassedOver, place: str
) -> tuple[int, Outline] | None:
    if not words:
        return None
    if len(words) == 5:
        raise ValueError(
            "it has 5 numbers, which is a box of YOLO detection and no outline; export segmentation"
        )
    if len(words) % 2 == 0:
        raise ValueError(f"a class and pairs of x and y make an odd count, got {len(words)} words")
    if not words[0].isascii() or not words[0].isdigit() or int(words[0][:9]) >= len(names):
        raise ValueError(f"there is no class {shown(words[0])}; `names` has {len(names)}")
    try:
        ring = np.array([float(word) for word in words[1:]]).reshape(-1, 2)
    except ValueError:
        raise ValueError(f"not all of it is numbers: {shown(' '.join(words))}") from None
    if not (np.abs(ring) <= FARTHEST).all():
        wrong = ring[~(np.abs(ring) <= FARTHEST)][0]
        raise ValueError(f"a coordinate is {wrong:g}, where shares of the size are from 0 to 1")
    if len(ring) < 3:
        passed.add("polygons of fewer than three points, passed over", place)
        return None
    if ((ring < 0) | (ring > 1)).any():
        passed.add("shapes that reach outside their image, clipped", place)
    return meaning.index_of[names[int(words[0])]], Polygon((ring,))
