"""Scores of an image of any size, a row of tiles after the other.

The tiles are those of `ccnet.prediction.views`, and the scores of a pixel are added in the same
order, so the labels equal those of the image in memory. The image is divided into blocks of
columns. In a block, rows of tiles are computed from top to bottom, and in memory are the sums of
the scores of one tile's height. After a row of tiles, the pixels above the next row are complete,
are given out, and make room.
"""

import typing
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, UInt8
from torch import Tensor

from ccnet.classes import IGNORE_INDEX
from ccnet.images.partial import Window
from ccnet.images.windows import WindowedImage
from ccnet.prediction.protocol import Protocol
from ccnet.prediction.views import covering_weight, tile_profile, tile_starts
from ccnet.runtime.memory import peak_memory
from ccnet.runtime.signals import StopSignals

LABELS, CONFIDENCE = "labels", "confidence"

Results = dict[str, UInt8[np.ndarray, "h w"]]


class Scorer(typing.Protocol):
    """What computes scores on its device."""

    def normalize(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) of uint8 or uint16, from the CPU, as the network takes them."""
        ...

    def network(self, images: Tensor) -> Tensor:
        """Logits (B, classes, H, W) of normalized images."""
        ...


class TileCount:
    """Reports how many tiles are done, and stops where that is requested."""

    def __init__(
        self,
        per_row: Sequence[int],
        progress: Callable[[int, int], object] | None,
        stop: StopSignals | None,
    ) -> None:
        self.per_row, self.progress, self.stop = per_row, progress, stop
        self.done = self.total = 0

    def start(self, block: int, row: int, num_rows: int) -> None:
        """Set the count to what is done before a row of tiles of a block."""
        self.total = num_rows * sum(self.per_row)
        self.done = num_rows * sum(self.per_row[:block]) + row * self.per_row[block]

    def add(self, number: int) -> None:
        self.done += number
        if self.progress is not None:
            self.progress(self.done, self.total)

    def raise_if_stopped(self) -> None:
        if self.stop is not None and self.stop.requested:
            raise KeyboardInterrupt


class TiledView:
    """The tiles of the image, or of its mirror image, at their places in the upright image.

    Args:
        size: height and width of the image.
        protocol: of tiles.
        is_mirrored: whether the network sees left and right exchanged.
    """

    def __init__(self, size: tuple[int, int], protocol: Protocol, *, is_mirrored: bool) -> None:
        assert protocol.tile is not None
        self.tile, self.is_mirrored = protocol.tile, is_mirrored
        padded = [max(length, self.tile) for length in size]
        self.tops, lefts = (tile_starts(length, self.tile, protocol.step) for length in padded)
        self.lefts = [size[1] - self.tile - left for left in lefts] if is_mirrored else lefts
        self.profile = tile_profile(self.tile, protocol.weights)
        self.has_one = len(self.tops) * len(lefts) == 1
        # the weights of all tiles at a pixel: the product of a row's and a column's
        self.rows, columns = (
            covering_weight(starts, self.profile, long)[:length]
            for starts, long, length in zip((self.tops, lefts), padded, size, strict=True)
        )
        self.columns = columns.flip(0) if is_mirrored else columns

    def lefts_in(self, block: range) -> list[int]:
        """The first columns of the tiles that reach into a block of columns, in their order."""
        return [left for left in self.lefts if left < block.stop and left + self.tile > block.start]


class BlockSums:
    """The sums of the scores of each view in a block of columns, from the row `top` on."""

    def __init__(
        self, views: Sequence[TiledView], block: range, num_classes: int, device: torch.device
    ) -> None:
        self.views, self.block, self.top = views, block, 0
        shape = (num_classes, views[0].tile, len(block))
        self.sums = [torch.zeros(shape, device=device) for _ in views]

    def add(self, view: int, left: int, scores: Float[Tensor, "classes tile tile"]) -> None:
        """Add the scores of a tile whose first row is `top`."""
        one = self.views[view]
        if not one.has_one:
            profile = one.profile.to(scores.device)
            scores = scores * profile[:, None] * profile
        if one.is_mirrored:
            scores = scores.flip(-1)
        start, stop = max(left, self.block.start), min(left + one.tile, self.block.stop)
        part = self.sums[view][:, :, start - self.block.start : stop - self.block.start]
        part += scores[:, :, start - left : stop - left]

    def mean(self, num_rows: int, columns: slice) -> Float[Tensor, "classes h w"]:
        """The mean of all views in the first rows, which are complete."""
        total: Tensor | None = None
        across = slice(self.block.start + columns.start, self.block.start + columns.stop)
        for view, sums in zip(self.views, self.sums, strict=True):
            part = sums[:, :num_rows, columns]
            if not view.has_one:
                rows = view.rows[self.top : self.top + num_rows].to(sums.device)
                part = part / (rows[:, None] * view.columns[across].to(sums.device))
            total = part if total is None else total + part
        assert total is not None
        return total if len(self.views) == 1 else total / len(self.views)

    def advance(self, num_rows: int) -> None:
        """Move the rows below the first ones up, in steps in which none overlaps with itself."""
        for sums in self.sums:
            height = sums.shape[1]
            for row in range(num_rows, height, num_rows):
                kept = min(num_rows, height - row)
                sums[:, row - num_rows : row - num_rows + kept] = sums[:, row : row + kept]
            sums[:, height - num_rows :] = 0
        self.top += num_rows


@dataclass(frozen=True)
class TileRow:
    """What the tiles of one row see: pixels from (`top`, `left`) on, and which hold no picture."""

    left: int
    pixels: np.ndarray
    absent: Bool[np.ndarray, "h w"] | None

    def columns(self, left: int, tile: int) -> slice:
        """The part of a tile that lies in the image."""
        return slice(max(left - self.left, 0), min(left + tile - self.left, self.pixels.shape[1]))


class Sweep:
    """The tiles of an image from top to bottom, block by block.

    Args:
        scorer: computes the scores of a tile.
        image: of any size.
        protocol: of tiles at scale 1.
        batch_size: number of tiles that the network sees at once.
        with_confidence: also give the probability of each pixel's class, 255 for 1.
    """

    def __init__(
        self,
        scorer: Scorer,
        image: WindowedImage,
        protocol: Protocol,
        batch_size: int = 1,
        with_confidence: bool = False,
    ) -> None:
        self.scorer, self.image, self.batch_size = scorer, image, batch_size
        self.with_confidence = with_confidence
        self.has_probabilities = protocol.average == "probabilities"
        size = (image.height, image.width)
        sides = (False, True) if protocol.mirror else (False,)
        self.views = [TiledView(size, protocol, is_mirrored=mirrored) for mirrored in sides]
        self.tile, self.tops = self.views[0].tile, self.views[0].tops
        self.num_rows = len(self.tops)
        tiles = torch.zeros(
            (batch_size, image.channels, self.tile, self.tile),
            dtype=torch.uint8 if image.dtype == np.uint8 else torch.uint16,
        )
        scores = self.scores(scorer.normalize(tiles))  # also shows how much memory that takes
        self.num_classes, self.device = scores.shape[1], scores.device
        sums = BlockSums(self.views, range(self.tile), self.num_classes, self.device)
        sums.add(len(self.views) - 1, 0, scores[0])
        self.decide(sums.mean(min(self.tile, size[0]), slice(0, min(self.tile, size[1]))))
        self.peak = peak_memory(self.device)

    def scores(self, tiles: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes h w"]:
        scores = self.scorer.network(tiles).float()
        return scores.softmax(1) if self.has_probabilities else scores

    def decide(self, scores: Float[Tensor, "classes h w"]) -> dict[str, UInt8[Tensor, "h w"]]:
        """The most likely class of each pixel, and its probability from 0 to 255.

        Raises FloatingPointError for scores that are not finite.
        """
        largest, labels = scores.max(0)  # a nan counts as the largest
        if not largest.isfinite().all():
            raise FloatingPointError(
                "the network gives nan or infinite logits; compute in float32, or check its weights"
            )
        results = {LABELS: labels.to(torch.uint8)}
        if self.with_confidence:
            certainty = largest if self.has_probabilities else scores.softmax(0).amax(0)
            results[CONFIDENCE] = (certainty * 255).round().to(torch.uint8)
        return results

    def parts(self, block: range) -> list[Window]:
        """The windows that `run` completes, one after the other."""
        ends = [*self.tops[1:], self.image.height]
        return [
            (top, block.start, end - top, len(block))
            for top, end in zip(self.tops, ends, strict=True)
        ]

    def num_tiles(self, block: range) -> int:
        """The number of tiles in a row of a block."""
        return sum(len(view.lefts_in(block)) for view in self.views)

    def run(self, block: range, first: int, count: TileCount) -> Iterator[Results]:
        """The results in a block of columns, from the part `first` on."""
        if first == self.num_rows:
            return
        parts = self.parts(block)
        sums = BlockSums(self.views, block, self.num_classes, self.device)
        # rows of tiles before the first that reach into its part are computed again
        before = next(i for i, top in enumerate(self.tops) if top + self.tile > self.tops[first])
        for index in range(before, self.num_rows):
            sums.top = self.tops[index]
            row = self.read_row(sums.top, block)
            for number in self.add_row(row, sums, count):
                count.add(number if index >= first else 0)
            if index >= first:
                yield self.finish(row, sums, parts[index][2])
            sums.advance(parts[index][2])

    def read_row(self, top: int, block: range) -> TileRow:
        left = max(0, block.start - self.tile + 1)
        right = min(self.image.width, block.stop + self.tile - 1)
        window = (top, left, min(self.tile, self.image.height - top), right - left)
        return TileRow(left, self.image.read(*window), self.image.absent(*window))

    def add_row(self, row: TileRow, sums: BlockSums, count: TileCount) -> Iterator[int]:
        """Add the scores of a row of tiles; gives the numbers of tiles that are done."""
        places = [
            (number, left)
            for number, view in enumerate(self.views)
            for left in view.lefts_in(sums.block)
        ]
        shown = [place for place in places if self.has_picture(row, place[1])]
        yield len(places) - len(shown)
        for start in range(0, len(shown), self.batch_size):
            count.raise_if_stopped()
            batch = shown[start : start + self.batch_size]
            tiles = [self.cut(row, left, self.views[view]) for view, left in batch]
            for (view, left), scores in zip(batch, self.scores(torch.cat(tiles)), strict=True):
                sums.add(view, left, scores)
            yield len(batch)

    def has_picture(self, row: TileRow, left: int) -> bool:
        return row.absent is None or not row.absent[:, row.columns(left, self.tile)].all()

    def cut(self, row: TileRow, left: int, view: TiledView) -> Float[Tensor, "1 c tile tile"]:
        """A tile as the network sees it: outside the image it has the mean color."""
        pixels = torch.from_numpy(row.pixels[:, row.columns(left, self.tile)])
        part = self.scorer.normalize(pixels.movedim(-1, 0)[None])
        part = part.flip(-1) if view.is_mirrored else part
        below, right = (self.tile - length for length in part.shape[-2:])
        return F.pad(part, (0, right, 0, below)) if below or right else part

    def finish(self, row: TileRow, sums: BlockSums, num_rows: int) -> Results:
        """The results in the first rows of a block, a tile's width after the other."""
        shape, width = (num_rows, len(sums.block)), self.tile
        names = (LABELS, CONFIDENCE) if self.with_confidence else (LABELS,)
        results = {name: np.empty(shape, np.uint8) for name in names}
        for start in range(0, len(sums.block), width):
            columns = slice(start, min(start + width, len(sums.block)))
            for name, found in self.decide(sums.mean(num_rows, columns)).items():
                results[name][:, columns] = found.cpu().numpy()
        if row.absent is not None:
            offset = sums.block.start - row.left
            absent = row.absent[:num_rows, offset : offset + len(sums.block)]
            for name, array in results.items():
                array[absent] = IGNORE_INDEX if name == LABELS else 0
        return results
