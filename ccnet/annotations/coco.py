"""COCO JSON: one file for all images of a split, with polygons or run-length encoded masks.

So exports of CVAT, Roboflow and Label Studio are read: images lie beside the file, in images/, or
in folders named after the split. Crowd regions become 255 and lie below all other shapes. Source:
"Data format" of the COCO documentation.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ccnet.annotations.drawing import Drawing, Outline, Polygon, in_order
from ccnet.annotations.rle import read_runs
from ccnet.annotations.source import (
    MAX_ANNOTATIONS,
    SPLITS,
    Meaning,
    Options,
    PassedOver,
    Sample,
    Source,
    count_unnamed,
    decide_classes,
    named_causes,
    read_ring,
    require_distinct,
    require_image_name,
    safe_name,
    split_in,
    stated_size,
)
from ccnet.classes import IGNORE_INDEX
from ccnet.runtime.files import DataError, read_json, shown

KIND = "COCO JSON"
INSTANCES = "instances_"
"""How the files with outlines begin, where COCO's other files (captions, keypoints) are there."""


@dataclass(frozen=True)
class _File:
    """The content of one JSON file, whose lists hold mappings."""

    path: Path
    images: list[dict[str, object]]
    annotations: list[dict[str, object]]
    categories: list[dict[str, object]]


def read_coco(source: Path, files: list[Path], options: Options) -> Source:
    """Read the COCO files of a folder, or one such file.

    Args:
        source: the folder that the images are searched in, or the file.
        files: the files; each is a split, by the name of the file or of its folder.
        options: what overlapping shapes and unlabeled pixels are.

    Raises:
        DataError: a file cannot be used; the message names it and the place in it.
    """
    root = source if source.is_dir() else source.parent
    if source.is_file() and root.name == "annotations":  # as COCO and CVAT lay it out
        root = root.parent
    passed = PassedOver()
    splits = _splits(files, root, passed)
    contents = {split: _read_file(path) for split, path in splits.items()}
    names, own_notes = _categories(list(contents.values()))
    first = next(iter(splits.values()))
    meaning = decide_classes(first, list(names.values()), options.unlabeled)
    indices = {key: meaning.index_of[name] for key, name in names.items()}
    found = Source(KIND, root, {"classes": list(meaning.classes)})
    for split, content in contents.items():
        reader = _Reader(root, split, content, indices, meaning, options, passed)
        found.splits[split], found.missing[split] = reader.samples()
    count_unnamed(found, passed)
    found.notes += [*meaning.notes, *own_notes, *passed.notes()]
    return found


def _splits(files: list[Path], root: Path, passed: PassedOver) -> dict[str, Path]:
    instances = [path for path in files if path.name.startswith(INSTANCES)]
    for path in set(files) - set(instances) if instances else ():
        passed.add(f"JSON files beside {INSTANCES}*.json, passed over", path)
    splits: dict[str, Path] = {}
    for path in instances or files:
        parent = None if path.parent == root else split_in(path.parent.name)
        split = split_in(path.stem) or parent or "train"
        if split in splits:
            raise DataError(
                f"{path}: it and {splits[split]} both hold the split {split!r}; give one of the "
                "two files as the source, or move the other away.",
                path=path,
            )
        splits[split] = path
    return splits


def _read_file(path: Path) -> _File:
    content = read_json(path, MAX_ANNOTATIONS)
    if not isinstance(content, dict):
        raise DataError(f"{path}: no COCO JSON: it holds {shown(content)}.", path=path)
    lists = {}
    for key in ("images", "annotations", "categories"):
        value = content.get(key)
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            raise DataError(
                f"{path}: `{key}` must be a list of mappings, got {shown(value)}.", path=path
            )
        lists[key] = value
    if not lists["images"]:
        raise DataError(f"{path}: `images` is empty.", path=path)
    return _File(path, **lists)


def _categories(files: list[_File]) -> tuple[dict[int, str], list[str]]:
    """The names by their id, in the order of the ids, and what is to be said of them.

    Roboflow lists the project itself as a category, which is the supercategory of all others and
    has no annotations; it is left out.
    """
    names = _names(files[0])
    for file in files[1:]:
        if _names(file) != names:
            raise DataError(
                f"{file.path}: its categories {shown(_names(file))} differ from those of "
                f"{files[0].path}, {shown(names)}; all splits must have the same.",
                path=file.path,
            )
    used = {annotation.get("category_id") for file in files for annotation in file.annotations
            if type(annotation.get("category_id")) is int}  # fmt: skip
    for category in files[0].categories:
        others = [other for other in files[0].categories if other is not category]
        above = {shown(other.get("supercategory")) for other in others}
        if category["id"] not in used and above == {shown(category["name"])}:
            del names[category["id"]]  # pyright: ignore[reportArgumentType]
            return names, [f"the category {shown(category['name'])} only groups the others"]
    return names, []


