"""Which way each file goes: as an image in memory, window by window, or frame by frame."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

from ccnet.images.arrays import read_npy_header
from ccnet.images.opening import MAX_PIXELS, PICTURES, Format, opened_image, size_in_head
from ccnet.images.tiff import HEIGHT, WIDTH, Tags
from ccnet.labeling.jobs import AS_NEEDED, Job, LargeImages, Products
from ccnet.labeling.large import RESERVE
from ccnet.prediction.predictor import Predictor
from ccnet.prediction.protocol import PROTOCOLS, Protocol
from ccnet.runtime.files import DataError
from ccnet.runtime.memory import peak_memory

NETWORK_BYTES = 800
"""Bytes that a network takes for each pixel that it sees at once: ResNet-101's 720, rounded up."""


@dataclass(frozen=True)
class Limits:
    """What images are predicted in memory, and how the others are."""

    largest: int
    """Pixels of an image that is predicted in memory."""
    protocol: Protocol
    """How the others are shown to the network."""
    memory: int | None
    max_pixels: int
    tiff: bool


def limits_of(predictor: Predictor, large: LargeImages = AS_NEEDED, num_workers: int = 1) -> Limits:
    """The limits that a user's flags mean for a model.

    Args:
        predictor: whose network and protocol take the memory.
        large: the flags.
        num_workers: number of images that wait in memory.

    Raises:
        ValueError: the amount of memory cannot be read.
    """
    memory, largest = large.num_bytes, min(MAX_PIXELS, large.max_pixels)
    if memory is not None:
        largest = min(largest, pixels_that_fit(predictor, memory, num_workers))
    protocol, sliding = predictor.protocol, PROTOCOLS["sliding"]
    if protocol.tile is None and not predictor.is_protocol_given:
        protocol = replace(protocol, tile=sliding.tile, stride=sliding.stride)
    return Limits(largest, protocol, memory, large.max_pixels, large.tiff)


def pixels_that_fit(predictor: Predictor, memory: int, num_workers: int) -> int:
    """Pixels of the largest image that may be predicted in memory without windows."""
    protocol, model = predictor.protocol, predictor.model
    area = max(protocol.scales) ** 2
    # 16 bits as they are read, ahead too; normalized; two views' scores, and their sum
    per_pixel = 2 * model.in_channels * (2 + num_workers)
    per_pixel += 4 * area * (model.in_channels + 3 * len(model.classes))
    seen = 0
    if protocol.tile is None:
        per_pixel += area * NETWORK_BYTES
    else:
        seen = predictor.batch_size * protocol.tile**2
    left = memory - peak_memory(predictor.device) - RESERVE - seen * NETWORK_BYTES
    return max(0, int(left / per_pixel))


def sort_out(jobs: Sequence[Job], limits: Limits) -> list[Job]:
    """The jobs with the way that each goes, and the name that its labels get there.

    Of each image, the header is read.
    """
    return [job if job.way == "video" else sort_image(job, limits) for job in jobs]


def sort_image(job: Job, limits: Limits) -> Job:
    """The job of an image; that of a damaged one as it is, since reading the image tells why."""
    try:
        found, pixels = stated_pixels(job.image)
    except DataError:
        return job
    if pixels <= limits.largest and not (limits.tiff and found == "TIFF"):
        return job
    if pixels > limits.max_pixels and found not in ("TIFF", "NPY"):
        return job  # it can only be decoded as a whole, which is refused
    # without rasterio, the labels of a TIFF that Pillow decodes can only be a PNG
    as_tiff = found == "TIFF" and (limits.tiff or find_spec("rasterio") is not None)
    labels = job.labels.with_suffix(".tif") if as_tiff else job.labels
    return Job(job.image, labels, "windows")


def stated_pixels(path: Path) -> tuple[Format, int]:
    """The format of an image file, and its height times width by the header.

    0 for a WebP of the simple kind, which has at most 268 million.

    Raises:
        DataError: the file cannot be read so far.
    """
    with opened_image(path) as (file, found):
        if found == "NPY":
            height, width, _ = read_npy_header(path, file).shape
        elif found == "TIFF":
            tags = Tags(path, file)
            height, width = tags.number(HEIGHT), tags.number(WIDTH)
        elif found in ("PNG", "WebP"):
            width, height = size_in_head(found, file.read(33)) or (0, 0)
        else:
            width, height = PICTURES[found](file).size
        return found, width * height


def refusal(job: Job, products: Products, *, has_polygons: bool) -> str | None:
    """Why what is asked for is not made of a file that goes its way; None if it is."""
    if job.way == "memory":
        return None
    asked = {f"--{name}": getattr(products, name) for name in ("color", "probabilities")}
    asked["--polygons"] = has_polygons
    if job.way == "windows":
        asked |= {"--overlay": products.overlay, "--ids voc": products.ids == "voc"}
        kind = "an image that is predicted window by window"
    else:
        asked |= {"--confidence": products.confidence, "--ids": products.ids is not None}
        kind = "a video"
    if not (refused := [flag for flag, is_asked in asked.items() if is_asked]):
        return None
    return (
        f"{job.image}: {kind}, which {' and '.join(refused)} cannot be had of; leave that out, or "
        "predict this file by a command of its own"
    )
