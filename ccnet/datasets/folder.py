"""A user's own images and labels: in folders with a dataset.yaml, or annotated by a known tool."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
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
from ccnet.datasets.named import name_of_layout
from ccnet.datasets.pairs import DESCRIPTION, Orientation, PairedDataset, read_orientation
from ccnet.images.reading import viewed_size
from ccnet.layouts.files import Pairs, named
from ccnet.layouts.search import find_pairs, refuse_groups, stored_split, unsplit
from ccnet.layouts.splits import Division, counted, divide_files
from ccnet.legends.naming import Legend, legend_of_model, read_legend
from ccnet.runtime.files import DataError, read_yaml, shown

SPLITS = ("train", "val", "test")
KEYS = ("classes", "names", "palette", "ignore", "mapping", "labels", "orientation")
EXAMPLE = "{classes: {road: [128, 64, 128], building: [70, 70, 70]}, ignore: [2]}"
"""Names and colors of the classes, or a list of names; and label values to leave out."""


@final
class FolderDataset(PairedDataset):
    """Images and labels in a folder whose dataset.yaml says what the labels mean.

    The pairs that `<split>.txt` lists are read, or those of folders such as `<split>/images` +
    `<split>/labels` (see `ccnet.layouts.search.find_pairs`).

    The keys of `root/dataset.yaml` are the arguments of `LabelMap` and `orientation`; `names` is
    another word for `classes`. Those given here replace them, and with `classes` given the file
    need not exist. What they leave open, the label files decide (`LabelMap.settled`).

    Without a dataset.yaml and `classes`, annotations are read as they are (see
    `ccnet.annotations`): COCO JSON, LabelMe JSON, YOLO segmentation, Pascal VOC, CVAT's masks,
    Hugging Face metadata. Those that are label files take `palette`, `ignore`, `mapping`, `labels`,
    `orientation` and lists of pairs as well; shapes are drawn on the image as viewers show it.

    Without annotations too, each value in the label files is a class (`ccnet.legends.naming`).

    Args:
        root: Folder of the data set, or a COCO JSON file.
        split: Part of the data set, such as "train" or "val".
        classes: As in `LabelMap`, like the next four.
        palette: One color per class.
        ignore: Label values that do not count.
        mapping: From label values to classes.
        labels: The form of the label files: index, palette or rgb.
        orientation: As in `PairedDataset`.
        strict: Raise DataError for files without a partner, instead of leaving them out.
        division: How to divide images that have no split val. None: not at all.
        source: Annotations that `open_source` has read; `root` is then not searched.
        unnamed: Classes of a model, by which labels without names are read instead.

    Attributes:
        legend: How labels without names are read; None where somebody has said it.

    Raises:
        DataError: The description is wrong, labels without names do not look like classes, or files
            have no partner.
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
        unnamed: Sequence[str] | None = None,
    ):
        root = Path(root)
        self.legend: Legend | None = None
        given: dict[str, Any] = {"classes": classes, "palette": palette, "ignore": ignore}
        given |= {"mapping": mapping, "labels": labels}
        given = {key: value for key, value in given.items() if value is not None}
        annotated = None if source is None else (source, _annotated_pairs(source, split, strict))
        if source is None and classes is None and not os.path.lexists(root / DESCRIPTION):
            annotated = _open_annotations(root, split, division, strict)
        if annotated is None:
            self.samples: tuple[Sample, ...] = ()
            files = _find_pairs(root, split, division)
            if classes is None and not os.path.lexists(root / DESCRIPTION):
                self.legend = _read_legend(root, files, division, unnamed)
                described = dict(self.legend.description)
            else:
                described = _read_description(root, required=classes is None)
        else:
            source, files = annotated
            self.samples = tuple(source.splits.get(split, ()))
            root, described = source.root, dict(source.description)
        self.is_drawn = source is not None and source.is_drawn
        if self.is_drawn and (given or orientation is not None):
            names = [*given, *(["orientation"] if orientation is not None else [])]
            raise ValueError(f"{root}: {', '.join(names)} are of label files, not of shapes")
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
        if self.is_drawn:
            orientation = "exif"
        else:
            label_map = label_map.settled([label for _, label in files.pairs])
        super().__init__(root, files, label_map, strict, orientation)

    @property
    def notes(self) -> list[str]:
        return [*super().notes, *(() if self.legend is None else self.legend.notes)]

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


