"""Data sets: embedded scenes, folders of images and labels, published ones by name.

Nothing here imports torch, so that `ccnet --help` answers at once.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from ccnet.datasets.dataset import SegmentationDataset
from ccnet.datasets.folder import FolderDataset
from ccnet.datasets.named import (
    ADE20K,
    LIP,
    VOC2012,
    CamVid,
    Cityscapes,
    CityscapesCoarse,
    COCOStuff164k,
    name_of_layout,
)
from ccnet.datasets.samples import SampleDataset
from ccnet.datasets.scenes import Scenes
from ccnet.images.reading import read_image
from ccnet.layouts.splits import Division
from ccnet.runtime.files import DataError

__all__ = [
    "ADE20K",
    "DATASETS",
    "LIP",
    "VOC2012",
    "COCOStuff164k",
    "CamVid",
    "Cityscapes",
    "CityscapesCoarse",
    "DataError",
    "DatasetName",
    "Division",
    "FolderDataset",
    "SampleDataset",
    "Scenes",
    "SegmentationDataset",
    "open_dataset",
    "read_image",
]

DATASETS: dict[str, Callable[..., SegmentationDataset]] = {
    "scenes": Scenes,
    "folder": FolderDataset,
    "cityscapes": Cityscapes,
    "cityscapes_coarse": CityscapesCoarse,
    "ade20k": ADE20K,
    "voc2012": VOC2012,
    "coco_stuff164k": COCOStuff164k,
    "lip": LIP,
    "camvid": CamVid,
}
"""Every data set by the name that configurations and flags give it.

A class takes (root, split, strict=...); `Scenes`, which has no files, takes the split alone.
"""

if TYPE_CHECKING:  # type checkers accept no computed Literal
    DatasetName = str
else:
    DatasetName = Literal[tuple(DATASETS)]
    """One of the names in `DATASETS`; the flags that take one list them all."""


def open_dataset(
    name: str,
    root: str | Path | None = None,
    split: str = "val",
    *,
    strict: bool = True,
    division: Division | None = None,
    unnamed: Sequence[str] | None = None,
) -> SegmentationDataset:
    """Open one split of a data set.

    Args:
        name: A name in `DATASETS`.
        root: Folder of the data set. The scenes are embedded and need none.
        split: Part of the data set, such as "train" or "val"; of published data sets also several
            joined by +.
        strict: Raise DataError for files without a partner. With False they are left out, and
            `check_dataset` lists them.
        division: How to divide a folder that has no split val. None: not at all.
        unnamed: Classes of a model, for a folder whose labels nobody has named.

    Raises:
        DataError: The root is missing, or its files cannot be used.
        ValueError: No data set has this name.
    """
    if name not in DATASETS:
        raise ValueError(f"the data set must be one of {', '.join(DATASETS)}, got {name!r}")
    if DATASETS[name] is Scenes:
        return Scenes(split)
    if root is None:
        raise DataError(f"the data set {name} needs `root`, the folder that it lies in")
    if DATASETS[name] is not FolderDataset:
        return DATASETS[name](root, split, strict=strict)
    try:
        return FolderDataset(root, split, strict=strict, division=division, unnamed=unnamed)
    except DataError as error:
        likely = name_of_layout(Path(root))
        if likely is not None:
            error.add_note(
                f"it looks like the data set {likely}, which is read by that name (--data, or "
                "--data.name for training)"
            )
        raise
