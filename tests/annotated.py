"""The same four annotated images in the layout of each labeling tool, as it exports them."""

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

HEIGHT, WIDTH = 32, 48
SPLITS = {"train": ("a", "b"), "val": ("c", "d")}
CLASSES = ("background", "leaf", "root")
COLORS = {"background": (0, 0, 0), "leaf": (0, 200, 0), "root": (200, 100, 0)}


def boxes(name: str) -> list[tuple[str, tuple[int, int, int, int]]]:
    """Class and left, top, right and bottom of the shapes of an image, in order; two overlap."""
    shift = 3 * "abcd".index(name[0])
    return [("leaf", (0, 12, 48, 28)), ("root", (5 + shift, 4, 20 + shift, 20))]


def label_of(name: str) -> np.ndarray:
    """The label map that they draw."""
    label = np.zeros((HEIGHT, WIDTH), np.uint8)
    for kind, (left, top, right, bottom) in boxes(name):
        label[top:bottom, left:right] = CLASSES.index(kind)
    return label


def corners(box: tuple[int, int, int, int]) -> list[tuple[int, int]]:
    left, top, right, bottom = box
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def save_image(path: Path, size: tuple[int, int] = (HEIGHT, WIDTH)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(len(path.stem)).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def coco_content(names: Iterable[str], suffix: str = ".png") -> dict[str, Any]:
    """A COCO file whose category ids have gaps."""
    images, annotations = [], []
    ids = {"leaf": 3, "root": 17}
    for name in names:
        image = {"id": len(images) + 100, "file_name": f"{name}{suffix}"}
        images.append(image | {"height": HEIGHT, "width": WIDTH})
        for kind, box in boxes(name):
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image["id"],
                    "category_id": ids[kind],
                    "segmentation": [np.ravel(corners(box)).tolist()],
                    "iscrowd": 0,
                }
            )
    categories = [{"id": ids[name], "name": name} for name in ("root", "leaf")]
    return {"images": images, "annotations": annotations, "categories": categories}


def cvat_coco(root: Path) -> Path:
    """annotations/instances_SPLIT.json, and images/SPLIT/."""
    for split, names in SPLITS.items():
        write_json(root / f"annotations/instances_{split}.json", coco_content(names))
        for name in names:
            save_image(root / f"images/{split}/{name}.png")
    return root


def roboflow(root: Path) -> Path:
    """train/_annotations.coco.json and valid/..., with the images beside it."""
    for split, names in SPLITS.items():
        folder = root / {"val": "valid"}.get(split, split)
        content = coco_content(names, ".jpg")
        for category in content["categories"]:
            category["supercategory"] = "plants"
        content["categories"].insert(0, {"id": 0, "name": "plants", "supercategory": "none"})
        write_json(folder / "_annotations.coco.json", content)
        for name in names:
            save_image(folder / f"{name}.jpg")
    return root


def labelme_content(name: str, suffix: str = ".png") -> dict[str, Any]:
    shapes = [
        {"label": kind, "points": corners(box), "shape_type": "polygon"}
        for kind, box in boxes(name)
    ]
    size = {"imageHeight": HEIGHT, "imageWidth": WIDTH}
    return {"version": "5.5.0", "shapes": shapes, "imagePath": f"{name}{suffix}", **size}


def labelme(root: Path) -> Path:
    """train/a.png with train/a.json beside it."""
    for split, names in SPLITS.items():
        for name in names:
            save_image(root / split / f"{name}.png")
            write_json(root / split / f"{name}.json", labelme_content(name))
    return root


def yolo(root: Path) -> Path:
    """data.yaml, images/SPLIT and labels/SPLIT."""
    for split, names in SPLITS.items():
        for name in names:
            save_image(root / f"images/{split}/{name}.png")
            lines = []
            for kind, box in boxes(name):
                shares = np.array(corners(box)) / (WIDTH, HEIGHT)
                numbers = " ".join(map(str, shares.ravel().tolist()))
                lines.append(f"{CLASSES.index(kind) - 1} {numbers}\n")
            path = root / f"labels/{split}/{name}.txt"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("".join(lines))
    content = {"path": ".", "train": "images/train", "val": "images/val"}
    content["names"] = {0: "leaf", 1: "root"}  # pyright: ignore[reportArgumentType]
    (root / "data.yaml").write_text(yaml.safe_dump(content))
    return root


def voc(root: Path) -> Path:
    """JPEGImages, SegmentationClass with palette PNGs, ImageSets, and class_names.txt."""
    _voc_layout(root)
    (root / "class_names.txt").write_text("\n".join(CLASSES))
    return root


def cvat(root: Path) -> Path:
    """Pascal VOC's layout with the labelmap.txt of CVAT."""
    _voc_layout(root)
    lines = [f"{name}:{','.join(map(str, color))}::\n" for name, color in COLORS.items()]
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "".join(lines))
    return root


def _voc_layout(root: Path) -> None:
    for split, names in SPLITS.items():
        listed = root / f"ImageSets/Segmentation/{split}.txt"
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{name}\n" for name in names))
        for name in names:
            save_image(root / f"JPEGImages/{name}.jpg")
            picture = Image.fromarray(label_of(name), mode="P")
            picture.putpalette(np.ravel(list(COLORS.values())).tolist())
            path = root / f"SegmentationClass/{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            picture.save(path)


def metadata(root: Path) -> Path:
    """SPLIT/metadata.csv with a column of label files, and id2label.json."""
    for split, names in SPLITS.items():
        for name in names:
            save_image(root / split / f"{name}.png")
            path = root / split / "masks" / f"{name}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(label_of(name)).save(path)
        rows = "".join(f"{name}.png,masks/{name}.png\n" for name in names)
        (root / split / "metadata.csv").write_text("file_name,label\n" + rows)
    write_json(root / "id2label.json", dict(enumerate(CLASSES)))
    return root


WRITERS: dict[str, Callable[[Path], Path]] = {
    "coco": cvat_coco,
    "coco-roboflow": roboflow,
    "labelme": labelme,
    "yolo": yolo,
    "voc": voc,
    "cvat": cvat,
    "metadata": metadata,
}
"""What writes a data set of each kind into a folder; the word before the hyphen is its format."""
