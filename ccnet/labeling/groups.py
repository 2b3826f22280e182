"""Images that are predicted together: the network sees them, or their tiles, in full batches."""

from collections.abc import Iterable, Iterator

from ccnet.labeling.jobs import Job
from ccnet.labeling.writer import LoadedImage
from ccnet.prediction.predictor import LARGEST_WHOLE, Predictor
from ccnet.runtime.files import DataError

Loaded = tuple[Job, LoadedImage | DataError]


def grouped(
    images: Iterable[Loaded], predictor: Predictor, max_pixels: int = LARGEST_WHOLE
) -> Iterator[list[Loaded]]:
    """Groups of images whose views fill batches; as many groups of one for batches of one.

    Images wait until there are as many of their size as a batch has; tiles of images of all sizes
    go together. Those that wait are less than two batches, of `max_pixels` together at most.
    """
    waiting: dict[object, list[Loaded]] = {}
    has_tiles = predictor.protocol.tile is not None
    for job, image in images:
        if isinstance(image, DataError) or predictor.batch_size == 1:
            yield [(job, image)]
            continue
        kind = (image.pixels.dtype, None if has_tiles else image.pixels.shape)
        waiting.setdefault(kind, []).append((job, image))
        if len(waiting[kind]) == predictor.batch_size:
            yield waiting.pop(kind)
        while are_too_many(waiting, predictor.batch_size, max_pixels):
            yield waiting.pop(next(iter(waiting)))
    yield from waiting.values()


def are_too_many(waiting: dict[object, list[Loaded]], batch_size: int, max_pixels: int) -> bool:
    images = [image for group in waiting.values() for _, image in group]
    pixels = sum(
        image.pixels.shape[0] * image.pixels.shape[1]
        for image in images
        if isinstance(image, LoadedImage)
    )
    return len(images) >= 2 * batch_size or pixels > max_pixels
