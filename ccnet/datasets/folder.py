"""A user's own images and labels: in folders with a dataset.yaml, or annotated by a known tool."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np
from jaxtyping import UInt8

from ccnet.annotations.detection import KINDS, open_source
from ccnet.annotations.drawing import Drawing
from ccnet.annotations.source import Sample, Source
from ccnet.datasets.dataset import SizeMismatchError
from ccnet.datasets.description import without_numbers
from ccnet.datasets.labels import LabelForm, LabelMap
from ccnet.datasets.pairs import DESCRIPTION, Orientation, PairedDataset, read_orientation
from ccnet.images.reading import viewed_size
from ccnet.layouts.files import Pairs, relative_name
from ccnet.layouts.search import find_pairs
from ccnet.layouts.splits import Division, divide
from ccnet.runtime.files import DataError, read_yaml, shown

KEYS = ("classes", "names", "palette", "ignore", "mapping", "labels", "orientation")
EXAMPLE = "{classes: {road: [128, 64, 128], building: [70, 70, 70]}, ignore: [2]}"
"""Names and colors of the classes, or a list of names; and label values to leave out."""


@final
class FolderDataset(PairedDataset):
    """Images and labels in a folder whose dataset.yaml says what the labels mean.

    The pairs that `<split>.txt` lists are read, or those of folders such as `<split>/images` +
    `<split>/labels` (see `ccnet.layouts.search.find_pairs`). Without a dataset.yaml, annotations
    are read as they are (see `ccnet.annotations`): COCO JSON, LabelMe JSON, YOLO segmentation,
    Pascal VOC, CVAT's masks, Hugging Face metadata.

    The keys of `root/dataset.yaml` are the arguments of `LabelMap` and `orientation`; `names` is
    another word for `classes`. Those given here replace them, and with `classes` given the file
    need not exist. What they leave open, the label files decide (`LabelMap.settled`). Annotations
    that are label files take `palette`, `ignore`, `mapping` and `labels` as well; shapes do not.

    Args:
        root: Folder of the data set, or a COCO JSON file.
        split: Part of the data set, such as "train" or "val".
        classes, palette, ignore, mapping, labels: As in `LabelMap`.
        orientation: As in `PairedDataset`.
        strict: Raise DataError for files without a partner, instead of leaving them out.
        division: How to divide images that have no split val. None: not at all.
        source: Annotations that `open_source` has read; `root` is then not searched.

    Raises:
        DataError: The description is missing or wrong, or files have no partner.
    """

    def __init__(
        self,
        root: Path | str,
        split: str = "train",
        *,
        classes: Sequence[str] | Mapping[str, object] | None = None,
        palette: Sequence[object] | Mapping[str, object] | None = None,
        ignore: object = None,
        mapping: Mapping[object, object] | None = None,
        labels: LabelForm | None = None,
        orientation: Orientation | None = None,
        strict: bool = True,
        division: Division | None = None,
        source: Source | None = None,
    ):
        root = Path(root)
        if source is None and classes is None and not os.path.lexists(root / DESCRIPTION):
            source = open_source(root)
        self.samples: tuple[Sample, ...] = ()
        if source is not None:
            root, described = source.root, dict(source.description)
            files, self.samples = _annotated_pairs(source, split, strict, division)
        else:
            files = _find_pairs(root, split, division)
            described = _read_description(root, required=classes is None)
        given: dict[str, Any] = {"classes": classes, "palette": palette, "ignore": ignore}
        given |= {"mapping": mapping, "labels": labels}
        given = {key: value for key, value in given.items() if value is not None}
        self.is_drawn = any(isinstance(sample.label, Drawing) for sample in self.samples)
        if given and self.is_drawn:
            raise ValueError(f"{root}: {', '.join(given)} are of label files, not of shapes")
        stored = described.pop("orientation", None)
        if isinstance(given.get("classes"), Mapping):
            described.pop("palette", None)
        elif palette is not None and isinstance(described.get("classes"), Mapping):
            described["classes"] = list(described["classes"])
        try:
            label_map = LabelMap(**(described | given))
            orientation = read_orientation(stored if orientation is None else orientation)
        except ValueError as error:
            place = root / DESCRIPTION if source is None else root
            raise DataError(f"{place}: {error}.", path=place) from error
        if not self.is_drawn:
            label_map = label_map.settled([label for _, label in files.pairs])
        super().__init__(root, files, label_map, strict, orientation)

    def read_label(self, index: int) -> UInt8[np.ndarray, "h w"]:
        label = self.samples[index].label if self.samples else None
        if not isinstance(label, Drawing):
            return super().read_label(index)
        image = self.files.pairs[index][0]
        height, width = viewed_size(image)
        if label.size is not None and label.size != (height, width):
            raise SizeMismatchError(
                f"{label.path}: it states {label.size[1]}×{label.size[0]} pixels for {image}, "
                f"which has {width}×{height} as it is viewed. Annotate the image at this size, or "
                "find the right file.",
                path=label.path,
            )
        return label.draw((height, width))


def _find_pairs(root: Path, split: str, division: Division | None) -> Pairs:
    """As `find_pairs`; an error also says that there are no annotations."""
    try:
        return find_pairs(root, split, division=division)
    except DataError as error:
        if not os.path.lexists(root / DESCRIPTION):
            error.add_note(f"nor does it hold {', '.join(KINDS.values())}")
        raise


def _annotated_pairs(
    source: Source, split: str, strict: bool, division: Division | None
) -> tuple[Pairs, tuple[Sample, ...]]:
    """The files of a split of annotations, and their labels.

    Raises:
        DataError: there is no such split, or, if `strict`, files are missing.
    """
    splits, notes = source.splits, tuple(source.notes)
    missing = source.missing.get(split, [])
    if division is not None and division.val not in splits and division.train in splits:
        samples = splits[division.train]
        parts = divide([sample.name for sample in samples], division)
        splits = splits | {name: [samples[i] for i in parts[name]] for name in parts}
        notes += (f"no split {division.val}: {division}",)
        missing = missing or source.missing.get(division.train, [])
    if split not in splits:
        raise DataError(
            f"{source.root}: its annotations ({source.kind}) have no split {split!r}, but "
            f"{', '.join(splits)}. `ccnet import {source.root} FOLDER` writes them as "
            "images and labels, which may then be divided.",
            path=source.root,
        )
    if missing and strict:
        names = ", ".join(relative_name(path, source.root) for path in missing[:5])
        raise DataError(
            f"{source.root}: its annotations ({source.kind}) name {len(missing)} files that are "
            f"not there: {names}{', ...' * bool(missing[5:])}. Restore them, or take them out of "
            "the annotations; `ccnet check-data` lists all.",
            path=missing[0],
        )
    samples = tuple(splits[split])
    pairs = tuple((sample.image, sample.label_path) for sample in samples)
    layout = f"{source.kind}, {split}"
    return Pairs(layout, pairs, missing=tuple(missing), notes=notes), samples


def _read_description(root: Path, required: bool) -> dict[str, Any]:
    """The keys of dataset.yaml that have a value; none where the file may be and is missing."""
    path = root / DESCRIPTION
    if not os.path.lexists(path):
        if not required:
            return {}
        raise DataError(
            f"{path}: no such file. It must name the classes, for example: {EXAMPLE}. Nor are "
            f"there annotations that are known: {', '.join(KINDS.values())}.",
            path=path,
        )
    described = read_yaml(path)
    if isinstance(described, dict) and "names" in described:
        if "classes" in described:
            raise DataError(f"{path}: `names` and `classes` mean the same; write one.", path=path)
        described["classes"] = described.pop("names")
    if not isinstance(described, dict) or (required and described.get("classes") is None):
        raise DataError(f"{path}: `classes` is missing. For example: {EXAMPLE}", path=path)
    unknown = [key for key in described if key not in KEYS]
    if unknown:
        raise DataError(
            f"{path}: unknown key {', '.join(map(shown, unknown[:5]))}; "
            f"the known keys are {', '.join(KEYS)}.",
            path=path,
        )
    try:
        described["classes"] = without_numbers(described.get("classes"))
    except ValueError as error:
        raise DataError(f"{path}: {error}.", path=path) from error
    return {key: value for key, value in described.items() if value is not None}
