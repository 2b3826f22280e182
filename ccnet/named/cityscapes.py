"""Cityscapes: streets of 50 towns, 2048×1024 pixels, 19 of its 34 classes (Cordts et al. 2016)."""

from ccnet.classes import CITYSCAPES, IGNORE_INDEX, LABEL_IDS
from ccnet.layouts.rules import Rule
from ccnet.named.definition import FolderSplit, NamedData, Storage, folder_names

NUM_LABEL_IDS = 34
"""labelIds are 0 to 33; a license plate, -1, is not drawn."""

LABEL_ID_FILES = Storage(
    dict.fromkeys(range(NUM_LABEL_IDS), IGNORE_INDEX)
    | {value: index for index, value in enumerate(LABEL_IDS["cityscapes"])},
    end="_labelIds",
)
TRAIN_ID_FILES = Storage(
    {index: index for index in range(len(CITYSCAPES))} | {IGNORE_INDEX: IGNORE_INDEX},
    end="_labelTrainIds",
)
"""What the makers' scripts write beside the labelIds."""


def split_of(name: str, number: int, kind: str) -> FolderSplit:
    """A split with labels of the kind gtFine or gtCoarse, which are below folders of towns."""
    archive = "leftImg8bit_trainextra" if name == "train_extra" else "leftImg8bit_trainvaltest"
    images = ("leftImg8bit/{split}", f"{archive}/leftImg8bit/{{split}}")
    labels = (
        f"{kind}/{{split}}",
        f"{kind}_trainvaltest/{kind}/{{split}}",
        f"{kind}/{kind}/{{split}}",
    )
    return FolderSplit(
        number,
        folder_names(*images, split=name),
        folder_names(*labels, split=name),
        tuple(
            Rule("_leftImg8bit", f"_{kind}{way.end}") for way in (LABEL_ID_FILES, TRAIN_ID_FILES)
        ),
    )


FINE = {
    "train": split_of("train", 2975, "gtFine"),
    "val": split_of("val", 500, "gtFine"),
    "test": split_of("test", 1525, "gtFine"),
}
COARSE = {
    "train": split_of("train", 2975, "gtCoarse"),
    "train_extra": split_of("train_extra", 19998, "gtCoarse"),
}


def data_of(splits: dict[str, FolderSplit]) -> NamedData:
    return NamedData(
        title="Cityscapes",
        classes=tuple(CITYSCAPES),
        palette=tuple(CITYSCAPES.values()),
        storages=(LABEL_ID_FILES, TRAIN_ID_FILES),
        splits=splits,
        homes=("cityscapes", "Cityscapes"),
    )


CITYSCAPES_DATA = data_of({**FINE, "train_extra": COARSE["train_extra"]})
"""Fine labels, and coarse ones for the images that have no others."""
CITYSCAPES_COARSE_DATA = data_of({**FINE, **COARSE})
"""Coarse labels for all images to train on, fine ones to score on."""
