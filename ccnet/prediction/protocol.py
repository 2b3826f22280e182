"""How an image is shown to the network: whole or in tiles, at which scales, mirrored or not."""

import math
from dataclasses import asdict, dataclass, replace
from typing import Annotated, Any, Literal

from ccnet.runtime.values import Between, build, checked, require_fields

TileWeights = Literal["flat", "gaussian"]
Average = Literal["logits", "probabilities"]


@dataclass(frozen=True)
class Protocol:
    """How the scores of an image are computed.

    The image is resized to each of `scales`. The network sees each resized image, and its mirror
    image if `mirror` is set, whole or in overlapping tiles. The scores of all these views are
    resized to the size of the image and averaged.
    """

    tile: Annotated[int, Between(1, 65536)] | None = None
    """Height and width of the tiles in pixels of the resized image; null for whole images. An image
    that is smaller than a tile is padded with the mean color, and its scores are cropped."""
    stride: Annotated[int, Between(1, 65536)] | None = None
    """Pixels from one tile to the next; null for two thirds of the tile. The last tile of a row or
    column is shifted inwards, so that it ends with the image."""
    scales: tuple[Annotated[float, Between(0.05, 20)], ...] = (1.0,)
    """Factors by which the image is resized."""
    mirror: bool = False
    """Also show the mirror image, left and right exchanged."""
    weights: TileWeights = "flat"
    """Weights of a tile's pixels in the average: equal, or a Gaussian of an eighth of the tile,
    which favors its center."""
    average: Average = "logits"
    """What is averaged over tiles, scales and mirror images."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "scales", tuple(map(float, self.scales)))
        require_fields(self, "protocol")
        if not self.scales:
            raise ValueError("protocol.scales must have at least one factor")
        if self.stride is not None and (self.tile is None or self.stride > self.tile):
            raise ValueError(
                f"protocol.stride must be at most tile, got {self.stride} for {self.tile}"
            )

    @property
    def step(self) -> int:
        """Pixels from one tile to the next: `stride`, or two thirds of the tile, rounded up."""
        return self.stride or math.ceil(2 * (self.tile or 1) / 3)

    def to_dict(self) -> dict[str, Any]:
        """The fields as JSON has them."""
        return asdict(self) | {"scales": list(self.scales)}

    @classmethod
    def from_dict(cls, content: Any) -> "Protocol":
        """The protocol that `to_dict` described; raises ValueError for anything else."""
        return build(cls, checked(cls, content, "protocol"), "protocol")

    def __str__(self) -> str:
        tiles = "whole image"
        if self.tile is not None:
            tiles = f"tiles {self.tile}, stride {self.step}"
            tiles += ", Gaussian weights" if self.weights == "gaussian" else ""
        scales = ""
        if self.scales != (1.0,):
            scales = f", scales {', '.join(f'{scale:g}' for scale in self.scales)}"
        mirror = ", mirrored too" if self.mirror else ""
        average = ", probabilities averaged" if self.average == "probabilities" else ""
        return f"{tiles}{scales}{mirror}{average}"


PROTOCOLS = {
    "whole": Protocol(),
    "sliding": Protocol(tile=769, stride=513),
    "multiscale": Protocol(
        tile=769, stride=513, scales=(0.75, 1.0, 1.25, 1.5, 1.75, 2.0), mirror=True
    ),
    "mmsegmentation": Protocol(
        scales=(0.5, 0.75, 1.0, 1.25, 1.5, 1.75), mirror=True, average="probabilities"
    ),
}
"""Protocols by name.

`sliding` and `multiscale` are those of the CCNet paper (section 4.2) and its authors' program,
`mmsegmentation` is that library's test-time augmentation of whole images.
"""
ProtocolName = Literal["whole", "sliding", "multiscale", "mmsegmentation"]


@dataclass(frozen=True)
class ProtocolChoice:
    """How images are shown to the network: a protocol by its name, with parts of it changed."""

    protocol: ProtocolName | None = None
    """whole; sliding, in tiles of 769 every 513 pixels; multiscale, such tiles at scales 0.75 to 2
    and mirrored too, both as in the paper; or mmsegmentation, its whole images at scales 0.5 to
    1.75 and mirrored too. Unless given, that of the model's validation, and tiles for very large
    images."""
    tile: int | None = None
    """Side of the tiles in pixels."""
    stride: int | None = None
    """Pixels from one tile to the next; two thirds of the tile unless given."""
    scales: list[float] | None = None
    """Factors by which images are resized, such as '[0.5, 1]'."""
    mirror: bool | None = None
    """Also show the mirror image."""
    weights: TileWeights | None = None
    """Weights of a tile's pixels in the average: flat, or gaussian, for its center."""
    average: Average | None = None
    """What is averaged: logits or probabilities."""

    def chosen(self) -> Protocol | None:
        """The protocol; None where nothing is asked for. Changes alone are of whole images.

        Raises:
            ValueError: the parts do not fit.
        """
        given = {key: value for key, value in vars(self).items() if value is not None}
        if not given:
            return None
        name = given.pop("protocol", "whole")
        if "tile" in given:  # the stride of the named protocol was for its own tile
            given = {"stride": None} | given
        return replace(PROTOCOLS[name], **given)


AS_VALIDATED = ProtocolChoice()
