"""Label maps as the polygon files that labeling tools and maps read.

COCO JSON is one file for all images (read by CVAT, Label Studio, Roboflow and FiftyOne); GeoJSON
(RFC 7946, in pixels) and LabelMe JSON are one file per image.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ccnet.classes import IGNORE_INDEX, LABEL_IDS
from ccnet.images.reading import open_picture
from ccnet.labeling.jobs import IdName, Job
from ccnet.polygons.regions import Region, find_regions
from ccnet.runtime.disk import write_text, write_whole
from ccnet.runtime.files import open_regular

PolygonFormat = Literal["coco", "geojson", "labelme"]
COCO_FILE = "polygons.coco.json"
MARK = '{"made_by": "ccnet predict", '
"""How each file begins; readers of these formats pass over keys that they do not know."""
SUFFIXES = {"geojson": ".geojson", "labelme": ".json"}


@dataclass(frozen=True)
class PolygonOptions:
    """How label maps become polygons."""

    format: PolygonFormat
    tolerance: float = 1.0
    """As for `find_regions`."""
    min_area: int = 16
    """As for `find_regions`."""
    ids: IdName | None = None
    """The data set whose values the label maps have, as in `Products`."""

    def regions(self, labels: np.ndarray) -> list[Region]:
        if self.ids is not None:
            indices = np.full(256, IGNORE_INDEX, np.uint8)
            indices[list(LABEL_IDS[self.ids])] = range(len(LABEL_IDS[self.ids]))
            labels = indices[labels]
        return find_regions(labels, tolerance=self.tolerance, min_area=self.min_area)


def write_polygons(
    jobs: Sequence[Job],
    output: Path,
    classes: Sequence[str],
    options: PolygonOptions,
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> list[Path]:
    """Write the regions of label maps that `ccnet predict` has written.

    Args:
        jobs: images and their label maps; those without a label map are left out.
        output: folder of the label maps; COCO's file goes there, the others beside each label map.
        classes: names of the classes.
        options: format and simplification.
        overwrite: also replace files that this function did not write.
        progress: called as `progress(done, total)` after each image.

    Returns:
        The files that were written.

    Raises:
        FileExistsError: another file would be replaced.
    """
    done = [job for job in jobs if job.labels.is_file()]
    targets = [output / COCO_FILE]
    if options.format != "coco":
        targets = [job.labels.with_suffix(SUFFIXES[options.format]) for job in done]
    for path in () if overwrite else targets:
        require_own(path)

    def images() -> Iterator[tuple[Job, np.ndarray]]:
        for number, job in enumerate(done, start=1):
            yield job, np.asarray(open_picture(job.labels))
            if progress is not None:
                progress(number, len(done))

    if options.format == "coco":
        named = (
            (job.labels.relative_to(output).with_suffix(job.image.suffix).as_posix(), labels)
            for job, labels in images()
        )
        write_whole(targets[0], lambda file: _write_coco(file, named, classes, options))
        return targets
    for path, (job, labels) in zip(targets, images(), strict=True):
        regions = options.regions(labels)
        content = (
            geojson(regions, classes)
            if options.format == "geojson"
            else labelme(regions, classes, job.image, labels.shape)
        )
        write_text(path, MARK + json.dumps(content, ensure_ascii=False)[1:] + "\n")
    return targets


def require_own(path: Path) -> None:
    """Raises FileExistsError if a path has a file that does not begin as those of this module."""
    try:
        with open_regular(path) as file:
            start = file.read(len(MARK))
    except FileNotFoundError:
        return
    if start != MARK.encode():
        raise FileExistsError(
            f"{path} was not written by ccnet predict; --overwrite replaces it, another --output "
            "keeps it"
        )


def _write_coco(
    path: Path,
    images: Iterable[tuple[str, np.ndarray]],
    classes: Sequence[str],
    options: PolygonOptions,
) -> None:
    """Write the annotations of named label maps as they come; only one image's are in memory."""
    described = []
    # bytes of a name that are not UTF-8 are written as \udcff, which JSON reads back
    with path.open("w", encoding="utf-8", errors="backslashreplace") as file:
        file.write(MARK + '"annotations": [')
        separator, number = "\n", 0
        for image_id, (name, labels) in enumerate(images, start=1):
            height, width = labels.shape
            described.append({"id": image_id, "file_name": name, "width": width, "height": height})
            for region in options.regions(labels):
                number += 1
                annotation = {"id": number, "image_id": image_id, **coco_annotation(region)}
                file.write(separator + json.dumps(annotation))
                separator = ",\n"
        categories = [{"id": i, "name": name} for i, name in enumerate(classes, start=1)]
        rest = {"images": described, "categories": categories}
        file.write("],\n" + json.dumps(rest, ensure_ascii=False)[1:] + "\n")


def coco_annotation(region: Region) -> dict[str, Any]:
    """A region as COCO has it; the category is the class's index plus 1, as 0 is often reserved."""
    left, top, right, bottom = region.bounds
    return {
        "category_id": region.class_index + 1,
        "segmentation": [joined(region).ravel().tolist()],
        "area": region.area,
        "bbox": [left, top, right - left, bottom - top],
        "iscrowd": 0,
    }


def geojson(regions: Sequence[Region], classes: Sequence[str]) -> dict[str, Any]:
    """Regions as a GeoJSON FeatureCollection; x and y are pixels, y downwards."""
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "properties": {
                    "class": classes[region.class_index],
                    "class_index": region.class_index,
                    "area": region.area,
                },
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [
                        np.concatenate([ring, ring[:1]]).tolist()
                        for ring in (region.outline, *region.holes)
                    ],
                },
            }
            for region in regions
        ],
    }


def labelme(
    regions: Sequence[Region], classes: Sequence[str], image: Path, size: tuple[int, ...]
) -> dict[str, Any]:
    """Regions as LabelMe stores them beside an image; `size` is height and width."""
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": [
            {
                "label": classes[region.class_index],
                "points": joined(region).astype(float).tolist(),
                "group_id": None,
                "shape_type": "polygon",
                "flags": {},
            }
            for region in regions
        ],
        "imagePath": image.name,
        "imageData": None,
        "imageHeight": size[0],
        "imageWidth": size[1],
    }


def joined(region: Region) -> np.ndarray:
    """A region as one ring, for formats without holes.

    A line of no width leads along sides of pixels from the outline to each hole and back, so that
    the same pixels are inside.
    """
    ring = region.outline
    for hole in region.holes:
        around = np.roll(hole, -hole[:, 1].argmin(), axis=0)
        at = ((ring - around[0]) ** 2).sum(1).argmin()
        bend = [[around[0, 0], ring[at, 1]]]
        ring = np.concatenate([ring[: at + 1], bend, around, around[:1], bend, ring[at:]])
    return ring
