"""What to predict: image files, each with the file that its labels are written to."""

import glob
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

from ccnet.images.reading import IMAGE_SUFFIXES, image_files


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

    def targets(self, color: bool, overlays: bool) -> list[Path]:
        """The files to write, the labels first."""
        return [self.labels, *[self.color] * color, *[self.overlay] * overlays]


def find_jobs(inputs: Sequence[str | Path], output: Path) -> list[Job]:
    """The images that the inputs name, each once, with the files that their labels go to.

    Args:
        inputs: image files, folders (with all folders below them) or glob patterns.
        output: folder of the labels. An image in a given folder keeps its path relative to that
            folder. If `output` is inside a given folder, it is left out of the search.

    Raises:
        FileNotFoundError: an input matches no file.
        ValueError: the labels of two images would be the same file, or labels would replace an
            image.
    """
    by_image = {}
    for given in map(str, inputs):
        found = find_images(given, output)
        if not found:
            raise FileNotFoundError(f"no images at {given}; known are {', '.join(IMAGE_SUFFIXES)}")
        for image, relative in found:
            by_image[image.resolve()] = Job(image, output / relative.with_suffix(".png"))
    jobs = list(by_image.values())
    require_targets_of_their_own(jobs)
    require_no_image_replaced(jobs, by_image.keys())
    return jobs


def find_images(given: str, output: Path) -> list[tuple[Path, Path]]:
    """Image files that a file name, folder or pattern stands for, with their paths in `output`."""
    path = Path(given)
    if path.is_dir():
        files = list(image_files(path))
        if path.resolve() in output.resolve().parents:  # label maps of an earlier call
            files = [file for file in files if output.resolve() not in file.resolve().parents]
        return [(file, file.relative_to(path)) for file in files]
    if path.is_file():
        return [(path, Path(path.name))]
    matches = sorted(map(Path, glob.glob(given, recursive=True)))  # noqa: PTH207 - absolute patterns
    return [(file, Path(file.name)) for file in matches if file.is_file()]


def require_targets_of_their_own(jobs: Sequence[Job]) -> None:
    """Raises ValueError if two images would be written to the same file."""
    images_by_target = defaultdict(list)
    for job in jobs:
        for target in (job.labels, job.color, job.overlay):
            images_by_target[target].append(str(job.image))
    for target, images in images_by_target.items():
        if len(images) > 1:
            raise ValueError(f"{' and '.join(images)} would both be written to {target}")


def require_no_image_replaced(jobs: Sequence[Job], images: Collection[Path]) -> None:
    """Raises ValueError if labels would be written over one of the images, given as full paths."""
    for job in jobs:
        over_itself = job.labels.exists() and job.labels.samefile(job.image)
        if over_itself or job.labels.resolve() in images:
            raise ValueError(f"the labels of {job.image} would be written over {job.labels}")
