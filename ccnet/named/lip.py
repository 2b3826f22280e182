"""LIP (Look into Person): one person per image, 19 parts of body and clothes (Gong et al. 2017)."""

from ccnet.classes import IGNORE_INDEX, table
from ccnet.named.definition import FolderSplit, NamedData, Storage, folder_names

CLASSES = table("""
Background 0 0 0
Hat 128 0 0
Hair 255 0 0
Glove 0 85 0
Sunglasses 170 0 51
UpperClothes 255 85 0
Dress 0 0 85
Coat 0 119 221
Socks 85 85 0
Pants 0 85 85
Jumpsuits 85 51 0
Scarf 52 86 128
Skirt 0 128 0
Face 0 0 255
Left-arm 51 170 221
Right-arm 0 255 255
Left-leg 85 255 170
Right-leg 170 255 85
Left-shoe 255 255 0
Right-shoe 255 170 0
""")


def split_of(name: str, number: int) -> FolderSplit:
    """A split, unpacked side by side, or to a folder for each archive, which may be nested."""
    images, labels = "TrainVal_images/", "TrainVal_parsing_annotations/"
    return FolderSplit(
        number,
        folder_names(*(f"{images * n}{{split}}_images" for n in range(3)), split=name),
        folder_names(*(f"{labels * n}{{split}}_segmentations" for n in range(4)), split=name),
    )


LIP_DATA = NamedData(
    title="LIP",
    classes=tuple(CLASSES),
    palette=tuple(CLASSES.values()),
    storages=(
        Storage({index: index for index in range(len(CLASSES))} | {IGNORE_INDEX: IGNORE_INDEX}),
    ),
    splits={"train": split_of("train", 30462), "val": split_of("val", 10000)},
    homes=("LIP",),
)
