"""What to predict: files of images and videos, each with the file that its labels go to."""

import glob
import os
from collections import defaultdict
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from ccnet.images.opening import MAX_PIXELS, leads_to_folder, listing_error
from ccnet.images.reading import IMAGE_SUFFIXES, search_files
from ccnet.images.video import VIDEO_SUFFIXES
from ccnet.runtime.values import Between

SUFFIXES = IMAGE_SUFFIXES + VIDEO_SUFFIXES
Way = Literal["memory", "windows", "video"]
"""How a file is predicted: as an image in memory, window by window, or frame by frame."""
IdName = Literal["cityscapes", "ade20k", "voc"]
PRODUCTS = ("color", "overlay", "confidence", "probabilities")


@dataclass(frozen=True)
class Products:
    """What is written of an image besides its label map, and the values of the label map."""

    color: bool = False
    """Also write NAME.color.png, the labels in the colors of the classes."""
    overlay: bool = False
    """Also write NAME.overlay.png, these colors over the image."""
    confidence: bool = False
    """Also write NAME.confidence.png, the probability of each pixel's label, 0 to 255."""
    probabilities: bool = False
    """Also write NAME.probabilities.npy, those of all classes (classes, height, width) in
    float16."""
    ids: IdName | None = None
    """Write the values that the files of a data set have, instead of indices: cityscapes (its
    labelIds, for its server), ade20k (1 to 150) or voc (a PNG with its palette)."""


@dataclass(frozen=True)
class LargeImages:
    """What is done with images that are too large to be predicted as a whole."""

    memory: str | None = None
    """Memory that each process may take, such as 4GB; on a GPU, that PyTorch may take there. Images
    for which it does not suffice are predicted window by window, with the same labels as in tiles.
    Unless given, images of more than 50 million pixels are, with 2 GB for their scores."""
    tiff: bool = False
    """Predict all TIFFs window by window and write NAME.tif, with the image's georeference and
    nodata value; without this flag only those that are too large."""
    max_pixels: Annotated[int, Between(1, 1 << 40)] = MAX_PIXELS
    """Pixels of an image that is decoded as a whole, or of a video's frame. A small file may state
    any size, so raise it for files whose source you trust."""

    def __post_init__(self) -> None:
        _ = self.num_bytes  # ValueError if it is no amount

    @property
    def num_bytes(self) -> int | None:
        """The memory in bytes."""
        if self.memory is None:
            return None
        from ccnet.runtime.memory import parse_size  # imports torch

        return parse_size(self.memory)


AS_NEEDED = LargeImages()


@dataclass(frozen=True)
class Job:
    """A file of an image or a video, and the file of its labels."""

    image: Path
    labels: Path
    way: Way = "memory"

    @property
    def color(self) -> Path:
        return self.labels.with_suffix(".color.png")

    @property
    def overlay(self) -> Path:
        return self.labels.with_suffix(".overlay.png")

    @property
    def confidence(self) -> Path:
        return self.labels.with_suffix(f".confidence{self.labels.suffix}")

    @property
    def probabilities(self) -> Path:
        return self.labels.with_suffix(".probabilities.npy")

    def targets(self, products: Products) -> list[Path]:
        """The files to write, the labels first; of a video, the one with the labels over it."""
        if self.way == "video":
            return [self.labels]
        wanted = [name for name in PRODUCTS if getattr(products, name)]
        return [self.labels, *(getattr(self, name) for name in wanted)]


LABELS_ONLY = Products()
EVERYTHING = Products(color=True, overlay=True, confidence=True, probabilities=True)


