"""The views of an image that a protocol shows to the network, and the average of their scores."""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from ccnet.prediction.protocol import Protocol

Network = Callable[[Float[Tensor, "b c h w"]], Float[Tensor, "b classes h w"]]
Place = tuple[int, int]
"""Row and column of the first pixel of a tile."""


def score_images(
    network: Network,
    images: Iterable[Float[Tensor, "1 c _ _"]],
    protocol: Protocol,
    batch_size: int = 1,
) -> Iterator[Float[Tensor, "classes _ _"]]:
    """The scores of each image, at its size and in the given order.

    Views of one size, also of several images, are shown to the network together; what else is in a
    batch does not change the scores of an image.

    Args:
        network: gives logits at the size of its input.
        images: normalized images of any sizes.
        protocol: the views of an image, and whether logits or probabilities are averaged.
        batch_size: largest number of views that the network sees at once.
    """
    waiting: deque[ImageScores] = deque()
    batch: list[tuple[View, Place]] = []

    def run_network() -> None:
        scores = network(torch.cat([view.part(place) for view, place in batch])).float()
        if protocol.average == "probabilities":
            scores = scores.softmax(1)
        for (view, place), one in zip(batch, scores, strict=True):
            view.add(place, one)
        batch.clear()

    for image in images:
        waiting.append(ImageScores(image, protocol))
        for view in waiting[-1].views():
            for place in view.places:
                if batch and batch[0][0].tile != view.tile:
                    run_network()
                batch.append((view, place))
                if len(batch) == batch_size:
                    run_network()
        while waiting and waiting[0].is_complete:
            yield waiting.popleft().mean()
    if batch:
        run_network()
    for complete in waiting:
        yield complete.mean()


class ImageScores:
    """The sum of the scores of an image's views, at the size of the image.

    Args:
        image: normalized, (1, C, H, W).
        protocol: which views there are.
    """

    def __init__(self, image: Float[Tensor, "1 c h w"], protocol: Protocol) -> None:
        self.image = image
        self.protocol = protocol
        self.num_views = len(protocol.scales) * (1 + protocol.mirror)
        self.num_added = 0
        self.upright: Tensor | None = None  # waits for the scores of its mirror image
        self.total: Tensor | None = None

    def views(self) -> Iterator["View"]:
        for scale in self.protocol.scales:
            resized = resize(self.image, scaled_size(self.image, scale))
            yield View(resized, self, is_mirrored=False)
            if self.protocol.mirror:
                yield View(resized.flip(-1), self, is_mirrored=True)

    def add(self, scores: Float[Tensor, "classes h w"]) -> None:
        """Add the scores of a view that are complete, of each mirror image after its original."""
        self.num_added += 1
        if self.protocol.mirror and self.upright is None:
            self.upright = scores
            return
        if self.upright is not None:  # their sum first: it is the same for the mirrored image
            scores, self.upright = self.upright + scores, None
        scores = resize(scores[None], tuple(self.image.shape[-2:]))[0]
        self.total = scores if self.total is None else self.total + scores

    @property
    def is_complete(self) -> bool:
        return self.num_added == self.num_views

    def mean(self) -> Float[Tensor, "classes h w"]:
        assert self.total is not None
        return self.total if self.num_views == 1 else self.total / self.num_views


class View:
    """An image at one scale, upright or mirrored, that the network sees tile by tile.

    Args:
        image: normalized and resized, (1, C, H, W).
        owner: gets the scores when all tiles have theirs.
        is_mirrored: whether `image` has left and right exchanged.
    """

    def __init__(
        self, image: Float[Tensor, "1 c h w"], owner: ImageScores, *, is_mirrored: bool
    ) -> None:
        protocol, self.size = owner.protocol, tuple(image.shape[-2:])
        self.owner = owner
        self.is_mirrored = is_mirrored
        self.tile = self.size if protocol.tile is None else (protocol.tile, protocol.tile)
        below, right = (
            max(0, side - length) for side, length in zip(self.tile, self.size, strict=True)
        )
        self.image = F.pad(image, (0, right, 0, below)) if below or right else image
        self.starts = [
            tile_starts(length, side, protocol.step)
            for length, side in zip(self.image.shape[-2:], self.tile, strict=True)
        ]
        self.places = [(top, left) for top in self.starts[0] for left in self.starts[1]]
        self.profiles = [
            tile_profile(side, protocol.weights).to(image.device) for side in self.tile
        ]
        self.remaining = len(self.places)
        self.total: Tensor | None = None

    def part(self, place: Place) -> Float[Tensor, "1 c h w"]:
        """What the network sees of the tile at a place."""
        rows, columns = self.area(place)
        return self.image[:, :, rows, columns]

    def area(self, place: Place) -> tuple[slice, slice]:
        (top, left), (height, width) = place, self.tile
        return slice(top, top + height), slice(left, left + width)

    def add(self, place: Place, scores: Float[Tensor, "classes h w"]) -> None:
        """Add the scores of a tile; with the last one they go to the owner."""
        if len(self.places) == 1:
            mean = scores
        else:
            if self.total is None:
                self.total = scores.new_zeros(len(scores), *self.image.shape[-2:])
            rows, columns = self.profiles
            part = self.total[:, *self.area(place)]
            part += scores * rows[:, None] * columns
            mean = self.total
        self.remaining -= 1
        if self.remaining:
            return
        if len(self.places) > 1:
            # the weights of all tiles at a pixel are a product too: of a row's and a column's
            rows, columns = (
                covering_weight(starts, profile, length)
                for starts, profile, length in zip(
                    self.starts, self.profiles, self.image.shape[-2:], strict=True
                )
            )
            mean = mean / (rows[:, None] * columns)
        height, width = self.size
        mean = mean[:, :height, :width]
        self.owner.add(mean.flip(-1) if self.is_mirrored else mean)
        del self.image, self.total


def tile_starts(length: int, tile: int, stride: int) -> list[int]:
    """Where tiles begin along an axis, so that all of it is covered.

    The last tile is shifted inwards, to end with the axis. An axis not longer than a tile has one.
    """
    count = 1 + max(0, math.ceil((length - tile) / stride))
    return [max(0, min(index * stride, length - tile)) for index in range(count)]


def tile_profile(tile: int, weights: str) -> Float[Tensor, " tile"]:
    """The weights of a tile's pixels along one axis; a pixel's weight is the product of two."""
    if weights == "flat":
        return torch.ones(tile)
    places = torch.arange(tile) - (tile - 1) / 2
    return torch.exp(-0.5 * (places / (tile / 8)) ** 2)


def covering_weight(
    starts: list[int], profile: Float[Tensor, " tile"], length: int
) -> Float[Tensor, " length"]:
    """The sum of the weights of all tiles at each place of an axis."""
    total = profile.new_zeros(length)
    for start in starts:
        total[start : start + len(profile)] += profile
    return total


def scaled_size(image: Float[Tensor, "1 c h w"], scale: float) -> tuple[int, int]:
    height, width = image.shape[-2:]
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize(images: Float[Tensor, "b c _ _"], size: tuple[int, ...]) -> Float[Tensor, "b c _ _"]:
    """Images or scores at another size, bilinear as OpenCV; at their own size as they are."""
    if tuple(images.shape[-2:]) == tuple(size):
        return images
    return F.interpolate(images, size, mode="bilinear", align_corners=False)
