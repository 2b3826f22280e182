"""CamVid: road scenes filmed from a driving car, 480×360, 11 classes (Brostow et al. 2009)."""

from dataclasses import dataclass
from pathlib import Path

from ccnet.classes import IGNORE_INDEX, table
from ccnet.layouts.files import Pairs
from ccnet.layouts.search import find_pairs, is_folder, stored_split
from ccnet.named.definition import NamedData, Storage

CLASSES = table("""
Sky 128 128 128
Building 128 0 0
Pole 192 192 128
Road 128 64 128
Pavement 60 40 222
Tree 128 128 0
SignSymbol 192 128 128
Fence 64 64 128
Car 64 0 128
Pedestrian 64 64 0
Bicyclist 0 128 192
""")
UNLABELED = (11, (0, 0, 0))
LAYOUTS = [("{split}", "{split}annot")]


@dataclass(frozen=True)
class CamVidSplit:
    """A split in the layout of SegNet's distribution, or in folders of images and labels.

    The lists of that distribution are not used, since they hold absolute paths.
    """

    number: int
    name: str

    @property
    def layout(self) -> str:
        return f"{self.name} and {self.name}annot (or {self.name}/images and {self.name}/labels)"

    def is_in(self, root: Path) -> bool:
        return is_folder(root) and stored_split(root, self.name, LAYOUTS, False) is not None

    def find(self, root: Path) -> Pairs:
        return find_pairs(root, self.name, LAYOUTS, use_list=False)


CAMVID_DATA = NamedData(
    title="CamVid",
    classes=tuple(CLASSES),
    palette=tuple(CLASSES.values()),
    storages=(
        Storage(
            {index: index for index in range(len(CLASSES))}
            | {color: index for index, color in enumerate(CLASSES.values())}
            | dict.fromkeys((*UNLABELED, IGNORE_INDEX), IGNORE_INDEX)
        ),
    ),
    splits={
        "train": CamVidSplit(367, "train"),
        "val": CamVidSplit(101, "val"),
        "test": CamVidSplit(233, "test"),
    },
    homes=("CamVid",),
)
