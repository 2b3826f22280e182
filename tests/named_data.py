"""Small made-up images and labels in the layouts that archives of published data sets have.

Each label holds every value that its data set stores, in bands from top to bottom.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import yaml
from PIL import Image

from ccnet.classes import VOC

SIZE = 48, 64
CITYSCAPES_VALUES = range(34)
ADE20K_VALUES = range(151)
COCO_GAPS = (11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90)
COCO_VALUES = [value for value in range(182) if value not in COCO_GAPS] + [255]
VOC_VALUES = [*range(21), 255]
LIP_VALUES = range(20)
CAMVID_VALUES = range(12)


def bands(values: Sequence[int]) -> np.ndarray:
    """A label that holds some values, in their order."""
    height, width = SIZE
    places = np.arange(height * width) * len(values) // (height * width)
    return np.array(values, np.uint8)[places].reshape(height, width)


def save_pair(image: Path, label: Path, values: Sequence[int]) -> None:
    height, width = SIZE
    seed = sum(image.name.encode())
    save(image, np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))
    save(label, bands(values))


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def cityscapes(root: Path) -> None:
    """Two towns, with all files that lie beside the labels."""
    names = {"train": "aachen bochum", "val": "frankfurt", "train_extra": "augsburg"}
    kinds = {"train": ("gtFine", "gtCoarse"), "val": ("gtFine", "gtCoarse")}
    for split, towns in names.items():
        for town in towns.split():
            for number in range(2):
                name = f"{split}/{town}/{town}_{number:06}_000019"
                for kind in kinds.get(split, ("gtCoarse",)):
                    _cityscapes_files(root, name, kind)


def _cityscapes_files(root: Path, name: str, kind: str) -> None:
    image = root / f"leftImg8bit/{name}_leftImg8bit.png"
    start = f"{root / kind / name}_{kind}"
    coarse = kind == "gtCoarse"  # which leaves borders unlabeled
    values = [0, *CITYSCAPES_VALUES, 0] if coarse else CITYSCAPES_VALUES
    save_pair(image, Path(f"{start}_labelIds.png"), values)
    save(Path(f"{start}_instanceIds.png"), bands(values).astype(np.uint16) * 1000)
    save(Path(f"{start}_color.png"), np.zeros((*SIZE, 4), np.uint8))
    Path(f"{start}_polygons.json").write_text(json.dumps({"objects": []}))


def ade20k(root: Path) -> None:
    for split, word, count in (("training", "train", 4), ("validation", "val", 2)):
        for number in range(1, count + 1):
            name = f"{split}/ADE_{word}_{number:08}"
            home = root / "ADEChallengeData2016"
            image, label = home / f"images/{name}.jpg", home / f"annotations/{name}.png"
            save_pair(image, label, ADE20K_VALUES)
    (root / "ADEChallengeData2016/objectInfo150.txt").write_text("Idx Ratio Train Val Name\n")


def voc2012(root: Path) -> None:
    """Palette PNGs, the three official lists, and gray augmented labels of all images but two."""
    home = root / "VOCdevkit/VOC2012"
    splits = {"train": ["2007_000032", "2007_000039"], "val": ["2007_000033", "2007_000042"]}
    splits["trainval"] = sorted(splits["train"] + splits["val"])
    augmented = ["2007_000039", "2007_000042", "2008_000002", "2008_000003"]
    for name in {*splits["trainval"], *augmented, "2009_000001"}:
        save_pair(home / f"JPEGImages/{name}.jpg", home / "spare.png", VOC_VALUES)
    (home / "spare.png").unlink()
    for name in splits["trainval"]:
        path = home / f"SegmentationClass/{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        label = Image.fromarray(bands(VOC_VALUES), "L").convert("P")
        label.putdata(bands(VOC_VALUES).ravel().tolist())
        colors = [*VOC.values(), *[(0, 0, 0)] * 234, (224, 224, 192)]
        label.putpalette([part for color in colors for part in color])
        label.save(path)
    for name in augmented:
        save(home / f"SegmentationClassAug/{name}.png", bands(VOC_VALUES[:-1]))
    for split, names in splits.items():
        path = home / f"ImageSets/Segmentation/{split}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join(names) + "\n")


def coco_stuff164k(root: Path) -> None:
    for split, numbers in (("train2017", range(4)), ("val2017", range(10, 12))):
        for number in numbers:
            name = f"{split}/{number:012}"
            images, labels = root / "images", root / "annotations"
            save_pair(images / f"{name}.jpg", labels / f"{name}.png", COCO_VALUES)


def lip(root: Path) -> None:
    for split, numbers in (("train", range(4)), ("val", range(10, 12))):
        names = [f"{number}_{number + 1000}" for number in numbers]
        for name in names:
            image = root / f"TrainVal_images/{split}_images/{name}.jpg"
            labels = root / f"TrainVal_parsing_annotations/{split}_segmentations"
            save_pair(image, labels / f"{name}.png", LIP_VALUES)
        (root / f"TrainVal_images/{split}_id.txt").write_text("\n".join(names))


def camvid(root: Path) -> None:
    """As SegNet distributes it, with lists of absolute paths of another machine."""
    for split, numbers in (("train", range(4)), ("val", range(10, 12)), ("test", range(20, 22))):
        lines = []
        for number in numbers:
            name = f"0001TP_{number:06}.png"
            save_pair(root / split / name, root / f"{split}annot" / name, CAMVID_VALUES)
            lines.append(f"/SegNet/CamVid/{split}/{name} /SegNet/CamVid/{split}annot/{name}")
        (root / f"{split}.txt").write_text("\n".join(lines))


def folder(root: Path) -> None:
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            name = f"{split}/{{}}/{number}"
            label = root / f"{name.format('labels')}.png"
            save_pair(root / f"{name.format('images')}.jpg", label, [0, 1, 2, 255])
    described = {"classes": ["sky", "road", "car"]}
    (root / "dataset.yaml").write_text(yaml.safe_dump(described))


WRITERS: dict[str, Callable[[Path], None]] = {
    "folder": folder,
    "cityscapes": cityscapes,
    "cityscapes_coarse": cityscapes,
    "ade20k": ade20k,
    "voc2012": voc2012,
    "coco_stuff164k": coco_stuff164k,
    "lip": lip,
    "camvid": camvid,
}
"""What writes the fixture of each data set that has files."""
