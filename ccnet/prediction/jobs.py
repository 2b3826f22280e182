"""What is to be predicted: image files, each with the file that its labels go to."""

import glob
from collections import defaultdict
from collections.abc import Sequence
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
        """What is to be written, the labels first."""
        return [self.labels, *[self.color] * color, *[self.overlay] * overlays]


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
            files = list(image_files(path))
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
