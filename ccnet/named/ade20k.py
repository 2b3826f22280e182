"""ADE20K in the form of the scene parsing challenge: 150 classes (Zhou et al. 2017)."""

from ccnet.classes import ADE20K, IGNORE_INDEX, LABEL_IDS
from ccnet.named.definition import FolderSplit, NamedData, Storage

VALUES = {0: IGNORE_INDEX} | {value: index for index, value in enumerate(LABEL_IDS["ade20k"])}
"""0 stands for other things, which the challenge leaves out."""

ADE20K_DATA = NamedData(
    title="ADE20K",
    classes=tuple(ADE20K),
    palette=tuple(ADE20K.values()),
    storages=(Storage(VALUES),),
    splits={
        "train": FolderSplit(20210, ("images/training",), ("annotations/training",)),
        "val": FolderSplit(2000, ("images/validation",), ("annotations/validation",)),
    },
    homes=("ADEChallengeData2016",),
)
