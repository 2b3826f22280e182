"""What the page and its HTTP interface do with an image, without any of Gradio."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ccnet.app.loading import AS_VALIDATED, PageModel, with_protocol
from ccnet.app.pictures import Scale, overlay_picture, scale_of
from ccnet.app.results import MAX_PIXELS, Results, Segmentation, segment
from ccnet.app.storage import Storage
from ccnet.images.colors import overlay
from ccnet.labeling.jobs import Job
from ccnet.labeling.stamp import encode_plain_png
from ccnet.polygons.files import COCO_FILE, PolygonOptions, write_polygons
from ccnet.report.gallery import as_rgb
from ccnet.runtime.files import DataError


@dataclass
class Workbench:
    """The models of a page, the results that are kept, and the files of its users."""

    models: Sequence[PageModel]
    storage: Storage
    max_pixels: int = MAX_PIXELS
    results: Results = field(default_factory=Results)

    def model_named(self, name: str) -> PageModel:
        """The model of this name, or the first one for an empty name; raises ValueError."""
        for model in self.models:
            if name in ("", model.name):
                return model
        known = ", ".join(model.name for model in self.models)
        raise ValueError(f"there is no model {name[:80]!r}; there is {known}")

    def segmentation(
        self, model: PageModel, path: str | Path, protocol: str = AS_VALIDATED
    ) -> Segmentation:
        """What a model says about an image, computed or kept from before.

        Raises:
            DataError: the image cannot be used; the message has only the file's own name.
            ValueError: there is no such protocol.
        """
        path = Path(path)
        predictor = with_protocol(model.predictor, protocol)
        if not path.is_file():
            raise DataError(f"{path.name}: the page keeps this file no longer; upload it again.")
        try:
            return self.results.find_or_make(
                (model.name, str(path), protocol),
                lambda: segment(predictor, path, self.max_pixels),
                model.computing,
            )
        except DataError as error:
            raise DataError(str(error).replace(f"{path.parent}/", ""), path=path) from error

    def picture(self, model: PageModel, found: Segmentation, opacity: float) -> Path:
        """A file of the classes over the image, as the page shows it."""
        path = self.storage.new_folder() / "overlay.jpg"
        path.write_bytes(overlay_picture(found, model.palette, opacity))
        return path

    def downloads(
        self, model: PageModel, path: str | Path, found: Segmentation, opacity: float
    ) -> list[Path]:
        """The label map as a PNG of class indices, the overlay at full size, and COCO polygons."""
        folder, stem = self.storage.new_folder(), Path(path).stem
        labels, covered = folder / f"{stem}.png", folder / f"{stem}.overlay.png"
        labels.write_bytes(encode_plain_png(found.labels))
        picture = overlay(as_rgb(found.image), found.labels, model.palette, opacity)
        covered.write_bytes(encode_plain_png(picture))
        job = Job(Path(path), labels)
        write_polygons([job], folder, model.predictor.classes, PolygonOptions("coco"))
        return [labels, covered, folder / COCO_FILE]

    def facts(self, model: PageModel, found: Segmentation) -> dict[str, Any]:
        """What was found, as JSON has it."""
        height, width = found.labels.shape
        classes = model.predictor.classes
        shares = found.shares(len(classes))
        return {
            "model": model.name,
            "protocol": found.protocol,
            "width": width,
            "height": height,
            "seconds": round(found.seconds, 3),
            "shares": dict(zip(classes, shares, strict=True)),
        }


def scale_of_result(found: Segmentation) -> Scale:
    return scale_of(*found.labels.shape)


def top_classes(model: PageModel, found: Segmentation, x: int, y: int) -> list[tuple[str, float]]:
    """The most likely classes of a pixel with their probabilities, the first one its label."""
    classes = model.predictor.classes
    return [
        (classes[index], float(probability))
        for index, probability in zip(
            found.top_classes[:, y, x].tolist(), found.top_probabilities[:, y, x], strict=True
        )
    ]