def find_jobs(
    inputs: Sequence[str | Path], output: Path, hidden: list[Path] | None = None
) -> list[Job]:
    """The images and videos that the inputs name, each once, with the files of their labels.

    Two links to one image are two images. What looks like an image but cannot be read, such as a
    link without a target or a folder without permission, is there too: reading it gives the cause.

    Args:
        inputs: files, folders (with all folders below them) or glob patterns.
        output: folder of the labels. An image in a given folder keeps its path relative to that
            folder. If `output` is inside a given folder, it is left out of the search.
        hidden: gets the hidden files and folders in given folders, which are left out.

    Raises:
        FileNotFoundError: an input matches no file.
        DataError: a given folder cannot be opened.
        ValueError: an input is empty, the labels of two images would be the same file, or labels
            would replace an image.
    """
    by_image: dict[Path, Job] = {}
    for given in map(str, inputs):
        if not given:
            raise ValueError("an empty path among the images; give files, folders or patterns")
        found = find_images(given, output, [] if hidden is None else hidden)
        if not found:
            raise FileNotFoundError(f"no images at {given}; known are {', '.join(SUFFIXES)}")
        for image, relative in found:
            by_image[full_name(image)] = job_of(image, output / relative)
    jobs = list(by_image.values())
    require_targets_of_their_own(jobs)
    require_no_image_replaced(jobs, by_image.keys())
    return jobs


def job_of(image: Path, place: Path) -> Job:
    """The job of a file, by its suffix, whose labels get the name of `place`."""
    if image.suffix.lower() in VIDEO_SUFFIXES:
        return Job(image, place.with_suffix(".overlay.mp4"), "video")
    return Job(image, place.with_suffix(".png"))


def full_name(path: Path) -> Path:
    """The path without links in its folders; a link in the last place is a name of its own."""
    return Path(os.path.realpath(path.parent), path.name)


def find_images(given: str, output: Path, hidden: list[Path]) -> list[tuple[Path, Path]]:
    """Files that a file name, folder or pattern stands for, with their paths in `output`.

    What is hidden in a folder is added to `hidden`.
    """
    path = Path(given)
    if leads_to_folder(path):
        search = search_files(path, SUFFIXES)
        hidden += search.hidden
        files = search.files
        written = Path(os.path.realpath(output))
        if Path(os.path.realpath(path)) in written.parents:  # label maps of an earlier call
            files = [file for file in files if written not in full_name(file).parents]
        return [(file, name_in_output(file, path)) for file in files]
    if not is_missing(path):
        return [(path, Path(path.name))]
    matches = sorted(map(Path, glob.glob(given, recursive=True)))  # noqa: PTH207 - absolute patterns
    files = [(file, Path(file.name)) for file in matches if not leads_to_folder(file)]
    return files + [(folder, name_in_output(folder, folder.parent)) for folder in closed(given)]


def is_missing(path: Path) -> bool:
    """Whether there is no such name; False where that may not be known, so that reading tells."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return True
    except OSError:
        return False
    return False


def name_in_output(path: Path, folder: Path) -> Path:
    """The path relative to a folder; of a folder, which cannot be opened, a name within it."""
    relative = path.relative_to(folder)
    return relative / "(cannot be opened)" if leads_to_folder(path) else relative


def closed(pattern: str) -> list[Path]:
    """The folders that a glob pattern would search but that cannot be opened."""
    parts = Path(pattern).parts
    searched = {
        Path(*parts[: i + (part == "**")]) for i, part in enumerate(parts) if glob.has_magic(part)
    }
    found = {
        Path(folder)
        for folders in searched
        for folder in glob.glob(str(folders), recursive=True)  # noqa: PTH207 - absolute patterns
    }
    return sorted(folder for folder in found if leads_to_folder(folder) and listing_error(folder))


def require_targets_of_their_own(jobs: Sequence[Job]) -> None:
    """Raises ValueError if two images would be written to the same file."""
    images_by_target = defaultdict(list)
    for job in jobs:
        for target in job.targets(EVERYTHING):
            images_by_target[target].append(str(job.image))
    for target, images in images_by_target.items():
        if len(images) > 1:
            raise ValueError(f"{' and '.join(images)} would both be written to {target}")


def require_no_image_replaced(jobs: Sequence[Job], images: Collection[Path]) -> None:
    """Raises ValueError if labels would be written over one of the images, given by `full_name`."""
    contents = {os.path.realpath(image) for image in images}
    for job in jobs:
        labels = full_name(job.labels)
        if (
            is_same_file(job.labels, job.image)
            or labels in images
            or os.path.realpath(labels) in contents
        ):
            raise ValueError(f"the labels of {job.image} would be written over {job.labels}")


def is_same_file(path: Path, other: Path) -> bool:
    """Whether two paths lead to one file; False if one of them leads nowhere."""
    try:
        return path.samefile(other)
    except OSError:
        return False
