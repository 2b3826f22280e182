"""Labels of one image of any size, in a bounded amount of memory.

The image is divided into blocks of columns: one, if the memory allows. What `Sweep` completes is
written beside the output (`ccnet.images.partial`) and made a picture in the end.
"""

import math
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import UInt8

from ccnet.classes import IGNORE_INDEX
from ccnet.images.partial import PartialArrays, kept_settings, remove_partial
from ccnet.images.windows import WindowedImage
from ccnet.images.writing import read_tiff_stamp, require_suffix, write_labels
from ccnet.labeling.stamp import inspect_picture
from ccnet.labeling.sweep import CONFIDENCE, LABELS, Scorer, Sweep, TileCount
from ccnet.prediction.protocol import Protocol
from ccnet.runtime.disk import readable_size
from ccnet.runtime.signals import StopSignals

PLANNED_SHARE = 0.9
"""Of the memory left for sums, what a new prediction takes. One that goes on may take all of it, so
that it does not start anew where a process measures a little less."""
DEFAULT_SUMS = 2_000_000_000
"""Bytes for the sums of scores where no limit of memory is given."""
RESERVE = 32 << 20
"""Bytes of freed memory that the allocator keeps, and of what is encoded at the end."""
UNCHANGED = np.arange(256, dtype=np.uint8)


@torch.inference_mode()
def predict_large(
    scorer: Scorer,
    image: WindowedImage,
    output: Path,
    protocol: Protocol,
    *,
    stamp: str,
    memory: int | None,
    batch_size: int = 1,
    confidence: Path | None = None,
    values: UInt8[np.ndarray, "256"] = UNCHANGED,
    progress: Callable[[int, int], object] | None = None,
    stop: StopSignals | None = None,
) -> None:
    """Write the labels of an image as a PNG or a tiled TIFF; pixels without a picture become 255.

    After a kill, the same call goes on: what is lost are the tiles in hand and those that overlap
    with them. What a call with another stamp, protocol or batch size left is removed. An output
    that has this stamp is kept.

    Args:
        scorer: computes the scores of a tile.
        image: of any size.
        output: a .png, .tif or .tiff; a TIFF gets the image's georeference.
        protocol: of tiles, at the image's own scale, mirrored or not.
        stamp: all that the labels depend on, as text for the file.
        memory: bytes that this process may take; on a CUDA device, that PyTorch may take there.
            None: what the network takes, and 2 GB.
        batch_size: number of tiles that the network sees at once.
        confidence: also write the probability of each pixel's class, 255 for 1, into this file.
            It is 0 in pixels without a picture.
        values: what is written for each class and, as the last one, for pixels without a picture.
        progress: called as `progress(done, total)`, counting tiles.
        stop: looked at before each batch of tiles.

    Raises:
        ValueError: the protocol has no tiles or other scales, the memory does not suffice for a
            block as wide as a tile, or the suffix of a file is another.
        ImportError: a TIFF is to be written without rasterio.
        OSError: a file cannot be written.
        DataError: the image is damaged.
        FloatingPointError: scores are nan or infinite.
        KeyboardInterrupt: `stop` was requested.
    """
    targets = {LABELS: output} if confidence is None else {LABELS: output, CONFIDENCE: confidence}
    for path in targets.values():
        require_suffix(path)
    require_tiles(image, protocol)
    if all(has_stamp(path, stamp) for path in targets.values()):
        remove_partial(output)
        return
    settings = {"stamp": stamp, "protocol": protocol.to_dict(), "batch_size": batch_size}
    settings |= {"size": [image.height, image.width], "layers": sorted(targets)}
    sweep = Sweep(scorer, image, protocol, batch_size, confidence is not None)
    num_blocks = choose_blocks(sweep, memory, settings, kept_settings(output))
    blocks = divide(image.width, num_blocks)
    parts = [part for block in blocks for part in sweep.parts(block)]
    size = (image.height, image.width)
    with PartialArrays(output, settings | {"blocks": num_blocks}, size, parts, [*targets]) as made:
        count = TileCount([sweep.num_tiles(block) for block in blocks], progress, stop)
        for number, block in enumerate(blocks):
            first = min(max(made.num_finished - number * sweep.num_rows, 0), sweep.num_rows)
            count.start(number, first, sweep.num_rows)
            for results in sweep.run(block, first, count):
                made.add(results)
        if confidence is not None:
            reader = made.reader(CONFIDENCE)
            write_labels(confidence, reader, size, stamp, image.georeference, nodata=0)
        found = made.reader(LABELS)  # labels last: with them all is there
        void = int(values[IGNORE_INDEX])
        write_labels(
            output, lambda *window: values[found(*window)], size, stamp, image.georeference, void
        )
        made.remove()


def has_stamp(path: Path, stamp: str) -> bool:
    """Whether a file is whole and has this stamp."""
    if path.suffix.lower() != ".png":
        return read_tiff_stamp(path) == stamp
    picture = inspect_picture(path)
    return picture is not None and picture.has_stamp(stamp)


def require_tiles(image: WindowedImage, protocol: Protocol) -> None:
    """Raises ValueError for a protocol that needs the whole image at once."""
    if protocol.tile is None or protocol.scales != (1.0,):
        raise ValueError(
            f"{image.path}: {image.width}×{image.height} pixels are predicted window by window, "
            f"which needs tiles at scale 1 and not {protocol}; give --protocol sliding"
        )


def choose_blocks(
    sweep: Sweep, memory: int | None, settings: dict[str, Any], kept: dict[str, Any] | None
) -> int:
    """Into how many blocks of columns an image is divided, so that the memory suffices.

    As many as an earlier call had that began with these settings, if they still fit.

    Raises:
        ValueError: a block as wide as a tile takes more.
    """
    image, tile = sweep.image, sweep.tile
    # pixels as they are read and converted; sums; results
    window = tile * (3 * image.channels * image.dtype.itemsize + 3)
    column = window + tile * (4 * sweep.num_classes * len(sweep.views) + 6)
    fixed = sweep.peak + RESERVE + image.held_bytes + 2 * tile * window
    narrowest = min(tile, image.width)
    if memory is None:
        memory = fixed + max(DEFAULT_SUMS, math.ceil(narrowest * column / PLANNED_SHARE))
    available = memory - fixed
    widest = int(PLANNED_SHARE * available / column)
    earlier = None if kept is None else kept.get("blocks")
    if isinstance(earlier, int) and 1 <= earlier <= image.width:
        fits = math.ceil(image.width / earlier) * column <= available
        if fits and kept == settings | {"blocks": earlier}:
            return earlier
    if widest < narrowest:
        needed = fixed + narrowest * column / PLANNED_SHARE
        raise ValueError(
            f"{image.path}: {readable_size(memory)} of memory are too few; with tiles of {tile} "
            f"pixels at least {readable_size(int(needed) + 1)} are needed, of which network and "
            f"program take {readable_size(sweep.peak)}"
        )
    return math.ceil(image.width / widest)


def divide(width: int, number: int) -> list[range]:
    """Blocks of columns, equal except for one."""
    edges = [width * index // number for index in range(number + 1)]
    return [range(start, stop) for start, stop in pairwise(edges)]
