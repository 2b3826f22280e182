"""The folder of label maps: what it may be."""

import os
import stat
from collections.abc import Sequence
from pathlib import Path

from ccnet.labeling.jobs import Job
from ccnet.labeling.stamp import inspect_file
from ccnet.runtime.files import KINDS, cause_of

LABEL_SUFFIXES = (".png", ".tif", ".mp4")


def require_folder(output: Path) -> None:
    """Raises ValueError unless a path is a folder, a link to one, or free for a new one."""
    try:
        mode = output.stat().st_mode
    except FileNotFoundError:
        if not output.is_symlink():
            return
        cause = "a link to a folder that is not there"
    except OSError as error:
        cause = cause_of(error)
    else:
        if stat.S_ISDIR(mode):
            return
        cause = f"it is {KINDS.get(stat.S_IFMT(mode), 'a file')}"
    raise ValueError(f"{output}: {cause}; give a folder for the label maps")


def require_apart(inputs: Sequence[str], jobs: Sequence[Job], output: Path) -> None:
    """Raises ValueError if label maps would come among the images, or are given as images.

    The next call would find them there. An output inside of a given folder is fine: `find_jobs`
    leaves it out of its search.
    """
    own = full_path(output)
    folders = {full_path(Path(given)) for given in inputs if Path(given).is_dir()}
    searched = {folder for folder in folders if folder not in own.parents}
    for parent in dict.fromkeys(job.labels.parent for job in jobs):
        place = full_path(parent)
        if found := searched & {place, *place.parents}:
            raise ValueError(
                f"{output}: the label maps would come among the images in {found.pop()}; give "
                "another --output, which may be a new folder in there"
            )
    for job in jobs:
        image = full_path(job.image)
        if own not in image.parents or image.suffix not in LABEL_SUFFIXES:
            continue
        picture = inspect_file(image)
        if picture is not None and picture.stamp is not None:
            raise ValueError(
                f"{job.image}: a label map of ccnet predict, no image; give the images without "
                f"those in {output}"
            )


def full_path(path: Path) -> Path:
    """The path without links; unlike `Path.resolve`, without an error for a loop of links."""
    return Path(os.path.realpath(path))


def require_own_folders(jobs: Sequence[Job], output: Path) -> None:
    """Raises ValueError if a folder below the output is a link, or something else is in its place.

    Through a link, label maps would be written to another place or over each other.
    """
    seen = {output}
    for job in jobs:
        for folder in job.labels.parents:
            if folder in seen:
                break
            seen.add(folder)
            if folder.is_symlink():
                raise ValueError(
                    f"{folder}: a link, through which no label maps are written; remove it, or "
                    "give another --output"
                )
            if folder.exists() and not folder.is_dir():
                raise ValueError(f"{folder}: no folder; move it away, or give another --output")