def _read_legend(
    root: Path, files: Pairs, division: Division | None, unnamed: Sequence[str] | None
) -> Legend:
    """How labels that nobody has named are read; raises DataError as `read_legend`."""
    if unnamed is not None:
        return legend_of_model(unnamed)
    if name_of_layout(root) is not None:
        path = root / DESCRIPTION
        raise DataError(
            f"{path}: no such file, and the folder has the layout of a published data set. If it "
            f"is your own, name the classes, for example: {EXAMPLE}.",
            path=path,
        )
    names = dict.fromkeys((*SPLITS, *(() if division is None else division.splits)))
    stored = [stored_split(root, name) for name in names if not name.endswith(".txt")]
    parts = [part for part in (files, *stored) if part is not None]
    if not any(stored) and (whole := unsplit(root)) is not None:
        parts.append(whole)
    labels = dict.fromkeys(label for part in parts for _, label in part.pairs)
    if not labels:
        path = root / DESCRIPTION
        raise DataError(
            f"{path}: no such file, and no label file whose values could be the classes. Name the "
            f"classes, for example: {EXAMPLE}. Nor are there annotations that are known: "
            f"{', '.join(KINDS.values())}.",
            path=path,
        )
    return read_legend(root, sorted(labels))


def _open_annotations(
    root: Path, split: str, division: Division | None, strict: bool
) -> tuple[Source, Pairs] | None:
    """The annotations in a folder and the files of a split; None if it holds no annotations.

    Of annotations that are label files, lists of pairs count as in other folders.

    Raises:
        DataError: the annotations or their files cannot be used, or label files are there too.
    """
    source = open_source(root)
    if source is None:
        return None
    if source.is_drawn and root.is_dir():
        _refuse_masks(source)
    if division is not None and division.val in source.splits:
        refuse_groups(root, division)
        division = None
    names = [split] if division is None else [split, division.train]
    is_listed = any(os.path.lexists(root / f"{name.removesuffix('.txt')}.txt") for name in names)
    if not source.is_drawn and (is_listed or split.endswith(".txt")):
        files = find_pairs(root, split, division=division)
        return replace(source, splits={}), replace(files, notes=(*files.notes, *source.notes))
    if division is not None:
        source = _divided(source, division)
    return source, _annotated_pairs(source, split, strict)


def _refuse_masks(source: Source) -> None:
    """Raises DataError if a folder of shapes also holds images with label files."""
    root = source.root
    images = {sample.image for part in source.splits.values() for sample in part}
    searched = [stored_split(root, split, use_list=False) for split in source.splits]
    for files in (*searched, unsplit(root)):
        masks = [] if files is None else [label for _, label in files.pairs if label not in images]
        if files is not None and masks:
            first = next(sample for part in source.splits.values() for sample in part)
            raise DataError(
                f"{root}: it holds label files ({files.layout}, such as {masks[0]}) and "
                f"{source.kind} (such as {first.label_path}). To use the label files, name their "
                f"classes in {root / DESCRIPTION}; to use the annotations, write them as a folder "
                f"of their own: `ccnet import {root} FOLDER`.",
                path=root,
            )


def _divided(source: Source, division: Division) -> Source:
    """The annotations with the images to train on divided. Raises DataError as `divide_files`."""
    samples = source.splits.get(division.train)
    if not samples:
        return source
    parts = divide_files(source.root, [sample.image for sample in samples], division)
    splits = {name: [samples[index] for index in part] for name, part in parts.items()}
    missing = dict.fromkeys(splits, source.missing.get(division.train, []))
    return replace(
        source,
        splits=source.splits | splits,
        missing=source.missing | missing,
        notes=[counted(parts, division), *source.notes],
    )


def _annotated_pairs(source: Source, split: str, strict: bool) -> Pairs:
    """The files of a split of annotations.

    Raises:
        DataError: there is no such split, or, if `strict`, files are missing.
    """
    if split not in source.splits:
        raise DataError(
            f"{source.root}: its annotations ({source.kind}) have no split {split!r}, but "
            f"{', '.join(source.splits)}. `ccnet import {source.root} FOLDER` writes them as "
            "images and labels, which may then be divided.",
            path=source.root,
        )
    missing = source.missing.get(split, [])
    if missing and strict:
        raise DataError(
            f"{source.root}: its annotations ({source.kind}) name {len(missing)} files that are "
            f"not there: {named(missing, source.root)}. Restore them, or take them out of "
            "the annotations; `ccnet check-data` lists all.",
            path=missing[0],
        )
    pairs = tuple((sample.image, sample.label_path) for sample in source.splits[split])
    notes = tuple(source.notes)
    return Pairs(f"{source.kind}, {split}", pairs, missing=tuple(missing), notes=notes)


def _read_description(root: Path, required: bool) -> dict[str, Any]:
    """The keys of dataset.yaml that have a value; none where the file may be and is missing."""
    path = root / DESCRIPTION
    if not os.path.lexists(path):
        return {}
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
