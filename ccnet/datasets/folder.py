"""A user's own images and labels in folders, described by a dataset.yaml."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from ccnet.datasets.description import without_numbers
from ccnet.datasets.labels import LabelForm, LabelMap
from ccnet.datasets.pairs import DESCRIPTION, Orientation, PairedDataset, read_orientation
from ccnet.layouts.search import find_pairs
from ccnet.layouts.splits import Division
from ccnet.runtime.files import DataError, read_yaml, shown

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

    Args:
        root: Folder of the data set.
        split: Part of the data set, such as "train" or "val".
        classes, palette, ignore, mapping, labels: As in `LabelMap`.
        orientation: As in `PairedDataset`.
        strict: Raise DataError for files without a partner, instead of leaving them out.
        division: How to divide images that have no split val. None: not at all.

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
    ):
        root = Path(root)
        files = find_pairs(root, split, division=division)
        given: dict[str, Any] = {"classes": classes, "palette": palette, "ignore": ignore}
        given |= {"mapping": mapping, "labels": labels}
        given = {key: value for key, value in given.items() if value is not None}
        described = _read_description(root, required=classes is None)
        stored = described.pop("orientation", None)
        if isinstance(given.get("classes"), Mapping):
            described.pop("palette", None)
        elif palette is not None and isinstance(described.get("classes"), Mapping):
            described["classes"] = list(described["classes"])
        try:
            label_map = LabelMap(**(described | given))
            orientation = read_orientation(stored if orientation is None else orientation)
        except ValueError as error:
            raise DataError(f"{root / DESCRIPTION}: {error}.", path=root / DESCRIPTION) from error
        label_map = label_map.settled([label for _, label in files.pairs])
        super().__init__(root, files, label_map, strict, orientation)


def _read_description(root: Path, required: bool) -> dict[str, Any]:
    """The keys of dataset.yaml that have a value; none where the file may be and is missing."""
    path = root / DESCRIPTION
    if not os.path.lexists(path):
        if not required:
            return {}
        raise DataError(
            f"{path}: no such file. It must name the classes, for example: {EXAMPLE}", path=path
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