def _names(file: _File) -> dict[int, str]:
    names = {}
    for category in file.categories:
        key, name = category.get("id"), category.get("name")
        if type(key) is not int or not isinstance(name, str) or not name or key in names:
            raise DataError(
                f"{file.path}: a category has an `id` of its own, a whole number, and a `name`; "
                f"got {shown(category)}.",
                path=file.path,
            )
        names[key] = name
    return dict(sorted(names.items()))


@dataclass(frozen=True)
class _Reader:
    """Makes samples of one file."""

    root: Path
    split: str
    file: _File
    indices: dict[int, int]
    meaning: Meaning
    options: Options
    passed: PassedOver

    def samples(self) -> tuple[list[Sample], list[Path]]:
        sizes, names = self._images()
        require_distinct(self.file.path, list(names.values()))
        shapes = self._shapes(sizes)
        folders = list(self._folders())
        samples, missing = [], []
        for key, name in names.items():
            image = self._find(name, folders)
            if image is None:
                missing.append(folders[0] / name)
                continue
            if not shapes[key]:
                self.passed.add("images without a shape, all unlabeled", name)
            ordered = in_order(shapes[key], self.options.overlap)
            drawing = Drawing(self.file.path, ordered, self.meaning.unlabeled, sizes[key])
            samples.append(Sample(name, image, drawing))
        return samples, missing

    def _images(self) -> tuple[dict[object, tuple[int, int] | None], dict[object, str]]:
        """Sizes and names of the images by their id."""
        sizes: dict[object, tuple[int, int] | None] = {}
        names: dict[object, str] = {}
        for number, image in enumerate(self.file.images):
            key = image.get("id")
            try:
                if type(key) not in (int, str) or key in names:
                    raise ValueError(f"its `id` must be a number of its own, got {shown(key)}")
                names[key] = safe_name(image.get("file_name"))
                require_image_name(names[key])
                sizes[key] = stated_size(image.get("height"), image.get("width"))
            except ValueError as error:
                raise named_causes(self.file.path, f"image {number + 1}", error) from None
        return sizes, names

    def _shapes(
        self, sizes: dict[object, tuple[int, int] | None]
    ) -> dict[object, list[tuple[int, Outline]]]:
        """Class index and outline of the annotations, by the id of their image."""
        shapes: dict[object, list[tuple[int, Outline]]] = {key: [] for key in sizes}
        boxes = 0
        for number, annotation in enumerate(self.file.annotations):
            key = annotation.get("image_id")
            place = f"annotation {number + 1} (id {shown(annotation.get('id'))})"
            where = f"{self.file.path}, {place}"
            if type(key) not in (int, str) or key not in shapes:
                self.passed.add("annotations of images that are not listed, passed over", where)
                continue
            if not annotation.get("segmentation"):
                self.passed.add("boxes without an outline, passed over", where)
                boxes += 1
                continue
            try:
                value = self._value(annotation)
                outline = self._outline(annotation["segmentation"], sizes[key], where)
            except ValueError as error:
                raise named_causes(self.file.path, place, error) from None
            if outline is not None:
                shapes[key].append((value, outline))
        if boxes and boxes == len(self.file.annotations):
            raise DataError(
                f"{self.file.path}: it has boxes only and no outlines, so no pixel has a class; "
                "export polygons or masks (instance segmentation).",
                path=self.file.path,
            )
        return shapes

    def _value(self, annotation: dict[str, object]) -> int:
        category = annotation.get("category_id")
        if type(category) is not int or category not in self.indices:
            known = ", ".join(map(str, list(self.indices)[:20]))
            raise ValueError(f"there is no category {shown(category)}; the ids are {known}")
        if annotation.get("iscrowd") in (1, True):
            self.passed.add("crowd regions, ignored (255)", self.file.path)
            return IGNORE_INDEX
        return self.indices[category]

    def _outline(
        self, segmentation: object, size: tuple[int, int] | None, place: str
    ) -> Outline | None:
        if isinstance(segmentation, dict):
            if size is None:
                stated = segmentation.get("size")
                pair = stated if isinstance(stated, list) and len(stated) == 2 else (None, 0)
                size = stated_size(*pair)
            return read_runs(segmentation, size or (0, 0))
        if not isinstance(segmentation, list):
            raise ValueError(f"its segmentation is {shown(segmentation)}, no polygon and no mask")
        parts = segmentation if isinstance(segmentation[0], list) else [segmentation]
        rings = [read_ring(part, size, self.passed, place) for part in parts]
        kept = tuple(ring for ring in rings if ring is not None)
        return Polygon(kept) if kept else None

    def _folders(self) -> Iterator[Path]:
        """Where images may be, those of this split first."""
        stem = self.file.path.stem.removeprefix(INSTANCES)
        words = [stem, *(word for word, split in SPLITS.items() if split == self.split)]
        yield self.file.path.parent
        for above in (self.root, self.root / "images"):
            yield from (above / word for word in words if (above / word).is_dir())
        yield from (self.file.path.parent / "images", self.root / "images", self.root)

    def _find(self, name: str, folders: list[Path]) -> Path | None:
        return next((path for folder in folders if (path := folder / name).exists()), None)
