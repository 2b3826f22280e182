"""Label maps of many image files: files in, PNG files out, one bad file doesn't stop the rest."""

import glob
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from ccnet.datasets import DataError, read_image
from ccnet.datasets.pairs import IMAGE_SUFFIXES
from ccnet.predict import Predictor
from ccnet.visualize import colorize, overlay


@dataclass(frozen=True)
class Job:
    """An image file and the file of its labels."""

    image: Path
    labels: Path

    @property
    def color(self) -> Path:
        return self.labels.with_suffix(".color.png")

    @property
    def overlay(self) -> Path:
        return self.labels.with_suffix(".overlay.png")


def find_jobs(inputs: Sequence[str | Path], output: Path) -> list[Job]:
    """Files, folders (with all below them) or glob patterns, each with where its labels go.

    The labels of a file in a given folder keep its path below it; an output folder in there is
    passed over.

    Raises:
        FileNotFoundError: an input matches nothing.
        ValueError: two images would be written to one file, or labels over one of the images.
    """
    by_image = {}
    for given in map(str, inputs):
        path = Path(given)
        if path.is_dir():
            files = [p for p in sorted(path.rglob("*")) if is_image(p)]
            if path.resolve() in output.resolve().parents:  # what an earlier call wrote is no input
                files = [p for p in files if output.resolve() not in p.resolve().parents]
            found = [(p, p.relative_to(path)) for p in files]
        elif path.is_file():
            found = [(path, Path(path.name))]
        else:
            matches = sorted(map(Path, glob.glob(given, recursive=True)))  # noqa: PTH207 - absolute patterns
            found = [(p, Path(p.name)) for p in matches if p.is_file()]
        if not found:
            raise FileNotFoundError(f"no images at {given}; known are {', '.join(IMAGE_SUFFIXES)}")
        for image, relative in found:
            by_image[image.resolve()] = Job(image, output / relative.with_suffix(".png"))
    jobs = list(by_image.values())
    writers = defaultdict(list)
    for job in jobs:
        for target in (job.labels, job.color, job.overlay):
            writers[target].append(str(job.image))
    for target, images in writers.items():
        if len(images) > 1:
            raise ValueError(f"{' and '.join(images)} would both be written to {target}")
    for job in jobs:
        over_itself = job.labels.exists() and job.labels.samefile(job.image)
        if over_itself or job.labels.resolve() in by_image:
            raise ValueError(f"the labels of {job.image} would be written over {job.labels}")
    return jobs


def is_image(path: Path) -> bool:
    """Whether a file has an image's suffix and isn't hidden."""
    hidden = path.name.startswith(".")
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES and path.is_file()


def predict_files(
    predictor: Predictor,
    jobs: Sequence[Job],
    *,
    color: bool = False,
    overlays: bool = False,
    progress: Callable[[int, int], object] | None = None,
) -> list[tuple[Path, str]]:
    """Write the labels of each image as an 8-bit PNG of class indices, at the image's own size.

    With `color` and `overlays` also NAME.color.png and NAME.overlay.png. Returns the files that
    could not be read, each with the reason.
    """
    palette = predictor.palette
    if palette is None and (color or overlays):
        raise ValueError("the model has no palette to colour labels with")
    failures = []
    for index, job in enumerate(jobs):
        try:
            image = read_image(job.image, predictor.model.in_channels)
            labels = predictor.predict(image)
        except DataError as error:
            failures.append((job.image, str(error)))
        except RuntimeError as error:  # such as out of memory, for one huge image
            failures.append((job.image, f"{job.image}: {error}"))
        else:
            write_png(job.labels, labels)
            if color and palette is not None:
                write_png(job.color, colorize(labels, palette))
            if overlays and palette is not None:
                write_png(job.overlay, overlay(image, labels, palette))
        if progress is not None:
            progress(index + 1, len(jobs))
    return failures


def write_png(path: Path, array: np.ndarray) -> None:
    """Written beside and renamed, so that a file that is there is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.new")
    try:
        Image.fromarray(array).save(fresh, format="PNG")
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
