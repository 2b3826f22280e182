"""Published data sets by their names, with the layout that their archives unpack to."""

from pathlib import Path
from typing import ClassVar, final

import numpy as np
from jaxtyping import UInt8

from ccnet.classes import IGNORE_INDEX
from ccnet.datasets.labels import LabelMap
from ccnet.datasets.pairs import DESCRIPTION, PairedDataset
from ccnet.datasets.unmapped import LabelValueError, list_some, ranges
from ccnet.named.ade20k import ADE20K_DATA
from ccnet.named.camvid import CAMVID_DATA
from ccnet.named.cityscapes import CITYSCAPES_COARSE_DATA, CITYSCAPES_DATA
from ccnet.named.coco_stuff import COCO_STUFF_DATA
from ccnet.named.definition import NamedData
from ccnet.named.lip import LIP_DATA
from ccnet.named.voc import VOC_DATA
from ccnet.runtime.files import DataError


class NamedDataset(PairedDataset):
    """A published data set, whose label files are read by the values that it stores.

    Labels lie on the pixels of the photographs as they are stored.

    Args:
        root: Folder of the data set, or a folder that its archives were unpacked in.
        split: A split of the subclass, several joined by + (train+val), or a list, whose lines name
            an image with its label or alone.
        strict: Raise DataError for files without a partner, instead of leaving them out.

    Raises:
        DataError: The split is not there, or files have no partner.
    """

    data: ClassVar[NamedData]

    def __init__(self, root: Path | str, split: str = "train", *, strict: bool = True):
        root = Path(root)
        files = self.data.find(root, split)
        values = self.data.storage_of(root, files).values
        self.numbers = [value for value in values if isinstance(value, int)]
        """What label files hold, beside colors."""
        form = "index" if len(self.numbers) == len(values) else None
        label_map = LabelMap(self.data.classes, mapping=values, labels=form)
        if IGNORE_INDEX not in self.numbers:
            label_map = label_map.without_255()
        super().__init__(root, files, label_map, strict, "stored")
        if self.data.palette is not None:
            self.palette = self.data.palette

    @classmethod
    def is_in(cls, root: Path) -> bool:
        """Whether a folder has the layout of the data set."""
        return cls.data.is_in(root)

    def read_label(self, index: int) -> UInt8[np.ndarray, "h w"]:
        path = self.files.pairs[index][1]
        try:
            return super().read_label(index)
        except LabelValueError as error:
            raise LabelValueError(
                f"{path}: {list_some(error.values, len(error.values))}: labels of "
                f"{self.data.title} hold {ranges(self.numbers)} as downloaded, so these were "
                "changed; restore them.",
                path=path,
                values=error.values,
            ) from None
        except DataError as error:
            if error.path == path:
                error.add_note(f"labels of {self.data.title} hold numbers, {ranges(self.numbers)}")
            raise


@final
class Cityscapes(NamedDataset):
    """19 classes: train, val, test with fine labels, train_extra with coarse ones.

    The files *_labelIds.png are read, or *_labelTrainIds.png where there are no others.
    """

    data = CITYSCAPES_DATA


@final
class CityscapesCoarse(NamedDataset):
    """Cityscapes with coarse labels in train and train_extra, with fine ones in val and test."""

    data = CITYSCAPES_COARSE_DATA


@final
class ADE20K(NamedDataset):
    """150 classes, train and val; the value 0, other things, is ignored."""

    data = ADE20K_DATA


@final
class VOC2012(NamedDataset):
    """21 classes: train, val, trainval, and trainaug with the augmented labels."""

    data = VOC_DATA


@final
class COCOStuff164k(NamedDataset):
    """171 classes, train and val; the value 255, unlabeled, is ignored."""

    data = COCO_STUFF_DATA


@final
class LIP(NamedDataset):
    """20 classes with the background, train and val."""

    data = LIP_DATA


@final
class CamVid(NamedDataset):
    """11 classes: train, val and test; the value 11, unlabeled, is ignored."""

    data = CAMVID_DATA


HAVE_FOLDERS_OF_THEIR_OWN: dict[str, type[NamedDataset]] = {
    "cityscapes": Cityscapes,
    "ade20k": ADE20K,
    "coco_stuff164k": COCOStuff164k,
    "lip": LIP,
}
"""Published data sets that are known by the names of their folders."""


def name_of_layout(root: Path) -> str | None:
    """The published data set whose layout a folder without a description has."""
    try:
        if (root / DESCRIPTION).exists():
            return None
        kinds = HAVE_FOLDERS_OF_THEIR_OWN.items()
        return next((name for name, kind in kinds if kind.is_in(root)), None)
    except (DataError, OSError):  # it cannot be looked into, which opening it tells already
        return None
