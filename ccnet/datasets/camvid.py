"""CamVid: road scenes from a driving car, 480×360, 11 classes."""

from pathlib import Path
from typing import final

from ccnet.datasets.labels import LabelMap
from ccnet.datasets.pairs import LAYOUTS, PairedDataset, find_pairs

CLASSES = {
    "Sky": (128, 128, 128),
    "Building": (128, 0, 0),
    "Pole": (192, 192, 128),
    "Road": (128, 64, 128),
    "Pavement": (60, 40, 222),
    "Tree": (128, 128, 0),
    "SignSymbol": (192, 128, 128),
    "Fence": (64, 64, 128),
    "Car": (64, 0, 128),
    "Pedestrian": (64, 64, 0),
    "Bicyclist": (0, 128, 192),
}
UNLABELLED = (11, (0, 0, 0))


@final
class CamVid(PairedDataset):
    """CamVid's 11 classes; 11 (Unlabelled) is ignored.

    Reads `<split>/images` + `<split>/labels`, and SegNet's distribution: `train` + `trainannot`,
    `val` + `valannot`, `test` + `testannot` (its list files hold absolute paths and are not used).
    Raises DataError as `FolderDataset` does.
    """

    def __init__(self, root: Path | str, split: str = "train", *, strict: bool = True):
        root = Path(root)
        files = find_pairs(root, split, (*LAYOUTS, ("{split}", "{split}annot")), use_list=False)
        super().__init__(root, files, LabelMap(CLASSES, ignore=UNLABELLED), strict)
