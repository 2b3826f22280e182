"""CamVid: road scenes filmed from a driving car, 480×360 pixels, 11 classes."""

from pathlib import Path
from typing import final

from ccnet.datasets.labels import LabelMap
from ccnet.datasets.pairs import PairedDataset
from ccnet.layouts.search import find_pairs

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
UNLABELED = (11, (0, 0, 0))


@final
class CamVid(PairedDataset):
    """CamVid with its usual 11 classes; the value 11, unlabeled, is ignored.

    Two layouts are read: `<split>/images` + `<split>/labels`, and that of SegNet's distribution,
    `train` + `trainannot`, `val` + `valannot`, `test` + `testannot`. The list files of that
    distribution are not used, since they hold absolute paths.

    Args:
        root: Folder of the data set.
        split: "train", "val" or "test".
        strict: Raise DataError for files without a partner, instead of leaving them out.

    Raises:
        DataError: The split is not there, or files have no partner.
    """

    def __init__(self, root: Path | str, split: str = "train", *, strict: bool = True):
        root = Path(root)
        files = find_pairs(root, split, [("{split}", "{split}annot")], use_list=False)
        super().__init__(root, files, LabelMap(CLASSES, ignore=UNLABELED), strict)
