"""Pascal VOC 2012: 20 kinds of objects and background (Everingham et al. 2012).

The augmented training set takes the labels that the Semantic Boundaries Dataset has for more of the
images (Hariharan et al. 2011), as label files: SegmentationClassAug.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ccnet.classes import IGNORE_INDEX, LABEL_IDS, VOC
from ccnet.layouts.files import Pairs
from ccnet.layouts.lists import lines_of, sorted_by_presence
from ccnet.layouts.search import is_folder
from ccnet.named.definition import NamedData, Storage
from ccnet.runtime.files import DataError

IMAGES, LABELS, AUGMENTED = "JPEGImages", "SegmentationClass", "SegmentationClassAug"
LISTS = "ImageSets/Segmentation"

VALUES = {value: index for index, value in enumerate(LABEL_IDS["voc"])}
"""Beside them 255 is the border of each object, and objects that are too hard."""


@dataclass(frozen=True)
class ListedSplit:
    """A split that a list in ImageSets/Segmentation names, one image per line."""

    number: int
    name: str

    @property
    def layout(self) -> str:
        return f"{IMAGES}, {LABELS} and {LISTS}/{self.name}.txt"

    def is_in(self, root: Path) -> bool:
        folders = (is_folder(root / IMAGES), is_folder(root / LABELS))
        return all(folders) and (root / LISTS / f"{self.name}.txt").exists()

    def find(self, root: Path) -> Pairs:
        listed = root / LISTS / f"{self.name}.txt"
        return pairs_of(root, f"{LISTS}/{self.name}.txt", names_in(listed))


@dataclass(frozen=True)
class AugmentedSplit:
    """Every labeled image that is not one of the validation images.

    The list trainaug.txt (or train_aug.txt) says which, if it is there.
    """

    number: int

    @property
    def layout(self) -> str:
        return f"{IMAGES}, {LABELS}, {AUGMENTED} and {LISTS}"

    def is_in(self, root: Path) -> bool:
        return all(is_folder(root / name) for name in (IMAGES, LABELS, AUGMENTED, LISTS))

    def find(self, root: Path) -> Pairs:
        lists = (root / LISTS / f"{name}.txt" for name in ("trainaug", "train_aug"))
        listed = next((path for path in lists if path.exists()), None)
        if listed is not None:
            return pairs_of(root, f"{LISTS}/{listed.name}", names_in(listed))
        trained, validated = (names_in(root / LISTS / f"{name}.txt") for name in ("train", "val"))
        augmented = (path.stem for path in (root / AUGMENTED).glob("[!.]*.png"))
        names = sorted({*trained, *augmented}.difference(validated))
        return pairs_of(root, f"{AUGMENTED} and train, without val", names)


def names_in(listed: Path) -> list[str]:
    """The images in a list: a name per line, or the paths of an image and a label.

    Raises:
        DataError: it cannot be read, or names no image.
    """
    names = [Path(line.split()[0]).stem for _, line in lines_of(listed)]
    if not names:
        raise DataError(f"{listed}: it names no image.", path=listed)
    return names


def pairs_of(root: Path, layout: str, names: Iterable[str]) -> Pairs:
    """Images with their labels; those of VOC itself count before the augmented ones."""
    pairs = []
    for name in names:
        labels = [root / folder / f"{name}.png" for folder in (LABELS, AUGMENTED)]
        label = next((path for path in labels if path.exists()), labels[0])
        pairs.append((root / IMAGES / f"{name}.jpg", label))
    return sorted_by_presence(layout, pairs)


VOC_DATA = NamedData(
    title="Pascal VOC 2012",
    classes=tuple(VOC),
    palette=tuple(VOC.values()),
    storages=(Storage(VALUES | {IGNORE_INDEX: IGNORE_INDEX}),),
    splits={
        "train": ListedSplit(1464, "train"),
        "val": ListedSplit(1449, "val"),
        "trainval": ListedSplit(2913, "trainval"),
        "trainaug": AugmentedSplit(10582),
    },
    homes=("VOCdevkit/VOC2012", "VOC2012"),
)
