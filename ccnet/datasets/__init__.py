"""Data sets: embedded scenes, folders of images and labels, CamVid."""

from pathlib import Path

from ccnet.datasets.camvid import CamVid
from ccnet.datasets.dataset import SegmentationDataset
from ccnet.datasets.folder import FolderDataset
from ccnet.datasets.scenes import Scenes
from ccnet.images.reading import DataError, read_image

__all__ = [
    "CamVid",
    "DataError",
    "FolderDataset",
    "Scenes",
    "SegmentationDataset",
    "open_dataset",
    "read_image",
]


def open_dataset(
    name: str, root: str | Path | None = None, split: str = "val", *, strict: bool = True
) -> SegmentationDataset:
    """A data set by name: "scenes", or "folder" or "camvid" under `root`.

    With `strict=False` images without a label and the like are left for `check_dataset` to list.
    Raises DataError for files that can't be used.
    """
    if name == "scenes":
        return Scenes(split)
    if root is None:
        raise DataError(f"the {name} data set needs the folder that it lies in, as root")
    match name:
        case "folder":
            return FolderDataset(root, split, strict=strict)
        case "camvid":
            return CamVid(root, split, strict=strict)
        case _:
            raise ValueError(f"data set must be scenes, folder or camvid, got {name!r}")
